from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan.web_server import plan

AIRFLOW_3 = {
    "api-server": {"group": "airflow_webserver", "memory_mb": 250, "process_mb": 250, "workers": "AIRFLOW__API__WORKERS"},
    "scheduler": {"group": "airflow_scheduler", "memory_mb": 200},
    "worker": {"group": "airflow_worker", "memory_mb": 350},
}
AIRFLOW_2 = {
    **AIRFLOW_3,
    "webserver": {"group": "airflow_webserver", "memory_mb": 350, "workers": "AIRFLOW__WEBSERVER__WORKERS"},
}


def planned(memory_mb: int, cpus: int = 8, names: str = "api-server", workers: int = 0, **options: Any) -> Any:
    components: Any = AIRFLOW_2 if "webserver" in names.split() else AIRFLOW_3
    return plan(components, names.split(), {"cpus": cpus, "memory_mb": memory_mb}, 4, options, workers, "")


@pytest.mark.parametrize(
    ("memory_mb", "cpus", "workers", "memory_max"),
    [
        (64000, 16, 4, "4096M"),
        (64000, 2, 2, "2048M"),
        (64000, 1, 1, "1024M"),
        # A process more would not fit.
        (700, 4, 2, "1024M"),
        (400, 4, 1, "512M"),
        (100, 4, 1, "512M"),
    ],
)
def test_processes_follow_cpus_and_memory(memory_mb: int, cpus: int, workers: int, memory_max: str) -> None:
    web = planned(memory_mb, cpus)
    assert web["environment"] == {"AIRFLOW__API__WORKERS": str(workers)}
    assert (web["memory_max"], web["needed_mb"]) == (memory_max, 250 * workers)


def test_other_components_of_the_host_come_first() -> None:
    # 250 + 200 + 350 + 4 tasks of 60
    assert planned(1040, names="api-server scheduler worker")["environment"] == {"AIRFLOW__API__WORKERS": "1"}
    web = planned(1300, names="api-server scheduler worker")
    assert (web["environment"], web["needed_mb"]) == ({"AIRFLOW__API__WORKERS": "2"}, 1290)
    # What is left: 1300 MB without 200 of the scheduler and 590 of the worker. Half a gigabyte for each is the least.
    assert web["memory_max"] == "1024M"
    assert planned(4000, cpus=2, names="api-server scheduler worker")["memory_max"] == "2048M"


def test_operators_number_wins_however_it_is_given() -> None:
    assert planned(64000, workers=7)["environment"] == {"AIRFLOW__API__WORKERS": "7"}
    assert planned(64000, api={"workers": "6"})["environment"] == {"AIRFLOW__API__WORKERS": "6"}
    assert planned(64000, workers=7, api={"workers": 6})["needed_mb"] == 7 * 250
    # More than there is room for is the precheck's to refuse.
    assert planned(500, workers=7)["needed_mb"] == 7 * 250


def test_airflow_2_keeps_its_own_number_unless_it_is_told() -> None:
    web = planned(64000, names="webserver")
    assert web == {"environment": {}, "memory_max": "4096M", "needed_mb": 350}
    web = planned(64000, names="webserver", webserver={"workers": 2})
    assert web == {"environment": {"AIRFLOW__WEBSERVER__WORKERS": "2"}, "memory_max": "2048M", "needed_mb": 350}


def test_host_without_a_web_server_has_none_to_plan() -> None:
    assert planned(64000, names="worker") == {"environment": {}, "memory_max": "", "needed_mb": 350 + 240}


def test_operators_limit_wins() -> None:
    host = {"cpus": 2, "memory_mb": 4000}
    assert plan(AIRFLOW_3, ["api-server"], host, 4, {}, 0, "infinity")["memory_max"] == "infinity"
