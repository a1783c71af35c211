"""The DAG `ledger` and the ledger understand each other, without Airflow between them."""

from __future__ import annotations

import http.client
import itertools
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ledger import Execution, Ledger

DAG = Path(__file__).parents[2] / "dags/ledger.py"
Work = Callable[..., list[Execution]]


class Task:
    """Stands in for Airflow's decorator `@task`, with and without options."""

    def __init__(self, function: Callable[..., Any] | None = None, **options: Any) -> None:
        self.function = function

    def __call__(self, function: Callable[..., Any] | None = None) -> Task | None:
        return Task(function) if function else None

    def override(self, **options: Any) -> Callable[..., None]:
        return lambda *arguments: None

    def expand(self, **arguments: Any) -> None:
        pass


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The DAG's tasks as plain functions."""
    monkeypatch.setitem(sys.modules, "airflow", SimpleNamespace())
    sdk = SimpleNamespace(DAG=lambda **options: nullcontext(), task=Task)
    monkeypatch.setitem(sys.modules, "airflow.providers.common.compat.sdk", sdk)
    names = runpy.run_path(str(DAG))
    return SimpleNamespace(plan=names["plan"].function, work=names["work"].function, once=names["once"].function)


@pytest.fixture
def work(tasks: SimpleNamespace, tmp_path: Path) -> Iterator[Work]:
    """Run one task; returns what is in the ledger then."""
    with Ledger(tmp_path / "ledger.sqlite", "127.0.0.1") as ledger:

        def work(
            seconds: float = 0, map_index: int = 0, try_number: int = 1, task: str = "work", **conf: Any
        ) -> list[Execution]:
            ti = SimpleNamespace(run_id="run", task_id=task, map_index=map_index, try_number=try_number)
            with suppress(InterruptedError):
                getattr(tasks, task)(seconds, ti=ti, dag_run=SimpleNamespace(conf={"url": ledger.url, **conf}))
            return ledger.rows()

        yield work


def durations(tasks: SimpleNamespace, **conf: Any) -> list[float]:
    """How long the tasks take, those with more tries and those with one by turns."""
    halves: list[list[float]] = [tasks.plan(part, dag_run=SimpleNamespace(conf=conf)) for part in (0, 1)]
    return [seconds for pair in itertools.zip_longest(*halves) for seconds in pair if seconds is not None]


def test_load_is_mixed_and_the_same_for_the_same_seed(tasks: SimpleNamespace) -> None:
    planned = durations(tasks, short=300, long=20, seed=1)
    assert [index for index, seconds in enumerate(planned) if seconds > 1] == list(range(0, 320, 16))
    assert planned.count(1) == 300
    assert all(30 <= seconds <= 120 for seconds in planned if seconds != 1)
    assert planned == durations(tasks, short=300, long=20, seed=1)
    assert planned != durations(tasks, short=300, long=20, seed=2)


def test_load_takes_as_long_as_conf_says(tasks: SimpleNamespace) -> None:
    planned = durations(tasks, short=3, long=1, seed=1, short_seconds=0, long_seconds=[5, 6])
    assert planned[1:] == [0, 0, 0]
    assert 5 <= planned[0] <= 6
    assert durations(tasks, short=2, long=0, seed=1) == [1, 1]


def test_task_is_in_the_ledger_from_start_to_end(work: Work) -> None:
    (row,) = work(map_index=7, try_number=2)
    assert (row.of, row.try_number, row.seconds) == (("run", "work", 7), 2, 0)
    assert row.ended is not None
    first, second = work()
    assert first.uuid != second.uuid


@pytest.mark.parametrize(
    ("task", "map_index", "try_number", "taken"),
    [("work", 0, 1, 2), ("work", 1, 1, None), ("work", 0, 2, None), ("once", 0, 1, None)],
)
def test_only_the_first_try_of_the_first_task_is_greedy(
    work: Work, capsys: pytest.CaptureFixture[str], task: str, map_index: int, try_number: int, taken: int | None
) -> None:
    work(task=task, map_index=map_index, try_number=try_number, greedy_mb=2)
    assert ("took 2 MB" in capsys.readouterr().out) is (taken is not None)


def test_interrupted_task_has_no_end(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise InterruptedError

    monkeypatch.setattr(time, "sleep", interrupt)
    assert [row.ended for row in work()] == [None]


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), http.client.RemoteDisconnected("")])
def test_ledger_that_does_not_answer_is_waited_for(work: Work, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failures = [error, error]
    slept: list[float] = []
    connect = http.client.HTTPConnection.connect

    def fail_first(connection: http.client.HTTPConnection) -> None:
        if failures:
            raise failures.pop()
        connect(connection)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", fail_first)
    monkeypatch.setattr(time, "sleep", slept.append)
    assert [row.ended is None for row in work()] == [False]
    assert slept == [1, 1, 0]


def test_ledger_that_never_answers_fails_the_task(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)

    def fail(connection: http.client.HTTPConnection) -> None:
        raise ConnectionRefusedError

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(http.client.HTTPConnection, "connect", fail)
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    with pytest.raises(ConnectionRefusedError):
        work()
    assert clock.now == 121


def test_refusal_of_the_ledger_fails_the_task(work: Work) -> None:
    with pytest.raises(RuntimeError, match=r"start refused: CHECK constraint failed"):
        work(try_number=0)
