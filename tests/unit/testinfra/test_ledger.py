from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import ledger
import pytest
import topology
from ledger import Execution, Ledger, Load, Table, Verdict, judge

ONE = {("run", "work", 0)}


def execution(**what: Any) -> Execution:
    row: dict[str, Any] = {"uuid": "a", "run": "run", "task": "work", "map_index": 0, "try_number": 1, "host": "worker1"}
    return Execution(**{**row, "seconds": 1.0, "started": 10.0, "beat": 12.0, "ended": 20.0, **what})


def verdict(**numbers: int) -> Verdict:
    return Verdict(**{"expected": 1, "ended": 1, "lost": 0, "doubled": 0, "retried": 0, "killed": 0, "unstarted": 0, **numbers})


@pytest.mark.parametrize(
    ("executions", "expected"),
    [
        pytest.param([execution()], verdict(), id="well"),
        pytest.param([], verdict(ended=0, lost=1), id="never started"),
        pytest.param([execution(ended=None)], verdict(ended=0, lost=1), id="never ended"),
        pytest.param(
            [execution(ended=None), execution(started=13.0, try_number=2)], verdict(retried=1), id="killed, then tried again"
        ),
        pytest.param(
            [execution(ended=None, beat=14.0), execution(started=13.0, try_number=2)],
            verdict(doubled=1, retried=1),
            id="thought dead, but its heart went on",
        ),
        pytest.param(
            [execution(), execution(started=19.0, try_number=2)], verdict(doubled=1, retried=1), id="at the same time"
        ),
        pytest.param([execution(), execution(started=21.0, try_number=2)], verdict(retried=1), id="tried again after its end"),
        pytest.param([execution(), execution(started=21.0, ended=30.0)], verdict(doubled=1), id="one try, twice"),
        pytest.param(
            [execution(ended=50.0), execution(started=12.0, ended=13.0, try_number=2), execution(started=40.0, try_number=3)],
            verdict(doubled=1, retried=1),
            id="twice the same one counts once",
        ),
        pytest.param([execution(), execution(run="other", try_number=2)], verdict(), id="somebody else's"),
        pytest.param([execution(try_number=2)], verdict(retried=1, unstarted=1), id="first try never began"),
        pytest.param(
            [execution(ended=None), execution(started=13.0, try_number=3)],
            verdict(retried=1, unstarted=1),
            id="second try never began",
        ),
    ],
)
def test_verdict(executions: list[Execution], expected: Verdict) -> None:
    assert judge(executions, ONE) == expected


@pytest.mark.parametrize(
    ("executions", "expected"),
    [
        pytest.param([], verdict(ended=0, lost=1), id="never began"),
        pytest.param([execution(task="once", ended=None)], verdict(ended=0, killed=1), id="killed in its only try"),
        pytest.param([execution(task="once")], verdict(), id="well"),
    ],
)
def test_verdict_on_a_task_with_one_try(executions: list[Execution], expected: Verdict) -> None:
    assert judge(executions, {("run", "once", 0)}) == expected


def test_each_task_is_judged_by_itself() -> None:
    expected = {("run", "work", index) for index in range(4)}
    executions = [execution(map_index=index, try_number=index + 1) for index in range(3)]
    assert judge(executions, expected) == verdict(expected=4, ended=3, lost=1, retried=2, unstarted=2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    fake = SimpleNamespace(now=100.0)
    fake.time = fake.monotonic = lambda: fake.now
    monkeypatch.setattr(ledger, "time", fake)
    return fake


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "output/ledger.sqlite", "127.0.0.1") as running:
        yield running


