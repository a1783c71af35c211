"""A process that is killed comes back by itself."""

from __future__ import annotations

import time

import pytest
import topology

UNITS = [
    ("airflow_webserver", "airflow-api-server"),
    ("airflow_scheduler", "airflow-scheduler"),
    ("airflow_scheduler", "airflow-dag-processor"),
    ("airflow_scheduler", "airflow-triggerer"),
    ("airflow_worker", "airflow-worker"),
    ("redis", "redis-server"),
    ("postgresql", "postgresql@15-main"),
    ("seaweedfs", "seaweedfs"),
]


@pytest.mark.parametrize(("group", "unit"), UNITS)
def test_killed_process_is_back_within_30_seconds(group: str, unit: str, connect: topology.Connect) -> None:
    host = connect(topology.members(group)[0])

    def main_process() -> str:
        return str(host.check_output(f"systemctl show -P MainPID {unit}"))

    before = main_process()
    assert before != "0"
    killed = time.monotonic()
    host.check_output(f"kill -KILL {before}")

    def is_back() -> bool:
        return main_process() not in ("0", before) and host.service(unit).is_running

    topology.wait_for(f"{unit} to be active again", is_back, 30)
    assert time.monotonic() - killed < 30
    members = host.check_output(f"cat /sys/fs/cgroup/systemd/$(systemctl show -P ControlGroup {unit})/cgroup.procs").split()
    assert before not in members


def test_cluster_is_healthy_after_all_of_that(api: topology.Api) -> None:
    def healthy() -> bool:
        health = api.call("GET", "/monitor/health")
        return all(part["status"] == "healthy" for part in health.values())

    topology.wait_for("every component's heartbeat", healthy, 120)
    run = api.trigger("example_xcom")
    api.finish("example_xcom", run)
