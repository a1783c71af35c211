from __future__ import annotations

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan.upgrade import (
    interrupted_upgrade,
    unfinished_problem,
    units_to_resume,
)

RECORD = {"from": "2.11.2", "to": "3.3.2"}


def test_components_go_on_and_what_a_timer_starts_waits_for_it() -> None:
    units = ["airfield-backup", "airflow-logs", "airflow-mine", "airflow-scheduler", "airflow-worker"]
    assert units_to_resume(units, ["scheduler", "worker", "logs", "triggerer"]) == ["airflow-scheduler", "airflow-worker"]


@pytest.mark.parametrize("state", ["stopped", "migrating", "migrated"])
def test_cluster_that_was_changed_is_for_the_upgrade_alone(state: str) -> None:
    problem = unfinished_problem({**RECORD, "state": state}, "2.11.2", upgrading=False)
    assert "an upgrade from 2.11.2 to 3.3.2 was begun and not finished. Remedy, run playbooks/upgrade.yml again" in problem
    assert unfinished_problem({**RECORD, "state": state}, "3.3.2", upgrading=True) == ""


def test_cluster_that_was_not_changed_yet_can_be_healed_with_the_version_that_it_has() -> None:
    assert unfinished_problem({**RECORD, "state": "prepared"}, "2.11.2", upgrading=False) == ""
    assert unfinished_problem({**RECORD, "state": "prepared"}, "3.3.2", upgrading=False) != ""


def test_finished_upgrade_is_no_problem() -> None:
    assert unfinished_problem({}, "3.3.2", upgrading=False) == ""
    assert unfinished_problem({**RECORD, "state": "done"}, "3.3.2", upgrading=False) == ""


def test_state_of_the_cluster_is_named_with_the_remedy() -> None:
    assert "Airflow 2.11.2 runs again on the hosts that answer" in interrupted_upgrade("2.11.2", unchanged=True)
    assert "site.yml with -e airflow_version=2.11.2" in interrupted_upgrade("2.11.2", unchanged=True)
    assert "rollback.yml" in interrupted_upgrade("2.11.2", unchanged=False)
