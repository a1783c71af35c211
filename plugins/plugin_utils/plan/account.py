"""Whether Airflow's account can be on a host as the inventory wants it, without taking anything from what is there."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

HOME = "/var/lib/airflow"
NO_LOGIN = ("nologin", "false", "sync", "")


@dataclass(frozen=True)
class Account:
    """A user with its primary group."""

    user: str
    group: str
    uid: int
    gid: int


def read_wanted(values: Mapping[str, Any]) -> Account | None:
    """The account that the inventory wants; None where a value is none, which is told elsewhere."""
    try:
        return Account(
            str(values.get("airflow_user", "airflow")),
            str(values.get("airflow_group", "airflow")),
            int(values.get("airflow_uid", 50000)),
            int(values.get("airflow_gid", 50000)),
        )
    except (TypeError, ValueError):
        return None


def variables(wanted: Account) -> dict[str, Any]:
    """The inventory's variables that say it."""
    return {f"airflow_{name}": value for name, value in asdict(wanted).items()}


def find_problems(facts: Mapping[str, Any], wanted: Account, taken_over: Collection[str]) -> list[str]:
    """Why the account must not be made or changed on a host, one sentence each with the remedy.

    :arg facts: those of module airflow_info, with `ids`.
    :arg taken_over: what the operator lets Airfield take over (airflow_take_over).
    """
    ids = facts["ids"]
    if ids["home"] and (facts["current"] or facts["units"]):
        return changed_account(ids["home"], wanted)
    return conflicts(ids, wanted, taken_over)


def changed_account(present: Mapping[str, Any], wanted: Account) -> list[str]:
    """Processes and files of a running cluster belong to an account: another one would not read them."""
    problems = []
    commands = change_commands(present, wanted)
    for variable, old, new in (
        ("airflow_user", present["user"], wanted.user),
        ("airflow_group", present["group"], wanted.group),
        ("airflow_uid", present["uid"], wanted.uid),
        ("airflow_gid", present["gid"], wanted.gid),
    ):
        # A number whose name is gone is told by its number alone.
        if old not in ("", new):
            problems.append(
                f"variable {variable} is {new}, but Airflow is on this host with {old}, and its files would be unreadable. "
                f"Remedy: set it back to {old}. To change it, drain and stop Airflow on all hosts, run there as root: "
                f"{commands}; then run site.yml."
            )
    return problems


def change_commands(present: Mapping[str, Any], wanted: Account) -> str:
    """What gives the account, and what belongs to it, other names and numbers."""
    user, group = present["user"] or wanted.user, present["group"] or wanted.group
    folders = f"{HOME} /var/log/airflow /etc/airflow /opt/airflow"
    return " && ".join(
        [
            "systemctl stop 'airflow-*'",
            f"groupmod --new-name {wanted.group} --gid {wanted.gid} {group}",
            f"usermod --login {wanted.user} --uid {wanted.uid} --gid {wanted.gid} {user}",
            f"find {folders} -uid {present['uid']} -exec chown -h {wanted.uid} '{{}}' +",
            f"find {folders} -gid {present['gid']} -exec chgrp -h {wanted.gid} '{{}}' +",
        ]
    )


def conflicts(ids: Mapping[str, Any], wanted: Account, taken_over: Collection[str]) -> list[str]:
    """Accounts of others on a host where Airflow is not yet."""
    problems = []
    user = ids["user"]
    if user and user["uid"] != wanted.uid:
        problems.append(
            f"user {wanted.user} is there with uid {user['uid']}, variable airflow_uid is {wanted.uid}. Remedy: set "
            f"airflow_uid to {user['uid']} for all hosts if it is Airflow's account, or choose another airflow_user."
        )
    elif user and wanted.user not in taken_over and is_for_people(user):
        problems.append(
            f"user {wanted.user} is an account with which people log in (shell {user['shell']}, home {user['home']}), and "
            f"would lose that. Remedy: choose another airflow_user, with another airflow_uid; or let Airfield have it: "
            f"airflow_take_over: [{wanted.user}]."
        )
    if ids["uid"] not in ("", wanted.user):
        problems.append(
            f"variable airflow_uid is {wanted.uid}, which belongs to user {ids['uid']} here. Remedy: set airflow_uid to a "
            f"number that is free on all hosts, or set airflow_user to {ids['uid']} if that is Airflow's account."
        )
    if ids["group"] is not None and ids["group"] != wanted.gid:
        problems.append(
            f"group {wanted.group} is there with gid {ids['group']}, variable airflow_gid is {wanted.gid}. Remedy: set "
            f"airflow_gid to {ids['group']} for all hosts if it is Airflow's group, or choose another airflow_group."
        )
    if ids["gid"] not in ("", wanted.group):
        problems.append(
            f"variable airflow_gid is {wanted.gid}, which belongs to group {ids['gid']} here. Remedy: set airflow_gid to a "
            f"number that is free on all hosts, or set airflow_group to {ids['gid']}."
        )
    return problems


def is_for_people(user: Mapping[str, Any]) -> bool:
    """Whether somebody can log in to an account that was not made for Airflow."""
    return user["home"] != HOME and str(user["shell"]).rpartition("/")[2] not in NO_LOGIN


def unnamed_groups(user: str, groups: Iterable[str]) -> list[str]:
    """Warnings of groups that the account has and the inventory does not name: its processes have them, too."""
    return [
        f"user {user} is also in group {group}, which airflow_groups does not name; it stays. Name it there, or take it away: "
        f"`gpasswd --delete {user} {group}`."
        for group in groups
    ]
