"""Restart this host's worker if it takes no task although tasks wait that it could run.

A timer starts this with the release's own Python. Each run takes one look and compares it with the last one's, which is
kept below /run. A worker that has lost its ear for the queues (as after a restart of Redis) still answers, and one that
hangs does not: neither says anything about tasks. What counts as life is a task that has begun since, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

UNIT = "airflow-worker.service"
NODE = "celery@" + socket.gethostname()
SENTINEL_KWARGS = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__SENTINEL_KWARGS"
# Seconds that the broker, and the worker through it, get for one answer.
ANSWER_TIMEOUT = 5
# Seconds after which a look is too old to compare with: the queue may have been empty since. Two periods and a bit.
LOOK_VALID = 75


@dataclass(frozen=True)
class Look:
    """A worker beside which tasks wait that it has room for."""

    main: int
    waiting: dict[str, int]
    running: int
    # Processes of tasks.
    tasks: list[int]
    # Tasks begun since its start and queues consumed, by the worker's own word; None if it does not answer.
    total: int | None
    consumes: list[str] | None


@dataclass(frozen=True)
class Stall:
    """What is known of a worker since it last showed life."""

    since: float
    seen: float
    main: int
    tasks: list[int]
    total: int | None


def main_process() -> int:
    """The worker's main process; 0 while it starts, stops or is down, which is others' business."""
    command = ["systemctl", "show", "--property=ActiveState,MainPID", UNIT]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    state = dict(line.split("=", 1) for line in output.splitlines())
    return int(state["MainPID"]) if state["ActiveState"] == "active" else 0


def all_processes() -> dict[int, tuple[int, str]]:
    """Parent and title of every process."""
    import psutil

    processes = psutil.process_iter(["ppid", "cmdline"])
    return {process.pid: (process.info["ppid"], " ".join(process.info["cmdline"] or [])) for process in processes}


def pool_and_tasks(main: int, processes: Mapping[int, tuple[int, str]]) -> tuple[set[int], list[int]]:
    """The processes of a worker's pool and of its tasks.

    A pool process is named after its task ("airflow supervisor: ...") and keeps that name when it is idle again. What tells
    a busy one is its child, which runs the task's code.
    """
    names = ("[celeryd: ", "airflow supervisor: ")
    pool = {pid for pid, (parent, title) in processes.items() if parent == main and title.startswith(names)}
    return pool, sorted(pid for pid, (parent, title) in processes.items() if parent in pool)


class Broker:
    """The worker's queues, and the worker itself as it can be asked through the broker."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        # The worker has all day to reach the broker; this has until its next run.
        timeouts = {"socket_connect_timeout": ANSWER_TIMEOUT, "socket_timeout": ANSWER_TIMEOUT}
        self.url, self.options = url, {**options, **timeouts}

    def waiting(self, queues: list[str]) -> dict[str, int]:
        """Messages in each queue that is not empty."""
        from kombu import Connection
        from kombu.exceptions import ChannelError

        counts = {}
        with Connection(self.url, transport_options=self.options) as connection, connection.channel() as channel:
            for queue in queues:
                with suppress(ChannelError):  # Redis has no empty lists
                    counts[queue] = channel.queue_declare(queue, passive=True).message_count
        return counts

    @cached_property
    def app(self) -> Any:
        from celery import Celery

        app = Celery(broker=self.url)
        app.conf.broker_transport_options = self.options
        return app

    def give(self, queues: set[str]) -> None:
        """Tell the worker to consume queues."""
        for queue in sorted(queues):
            print(f"{NODE} does not consume {queue}, although it should: telling it.", flush=True)
            self.app.control.add_consumer(queue, destination=[NODE], reply=True, timeout=ANSWER_TIMEOUT)

    def ask(self, question: str) -> Any:
        """The worker's answer to one of Celery's inspections; None if there is none in time."""
        inspect = self.app.control.inspect(destination=[NODE], timeout=ANSWER_TIMEOUT)
        return (getattr(inspect, question)() or {}).get(NODE)


def filed(path: Path) -> set[str]:
    """Queues that the worker shall have by now; a drain may have begun since this run did. None where that cannot be read."""
    return set(path.read_text(errors="replace").partition('"')[2].rpartition('"')[0].split(","))