def post(book: Ledger, path: str, body: str, **headers: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(book.url).netloc, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def start(uuid: str = "a", **what: Any) -> str:
    row = {"uuid": uuid, "run": "run", "task": "work", "map_index": 0, "try_number": 1, "host": "worker1", "seconds": 1}
    return json.dumps({**row, **what})


def test_times_are_the_ledgers(book: Ledger, clock: SimpleNamespace) -> None:
    for clock.now, event in enumerate(("start", "beat"), 100):
        assert post(book, f"/{event}", start(now=1)) == 204
    assert [(row.started, row.beat, row.ended, row.until) for row in book.rows()] == [(100, 101, None, 101)]
    clock.now = 102
    assert post(book, "/end", start()) == 204
    assert [(row.started, row.beat, row.ended, row.until) for row in book.rows()] == [(100, 102, 102, 102)]


def test_an_event_that_comes_again_changes_nothing(book: Ledger, clock: SimpleNamespace) -> None:
    for clock.now, event in enumerate(("start", "start", "end", "end"), 100):
        assert post(book, f"/{event}", start()) == 204
    assert [(row.started, row.ended) for row in book.rows()] == [(100, 102)]


def test_a_heartbeat_that_comes_late_does_not_move_the_end(book: Ledger, clock: SimpleNamespace) -> None:
    for clock.now, event in enumerate(("start", "end", "beat"), 100):
        assert post(book, f"/{event}", start()) == 204
    assert [row.until for row in book.rows()] == [101]


def test_many_at_the_same_time(book: Ledger) -> None:
    def live(index: int) -> list[int]:
        return [post(book, path, start(str(index), map_index=index)) for path in ("/start", "/beat", "/end")]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(live, range(160))) == [[204] * 3] * 160
    expected = {("run", "work", index) for index in range(160)}
    assert book.verdict(expected) == verdict(expected=160, ended=160)
    assert [row.started for row in book.rows()] == sorted(row.started for row in book.rows())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/start", ""),
        ("/start", "{"),
        ("/start", "[]"),
        ("/start", '"text"'),
        ("/start", "{}"),
        ("/start", start(run=None)),
        ("/start", start(map_index="x")),
        ("/start", start(map_index=[1])),
        ("/start", start(try_number=0)),
        ("/beat", start("unknown")),
        ("/end", start("unknown")),
        ("/finish", start()),
        ("/", start()),
    ],
)
def test_malformed_is_refused(book: Ledger, path: str, body: str) -> None:
    assert post(book, "/start", start("before", host="worker2")) == 204
    before = book.rows()
    assert post(book, path, body) == 400
    assert book.rows() == before


def test_length_that_is_none_is_refused(book: Ledger) -> None:
    assert post(book, "/start", start(), **{"Content-Length": "x"}) == 400


def test_file_begins_anew_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for uuid in ("a", "b"):
        with Ledger(path, "127.0.0.1") as book:
            post(book, "/start", start(uuid))
            assert [row.uuid for row in book.rows()] == [uuid]
    assert path.stat().st_size > 0


class Cluster:
    """Stands in for Airflow: remembers the runs that were started, and has them all in one state."""

    def __init__(self) -> None:
        self.confs: list[dict[str, Any]] = []
        self.answer = "success"

    def trigger(self, dag: str, **conf: Any) -> str:
        assert dag == "ledger"
        self.confs.append(conf)
        return f"run{len(self.confs)}"

    def state(self, dag: str, run: str) -> str:
        return self.answer


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def load(book: Ledger, cluster: Cluster) -> Load:
    return Load(book, cluster, seed=7, conf={"long_seconds": [30, 40]})  # type: ignore[arg-type]


def do(load: Load, count: int) -> None:
    """End so many of the tasks that have not."""
    for run, task, index in sorted(load.unended())[:count]:
        for event in ("start", "end"):
            load.ledger.record(event, json.loads(start(f"{run}-{task}-{index}", run=run, task=task, map_index=index)))


def test_load_expects_what_it_has_started(load: Load, cluster: Cluster) -> None:
    load.add(short=2, long=1)
    load.add(short=0, long=1, greedy_mb=5)
    assert load.expected == {("run1", "work", 0), ("run1", "once", 0), ("run1", "work", 1), ("run2", "work", 0)}
    common = {"url": load.ledger.url, "long": 1, "long_seconds": [30, 40]}
    assert cluster.confs == [{**common, "short": 2, "seed": 7}, {**common, "short": 0, "seed": 8, "greedy_mb": 5}]


