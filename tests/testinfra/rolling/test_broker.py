"""Redis away for long, and a backlog: no task with one try is failed for it, and none is lost, under load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import topology
from broker import Fault, assert_due_tasks_wait, cut_off, frozen, full, pass_by, read_only, stopped
from ledger import Judge, Load

REDIS = topology.members("redis")[0]
WORKERS = topology.members("airflow_worker")


@pytest.mark.parametrize("seconds", [100, 1200])
@pytest.mark.parametrize("fault", [stopped, frozen, full, read_only, cut_off])
def test_broker_away_under_load(fault: Fault, seconds: int, load: Load, judge: Judge, connect: topology.Connect) -> None:
    load.add(short=60, long=4)
    topology.wait_for("a task to run", load.running, 240)
    with fault(connect(REDIS)):
        pass_by(seconds)
    verdict = judge(f"Redis {fault.__name__.replace('_', ' ')} for {seconds} s", load, timeout=1500)
    assert verdict.is_clean(), verdict
    for name in WORKERS:
        assert connect(name).service("airflow-worker").is_running


@pytest.mark.parametrize("fault", [frozen, read_only, cut_off])
@pytest.mark.usefixtures("dags")
def test_due_tasks_wait(fault: Fault, api: topology.Api, connect: topology.Connect) -> None:
    assert_due_tasks_wait(api, connect(REDIS), fault, 100, [connect(name) for name in WORKERS])


@pytest.fixture
def many_waiting() -> Iterator[None]:
    """All tasks of the backlog are sent, and wait in their queue."""
    variables: dict[str, Any] = {"airflow_parallelism": 64}
    assert topology.playbook(*[f"--extra-vars={name}={value}" for name, value in variables.items()]).returncode == 0
    yield
    assert topology.playbook().returncode == 0


@pytest.mark.usefixtures("many_waiting")
def test_backlog_fails_no_task(load: Load, judge: Judge) -> None:
    """Three times as many tasks as slots, each of which outlasts what was three times ten minutes of waiting."""
    slots = len(WORKERS) * int(topology.variable("airflow_worker_concurrency", 16))
    load.add(short=0, long=3 * slots, long_seconds=[1000, 1001])
    verdict = judge("a backlog of tasks of 17 minutes", load, timeout=4000)
    assert verdict.is_clean(), verdict
