"""What an upgrade that was begun and not finished means for the cluster."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def units_to_resume(units: Iterable[str], components: Iterable[str]) -> list[str]:
    """Units of a host that an upgrade stops and that go on when it fails before it has changed anything.

    :param units: Airfield's units that the host has
    :param components: what the inventory runs there; those that a timer starts are not started for it
    """
    wanted = {f"airflow-{name}" for name in components if name not in ("logs", "log-retention")}
    return [unit for unit in units if unit in wanted]


def interrupted_upgrade(version: str, unchanged: bool) -> str:
    """What state a cluster is in whose upgrade failed while it was emptied or stopped, and the remedy.

    :param version: the version that it has
    :param unchanged: whether nothing was changed before
    """
    if not unchanged:
        return (
            "Airflow is stopped. Remedy: correct that and run this playbook again, or take the upgrade back with "
            "playbooks/rollback.yml."
        )
    return (
        f"Nothing was changed, and Airflow {version} runs again on the hosts that answer. Remedy: correct that and run this "
        f"playbook again; or run site.yml with -e airflow_version={version}, which starts and proves what does not run."
    )


def unfinished_problem(record: Mapping[str, Any], version: str, upgrading: bool) -> str:
    """Why a run may not go on beside an upgrade that was begun and not finished; empty where it may.

    :param record: the first scheduler's notes of it: `from`, `to` and `state`
    :param version: the inventory's version of Airflow
    :param upgrading: whether the run is an upgrade, or takes one back
    """
    state = record.get("state", "done")
    # In that state nothing of the cluster was changed, and the version before has to be able to go on.
    if upgrading or state == "done" or (state == "prepared" and version == record.get("from")):
        return ""
    return (
        f"an upgrade from {record.get('from', '')} to {record.get('to', '')} was begun and not finished. Remedy, run "
        f"playbooks/upgrade.yml again with -e airflow_version={record.get('to', '')}, or take it back with "
        f"playbooks/rollback.yml."
    )
