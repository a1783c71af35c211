"""A ledger of task runs that is not Airflow's: which tasks were lost, which ran twice, which were tried again.

The DAG `ledger` (tests/dags) posts to it from the workers, so it outlives whatever happens to the cluster. All times are this
process's, whatever the hosts' clocks say.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import shlex
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, fields
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from types import TracebackType
from typing import Any, Protocol, TypeVar

import topology
from testinfra.host import Host

# A task that is to be done: its run, its id and its map index.
Task = tuple[str, str, int]
T = TypeVar("T")
# Seconds from which a task counts as a long one.
LONG = 30
# The DAG's task with one try and no more.
ONCE = "once"
# Seconds without a heartbeat after which an execution is over.
SILENT = 30
# Unfinished tasks with which all workers have enough to do: Airflow queues no more at a time ([core] parallelism).
ENOUGH = 32

SCHEMA = """
create table execution (
  uuid text not null primary key,
  run text not null,
  task text not null,
  map_index integer not null,
  try_number integer not null check (try_number > 0),
  host text not null,
  seconds real not null,
  started real not null,
  beat real not null,
  ended real
) strict
"""
# An event may come twice, where its sender did not get the answer; the first one counts.
EVENTS = {
    "start": "insert into execution values (:uuid, :run, :task, :map_index, :try_number, :host, :seconds, :now, :now, null)"
    " on conflict (uuid) do update set beat = :now",
    "beat": "update execution set beat = :now where uuid = :uuid",
    "end": "update execution set beat = :now, ended = coalesce(ended, :now) where uuid = :uuid",
}
# Asks workers, through the broker as their work comes, what they consume and how many tasks they run at a time.
CONSUMERS = """
import json, re, sys
from celery import Celery
url = re.search('BROKER_URL="(.*)"', open("/etc/airflow/worker.env").read()).group(1)
inspect = Celery(broker=url).control.inspect(["celery@" + name for name in sys.argv[1:]], timeout=10)
queues, stats = inspect.active_queues() or {}, inspect.stats() or {}
print(json.dumps({
    node.removeprefix("celery@"): [sorted(queue["name"] for queue in queues[node]), stats[node]["pool"]["max-concurrency"]]
    for node in queues if node in stats
}))
"""


@dataclass(frozen=True)
class Execution:
    """One process that ran a task; a task that was tried again, or was run twice, has several."""

    uuid: str
    run: str
    task: str
    map_index: int
    try_number: int
    host: str
    seconds: float
    started: float
    beat: float
    ended: float | None = None

    @property
    def of(self) -> Task:
        return self.run, self.task, self.map_index

    @property
    def until(self) -> float:
        """When it was last known to live: what was killed has no end, but its heartbeats stop."""
        return self.beat if self.ended is None else self.ended


@dataclass(frozen=True)
class Verdict:
    """Numbers of tasks: those that were to be done, and what became of them."""

    expected: int
    ended: int
    # Scheduled, and never ended, but for those that were killed in their only try.
    lost: int
    # Run by two processes at the same time, or twice in the same try.
    doubled: int
    # With a try beyond the first.
    retried: int
    # With one try and no more, which began and was killed: those are not lost.
    killed: int
    # With a try that was spent without a start.
    unstarted: int

    def is_clean(self) -> bool:
        """Whether all ended in their first try."""
        return self == Verdict(self.expected, self.expected, 0, 0, 0, 0, 0)


def is_doubled(executions: list[Execution]) -> bool:
    """Whether one task's executions, in the order of their starts, were more than one at a time or in a try."""
    overlap = any(later.started < earlier.until for earlier, later in itertools.pairwise(executions))
    return overlap or len({execution.try_number for execution in executions}) < len(executions)


def is_killed(executions: list[Execution]) -> bool:
    """Whether a task with one try began and did not end."""
    return executions[0].task == ONCE and all(execution.ended is None for execution in executions)