def look(
    broker: Broker, main: int, processes: Mapping[int, tuple[int, str]], queues: list[str], slots: int, file: Path
) -> Look | None:
    """What there is to see of the worker; None where it need not take a task."""
    pool, tasks = pool_and_tasks(main, processes)
    if len(tasks) >= slots:
        return None
    waiting = broker.waiting(queues)
    if not waiting:
        return None
    stats = broker.ask("stats")
    if stats is None:
        # Without a pool it is still starting.
        return Look(main, waiting, len(tasks), tasks, None, None) if pool else None
    # A slot stays taken while the log of its task goes to the bucket, when the task's process is no more.
    running = max(len(tasks), len(broker.ask("active") or []))
    if running >= slots:
        return None
    answer = broker.ask("active_queues")
    consumes = [queue["name"] for queue in answer or []]
    if answer is not None:
        # After a reconnect Celery has forgotten a queue that was once taken from it and given back.
        broker.give((set(queues) - set(consumes)) & filed(file))
    return Look(main, waiting, running, tasks, sum(stats["total"].values()), consumes)


def follow(before: Stall | None, seen: Look, now: float) -> Stall:
    """The stall as it stands after one more look; it begins with this one where the worker has shown life since the last."""
    if (
        before is not None
        and 0 <= now - before.seen <= LOOK_VALID
        and before.main == seen.main
        # Tasks that end are no life: their slots stay free beside a full queue.
        and set(seen.tasks) <= set(before.tasks)
        and seen.total in (None, before.total)
    ):
        return Stall(before.since, now, seen.main, seen.tasks, before.total)
    return Stall(now, now, seen.main, seen.tasks, seen.total)


def recall(path: Path) -> Stall | None:
    """What the last run left; None where that cannot be read."""
    try:
        stall = Stall(**json.loads(path.read_text()))
        numbers = [stall.since, stall.seen, stall.main, stall.total or 0, *stall.tasks]
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return stall if all(isinstance(number, (int, float)) for number in numbers) else None


def reason(seen: Look, seconds: float, slots: int) -> str:
    """Why the worker is restarted."""
    waiting = ", ".join(f"{queue}: {count}" for queue, count in sorted(seen.waiting.items()))
    answer = "does not answer"
    if seen.consumes is not None:
        answer = f"answers that it consumes {', '.join(sorted(seen.consumes)) or 'nothing'} and has begun {seen.total} tasks"
    return (
        f"Restarting {NODE}: for {seconds:.0f} s it has begun no task, although tasks wait ({waiting}) and it runs "
        f"{seen.running} of {slots}. It {answer}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--concurrency", type=int, required=True, help="tasks that the worker runs at most")
    parser.add_argument("--patience", type=int, default=90, help="seconds without life after which it is restarted")
    # Not optional: with another visibility timeout than the worker's, Redis would hand out running tasks again.
    parser.add_argument("--transport-options", type=json.loads, required=True, help="Celery's, as JSON")
    parser.add_argument("--state", type=Path, default=Path("/run/airfield/worker-watchdog.json"), help="what runs remember")
    parser.add_argument("--queues", type=Path, default=Path("/var/lib/airfield/worker-queues.env"), help="file that names them")
    arguments = parser.parse_args()
    now = time.monotonic()
    before = recall(arguments.state)
    # Only a run that sees the stall go on leaves it to the next one.
    arguments.state.unlink(missing_ok=True)
    queues = os.environ.get("AIRFIELD_WORKER_QUEUES", "").split(",")
    # The queue for canaries is no measure: a worker that is drained or not yet proven has it too.
    queues = [name for name in queues if name and not name.startswith("canary.")]
    process = main_process() if queues else 0
    if not process:
        return
    processes = all_processes()
    options = arguments.transport_options
    try:
        if SENTINEL_KWARGS in os.environ:
            options["sentinel_kwargs"] = json.loads(os.environ[SENTINEL_KWARGS])
        broker = Broker(os.environ["AIRFLOW__CELERY__BROKER_URL"], options)
        seen = look(broker, process, processes, queues, arguments.concurrency, arguments.queues)
    except Exception as error:  # redis, kombu and socket errors share no base, and their texts may hold the URL
        print(f"Nothing is known of {NODE}: asking the broker ended in {type(error).__name__}.")
        return
    if seen is None:
        return
    stall = follow(before, seen, now)
    if now - stall.since < arguments.patience:
        # In memory: no power cut leaves half of it, but a kill might.
        temporary = arguments.state.with_name(f".{arguments.state.name}")
        temporary.write_text(json.dumps(asdict(stall)))
        temporary.replace(arguments.state)
        return
    print(reason(seen, now - stall.since, arguments.concurrency), flush=True)
    # `try-`: it may have been stopped since the look, and must then stay so.
    subprocess.run(["systemctl", "try-restart", "--no-block", UNIT], check=True)


if __name__ == "__main__":
    main()
