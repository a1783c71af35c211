from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible.template import trust_as_template
from ansible_collections.airfield.metal.plugins.action import airflow_values


class HostVars(dict[str, Any]):
    """As much of Ansible's as the plugin uses."""

    def raw_get(self, host: str) -> Any:
        return self[host]


@pytest.fixture
def run(make_action: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """What comes of host `worker1`, whose inventory has these variables."""

    def run(**variables: Any) -> dict[str, Any]:
        action = make_action(airflow_values, {}, variables=variables)
        task_vars = {
            **variables,
            "inventory_hostname": "worker1",
            "group_names": ["airflow", "airflow_worker"],
            "groups": {"airflow_scheduler": ["worker1"]},
            "hostvars": HostVars(worker1=variables),
        }
        result: dict[str, Any] = action.run(task_vars=task_vars)
        assert result["changed"] is False
        return result

    return run


def test_values_that_are_merely_wrong_wait_for_the_rest(run: Callable[..., dict[str, Any]]) -> None:
    result = run(airflow_uid=0, airflow_uidd=1, airflow_umask=18, airflow_backup_schedule="daily")
    assert result["problems"] == []
    assert result["probes"]["calendars"] == {"airflow_backup_schedule": "daily"}


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"airflow_broker": "redis.example.org"}, "variable airflow_broker is "),
        ({"airflow_database": {"port": "abc"}}, "variable airflow_database: "),
        ({"airflow_connections": {"a": 1}}, "variable airflow_connections has a value of another kind"),
        ({"airflow_config": {"logging": {"x": trust_as_template("{{ ti.dag_id }}")}}}, "write !unsafe before the text"),
    ],
)
def test_values_that_no_template_can_work_with_are_told_with_the_others(
    run: Callable[..., dict[str, Any]], variables: dict[str, Any], problem: str
) -> None:
    problems = run(**variables, airflow_uidd=1)["problems"]
    assert any(problem in text for text in problems)
    assert any("airflow_uidd is not one of Airfield's" in text for text in problems)


def test_lookups_of_secrets_are_left_alone(run: Callable[..., dict[str, Any]]) -> None:
    assert run(airflow_connections=trust_as_template("{{ nothing }}"))["problems"] == []