def test_load_knows_what_runs_where(load: Load) -> None:
    load.add(short=2, long=1)
    assert load.running() is None
    load.ledger.record("start", json.loads(start("x", run="run1", map_index=0, seconds=40)))
    load.ledger.record("start", json.loads(start("y", run="run1", task="once", map_index=0, host="worker2")))
    load.ledger.record("start", json.loads(start("z", run="another", map_index=0, seconds=99)))
    long, short = load.running(30), load.running()
    assert long is not None
    assert short is not None
    assert (long.uuid, long.host) == ("x", "worker1")
    assert load.starts("worker2", since=0) == 1
    assert load.starts("worker2", since=load.executions()[-1].started) == 0
    load.ledger.record("end", {"uuid": "x"})
    assert load.running(30) is None
    assert load.unended() == {("run1", "once", 0), ("run1", "work", 1)}


def test_load_is_kept_up_while_something_is_waited_for(load: Load, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    load.add(short=ledger.ENOUGH, long=0)
    answers = iter(["", "", "done"])

    def wait(what: str, check: Any, timeout: float, pause: float) -> Any:
        assert not check()
        assert len(cluster.confs) == 1
        do(load, 1)
        assert not check()
        assert len(cluster.confs) == 2
        return check()

    monkeypatch.setattr(topology, "wait_for", wait)
    assert load.wait_until("something", lambda: next(answers), 1) == "done"
    assert len(cluster.confs) == 2
    assert len(load.expected) == ledger.ENOUGH + 32


def test_load_is_kept_up_while_a_playbook_runs(load: Load, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for = topology.wait_for

    def run(*command: str, check: bool) -> CompletedProcess[str]:
        wait_for("more to do", lambda: cluster.confs, 10, 0.01)
        return CompletedProcess(command, int(check))

    monkeypatch.setattr(topology, "run", run)
    monkeypatch.setattr(topology, "wait_for", lambda what, check, timeout, pause: wait_for(what, check, timeout, 0.01))
    done = load.during("site.yml", "--check")
    assert done.args == ("ansible-playbook", "--inventory", str(topology.INVENTORY), "site.yml", "--check")
    assert done.returncode == 0


def test_verdict_waits_for_airflow_and_for_what_lives(
    load: Load, cluster: Cluster, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load.add(short=4, long=0)
    cluster.answer = "running"

    def wait(what: str, over: Any, timeout: float, pause: float) -> None:
        do(load, 3)
        assert not over()
        ((run, task, index),) = load.unended()
        load.ledger.record("start", json.loads(start("last", run=run, task=task, map_index=index)))
        cluster.answer = "failed"
        assert not over(), "it lives"
        clock.now += ledger.SILENT
        assert over()

    monkeypatch.setattr(topology, "wait_for", wait)
    verdict = load.verdict()
    assert (verdict.expected, verdict.ended, verdict.lost + verdict.killed) == (4, 3, 1)


def test_verdict_waits_no_longer_than_it_is_told(
    load: Load, cluster: Cluster, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.answer = "running"
    load.add(short=2, long=0)
    do(load, 1)

    def wait(what: str, over: Any, timeout: float, pause: float) -> None:
        clock.now += 60
        assert not over()
        clock.now += 1
        assert over()

    monkeypatch.setattr(topology, "wait_for", wait)
    assert load.verdict(timeout=60) == verdict(expected=2, ended=1, lost=1)


def test_table_is_written_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda pattern: "today")
    table = Table(tmp_path / "ledger.md")
    table.add("one", 3, verdict(retried=1))
    assert table.path.read_text().splitlines() == [
        "| scenario | date | seed | expected | ended | lost | doubled | retried | killed | unstarted |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| one | today | 3 | 1 | 1 | 0 | 0 | 1 | 0 | 0 |",
    ]
    table.add("two | three", 3, verdict())
    assert table.path.read_text().endswith("| 0 |\n| two \\| three | today | 3 | 1 | 1 | 0 | 0 | 0 | 0 | 0 |\n")