def is_unstarted(executions: list[Execution]) -> bool:
    """Whether a try before the last one that began did not begin itself."""
    tries = {execution.try_number for execution in executions}
    return tries != set(range(1, max(tries) + 1))


def judge(executions: Iterable[Execution], expected: set[Task]) -> Verdict:
    """What became of the expected tasks; their executions come in the order of their starts."""
    tasks: dict[Task, list[Execution]] = defaultdict(list)
    for execution in executions:
        if execution.of in expected:
            tasks[execution.of].append(execution)
    ended = sum(any(execution.ended is not None for execution in task) for task in tasks.values())
    killed = sum(map(is_killed, tasks.values()))
    return Verdict(
        expected=len(expected),
        ended=ended,
        lost=len(expected) - ended - killed,
        doubled=sum(map(is_doubled, tasks.values())),
        retried=sum(any(execution.try_number > 1 for execution in task) for task in tasks.values()),
        killed=killed,
        unstarted=sum(map(is_unstarted, tasks.values())),
    )


class Handler(BaseHTTPRequestHandler):
    """POST /start, /beat and /end, each with the execution's `uuid` and, for the first, its other fields in JSON."""

    error_message_format = "%(explain)s"
    error_content_type = "text/plain"

    def __init__(self, ledger: Ledger, *connection: Any) -> None:
        self.ledger = ledger
        super().__init__(*connection)

    def do_POST(self) -> None:
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.ledger.record(self.path.removeprefix("/"), json.loads(body))
        except ValueError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, explain=str(error))
        else:
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing: the ledger itself is the record."""


class Server(ThreadingHTTPServer):
    # All tasks of a cluster may come at once; a full queue makes the kernel reset connections.
    request_queue_size = 128


class Ledger:
    """The server and its file, from `with` on; by default where the hosts reach this machine, on any free port."""

    def __init__(self, path: Path = topology.OUTPUT / "ledger.sqlite", address: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.lock = threading.Lock()
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # The file is for whoever wants to know more afterwards; it need not survive this machine.
        self.database.executescript("pragma journal_mode = memory; pragma synchronous = off;" + SCHEMA)
        # Docker's bridge has the first address of the network.
        address = address or str(ipaddress.ip_network(topology.variable("testbed_subnet"))[1])
        self.server = Server((address, 0), partial(Handler, self))
        self.url = f"http://{address}:{self.server.server_port}"

    def __enter__(self) -> Ledger:
        # How long the end has to wait for it, in seconds.
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            self.database.close()

    def record(self, event: str, what: Any) -> None:
        """Write an event down, with the time; what makes no sense is a ValueError."""
        if event not in EVENTS:
            raise ValueError(f"no such event: {event}")
        try:
            # Threads share the connection. The time is taken inside, so that rows are in its order.
            with self.lock:
                count = self.database.execute(EVENTS[event], {**what, "now": time.time()}).rowcount
        except (TypeError, sqlite3.Error) as error:
            raise ValueError(str(error)) from error
        if not count:
            raise ValueError(f"{event} of what has never started")

    def rows(self) -> list[Execution]:
        """All executions so far, in the order of their starts."""
        with self.lock:
            return [Execution(*row) for row in self.database.execute("select * from execution order by started")]

    def verdict(self, expected: set[Task]) -> Verdict:
        """What has become of the expected tasks so far."""
        return judge(self.rows(), expected)

    def start_load(self, api: topology.Api, short: int, long: int, seed: int, **conf: Any) -> set[Task]:
        """Start a run of the DAG; returns the tasks that it must do."""
        run = api.trigger("ledger", url=self.url, short=short, long=long, seed=seed, **conf)
        count = short + long
        tasks = {(run, "work", index) for index in range((count + 1) // 2)}
        return tasks | {(run, ONCE, index) for index in range(count // 2)}


@dataclass
class Load:
    """Tasks for the cluster, in one run of the DAG or more; `conf` is for all of these."""

    ledger: Ledger
    api: topology.Api
    seed: int
    conf: dict[str, Any] = field(default_factory=dict)
    expected: set[Task] = field(default_factory=set)

    def runs(self) -> set[str]:
        return {run for run, _, _ in self.expected}

    def add(self, short: int, long: int, **conf: Any) -> None:
        """Give the cluster more to do."""
        seed = self.seed + len(self.runs())
        self.expected |= self.ledger.start_load(self.api, short, long, seed, **self.conf, **conf)

    def executions(self) -> list[Execution]:
        return [execution for execution in self.ledger.rows() if execution.of in self.expected]

    def unended(self) -> set[Task]:
        return self.expected - {execution.of for execution in self.executions() if execution.ended is not None}

    def running(self, seconds: float = 0) -> Execution | None:
        """An execution that has not ended, of a task that takes so long or longer."""
        rows = self.executions()
        return next((execution for execution in rows if execution.ended is None and execution.seconds >= seconds), None)

    def starts(self, host: str, since: float) -> int:
        """How many executions have begun on a host since a moment."""
        return sum(execution.host == host and execution.started > since for execution in self.executions())

    def wait_until(self, what: str, check: Callable[[], T | None], timeout: float) -> T:
        """Wait for something, and let the cluster not run out of work meanwhile."""

        def look() -> T | None:
            if len(self.unended()) < ENOUGH:
                self.add(short=30, long=2)
            return check()

        return topology.wait_for(what, look, timeout, pause=2)

    def during(self, *arguments: str, timeout: float = 1800) -> CompletedProcess[str]:
        """Run a playbook, and let the cluster not run out of work meanwhile."""
        command = ["ansible-playbook", "--inventory", str(topology.INVENTORY), *arguments]
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(topology.run, *command, check=False)
            self.wait_until(shlex.join(command), run.done, timeout)
            return run.result()

    def abandon(self) -> None:
        """Leave nothing to do: what a failed test leaves would keep the cluster busy under the next one."""
        for run in self.runs():
            if self.api.state("ledger", run) not in ("success", "failed"):
                self.api.call("PATCH", f"/dags/ledger/dagRuns/{run}", json={"state": "failed"})

    def verdict(self, timeout: float = 900) -> Verdict:
        """Wait until Airflow holds everything for ended and nothing lives any more, or for so many seconds."""
        deadline = time.monotonic() + timeout

        def over() -> bool:
            if time.monotonic() > deadline:
                return True
            if not all(self.api.state("ledger", run) in ("success", "failed") for run in self.runs()):
                return False
            # What was killed in its only try has no end; what merely seems to be over still has a heartbeat.
            return not any(row.ended is None and time.time() - row.beat < SILENT for row in self.executions())

        topology.wait_for("the load to end", over, timeout + 120, pause=2)
        return self.ledger.verdict(self.expected)


class Judge(Protocol):
    """Waits for the end of a load and notes the verdict on it."""

    def __call__(self, scenario: str, load: Load, timeout: float = 900) -> Verdict: ...


class Table:
    """The verdicts of a session, in a file for people."""

    def __init__(self, path: Path) -> None:
        self.path = path
        names = ["scenario", "date", "seed", *(column.name for column in fields(Verdict))]
        self.lines = [self.line(*names), self.line(*["---"] * len(names))]

    @staticmethod
    def line(*cells: object) -> str:
        return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"

    def add(self, scenario: str, seed: int, verdict: Verdict) -> None:
        """Written at once: a session that is stopped leaves what it knows."""
        self.lines.append(self.line(scenario, time.strftime("%Y-%m-%d %H:%M"), seed, *astuple(verdict)))
        self.path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")


def consumers(host: Host, workers: Iterable[str]) -> dict[str, tuple[set[str], int]]:
    """Queues that each of the workers consumes, and how many tasks it runs at a time; without those that do not answer."""
    answer = topology.python(host, CONSUMERS, *workers)
    assert answer.rc == 0, answer.stderr
    return {worker: (set(queues), concurrency) for worker, (queues, concurrency) in json.loads(answer.stdout).items()}
