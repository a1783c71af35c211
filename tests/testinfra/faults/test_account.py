"""Nothing of Airflow's starts with a configuration that it cannot read: it would run with its own defaults, without a word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import topology
from testinfra.host import Host

REASON = "/etc/airflow/airflow.cfg cannot be read by user airflow"
SCHEDULER = topology.members("airflow_scheduler")[0]


@pytest.fixture
def unreadable(connect: topology.Connect) -> Iterator[Host]:
    """The first scheduler's host, with an airflow.cfg for another group."""
    host = connect(SCHEDULER)
    host.check_output("chgrp root /etc/airflow/airflow.cfg")
    yield host
    host.check_output("chgrp airflow /etc/airflow/airflow.cfg")
    host.check_output("systemctl reset-failed 'airflow-*'; systemctl restart airflow-logs.service")
    topology.wait_for("the triggerer", lambda: host.service("airflow-triggerer").is_running)


def test_unit_says_why_it_does_not_start(unreadable: Host) -> None:
    assert unreadable.run("systemctl restart airflow-triggerer").rc != 0
    journal = unreadable.check_output("journalctl --unit=airflow-triggerer --lines=20 --output=cat")
    assert REASON in journal
    assert "Remedy: run site.yml" in journal


def test_unit_of_a_timer_says_why_it_does_not_start(unreadable: Host) -> None:
    assert unreadable.run("systemctl start airflow-logs").rc != 0
    assert REASON in unreadable.check_output("journalctl --unit=airflow-logs --lines=20 --output=cat")


def test_command_line_says_why_it_does_not_start(unreadable: Host) -> None:
    run = unreadable.run("airflow version")
    assert run.rc != 0
    assert REASON in run.stderr
