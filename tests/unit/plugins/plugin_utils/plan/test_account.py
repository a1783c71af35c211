from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import account

WANTED = account.Account("airflow", "airflow", 50000, 50000)
HOME = {"user": "airflow", "uid": 50000, "group": "airflow", "gid": 50000}
FREE: dict[str, Any] = {"user": {}, "uid": "", "group": None, "gid": "", "home": {}}
OURS = {"uid": 50000, "gid": 50000, "shell": "/usr/sbin/nologin", "home": "/var/lib/airflow"}
PERSON = {**OURS, "shell": "/bin/bash", "home": "/home/airflow"}


def find(
    ids: dict[str, Any], wanted: account.Account = WANTED, installed: bool = False, taken: tuple[str, ...] = ()
) -> list[str]:
    facts: dict[str, Any] = {"ids": {**FREE, **ids}, "current": "3.3.2-x" if installed else "", "units": []}
    return account.find_problems(facts, wanted, taken)


@pytest.mark.parametrize(
    "ids",
    [
        {},
        {"user": OURS, "uid": "airflow", "group": 50000, "gid": "airflow"},
        # Left by a run that was killed between the group and the user.
        {"group": 50000, "gid": "airflow"},
        # Somebody made the account before, for us.
        {"user": {**OURS, "home": "/nonexistent"}, "uid": "airflow"},
        # Not ours to look at: no release is here.
        {"home": {**HOME, "uid": 1234, "user": "other"}},
    ],
)
def test_account_that_is_free_or_ours_is_made(ids: dict[str, Any]) -> None:
    assert find(ids) == []


@pytest.mark.parametrize(
    ("ids", "told", "remedy"),
    [
        ({"uid": "batch"}, "variable airflow_uid is 50000, which belongs to user batch here", "set airflow_uid to a number"),
        ({"gid": "staff"}, "variable airflow_gid is 50000, which belongs to group staff here", "set airflow_gid to a number"),
        ({"group": 998}, "group airflow is there with gid 998, variable airflow_gid is 50000", "set airflow_gid to 998"),
        ({"user": {**OURS, "uid": 999}}, "user airflow is there with uid 999", "set airflow_uid to 999"),
        (
            {"user": PERSON, "uid": "airflow"},
            "people log in (shell /bin/bash, home /home/airflow)",
            "airflow_take_over: [airflow]",
        ),
    ],
)
def test_account_of_others_is_refused_by_name(ids: dict[str, Any], told: str, remedy: str) -> None:
    (problem,) = find(ids)
    assert told in problem
    assert remedy in problem.partition("Remedy: ")[2]


def test_account_of_a_person_is_taken_where_the_operator_says_so() -> None:
    assert find({"user": PERSON, "uid": "airflow"}, taken=("airflow",)) == []


def test_several_conflicts_are_told_together() -> None:
    assert len(find({"uid": "batch", "gid": "staff", "group": 998, "user": {**OURS, "uid": 999}})) == 4


@pytest.mark.parametrize(
    ("changed", "variable", "old"),
    [
        ({"uid": 2001}, "airflow_uid", "50000"),
        ({"gid": 3005}, "airflow_gid", "50000"),
        ({"user": "etl"}, "airflow_user", "airflow"),
        ({"group": "etl"}, "airflow_group", "airflow"),
    ],
)
def test_account_of_a_running_cluster_stays(changed: dict[str, Any], variable: str, old: str) -> None:
    wanted = account.Account(**{**vars(WANTED), **changed})
    (problem,) = find({"home": HOME}, wanted, installed=True)
    (new,) = changed.values()
    assert problem.startswith(f"variable {variable} is {new}, but Airflow is on this host with {old}")
    assert f"set it back to {old}. " in problem
    assert f"groupmod --new-name {wanted.group} --gid {wanted.gid} airflow" in problem


def test_account_that_is_as_it_was_passes_on_a_running_cluster() -> None:
    assert find({"home": HOME, "user": OURS}, installed=True) == []


def test_number_without_a_name_is_told_by_its_number() -> None:
    (problem,) = find({"home": {"user": "", "uid": 1001, "group": "airflow", "gid": 50000}}, installed=True)
    assert "variable airflow_uid is 50000, but Airflow is on this host with 1001" in problem


@pytest.mark.parametrize("values", [{"airflow_uid": "many"}, {"airflow_gid": None}, {"airflow_gid": [1]}])
def test_mistyped_numbers_are_told_elsewhere(values: dict[str, Any]) -> None:
    assert account.read_wanted(values) is None


def test_account_has_the_defaults_of_the_role() -> None:
    assert account.read_wanted({}) == WANTED
    assert account.read_wanted({"airflow_uid": "2001"}) == account.Account("airflow", "airflow", 2001, 50000)


def test_groups_from_elsewhere_are_warned_of() -> None:
    (warning,) = account.unnamed_groups("airflow", ["docker"])
    assert warning.startswith("user airflow is also in group docker, which airflow_groups does not name; it stays.")


def test_account_is_what_the_variables_say() -> None:
    assert account.read_wanted(account.variables(WANTED)) == WANTED
