"""A component whose process is there and does nothing is restarted by its host; one that only waits for others is not."""

from __future__ import annotations

import pytest
import topology
from testinfra.host import Host

WATCHDOG = "/opt/airflow/current/bin/python /usr/local/lib/airfield/airfield_watchdog.py"
WEB = f"airflow-{topology.this_series().web}"
UNITS = {"airflow-scheduler": "airflow_scheduler", WEB: "airflow_webserver"}


def main_process(host: Host, unit: str) -> str:
    return str(host.check_output(f"systemctl show -P MainPID {unit}"))


@pytest.mark.parametrize("unit", UNITS)
def test_timer_looks_after_every_component(unit: str, connect: topology.Connect) -> None:
    host = connect(topology.members(UNITS[unit])[0])
    assert host.check_output("systemctl is-active airfield-watchdog.timer") == "active"
    assert "airfield-watchdog.timer" in host.check_output(f"systemctl show -P Wants {unit}")
    # The timer had its turn, and nothing was wrong with it.
    assert host.check_output("systemctl show -P Result airfield-watchdog.service") == "success"


def test_frozen_scheduler_is_back_within_two_minutes(connect: topology.Connect) -> None:
    host = connect(topology.members("airflow_scheduler")[0])
    before = main_process(host, "airflow-scheduler")
    host.check_output("systemctl kill --signal=STOP airflow-scheduler")

    def is_back() -> bool:
        now = main_process(host, "airflow-scheduler")
        return now not in ("0", before) and host.service("airflow-scheduler").is_running

    topology.wait_for("the watchdog to restart the scheduler", is_back, 150)
    said = host.check_output("journalctl -u airfield-watchdog --since=-5min -o cat --no-pager")
    assert "Restarting airflow-scheduler: a signal has stopped its main process" in said
