"""Ways to keep Redis from taking messages, and what becomes of tasks with one try meanwhile."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import topology
from testinfra.host import Host

CONFIGURATION = "/etc/redis/redis.conf"
Fault = Callable[[Host], Any]


@contextmanager
def stopped(redis: Host) -> Iterator[None]:
    redis.check_output("systemctl stop redis-server")
    try:
        yield
    finally:
        redis.check_output("systemctl start redis-server")


@contextmanager
def frozen(redis: Host) -> Iterator[None]:
    """Its connections stay open, and nothing answers."""
    redis.check_output("systemctl kill --signal=STOP redis-server")
    try:
        yield
    finally:
        redis.check_output("systemctl kill --signal=CONT redis-server")


@contextmanager
def with_line(redis: Host, line: str) -> Iterator[None]:
    """Redis with one more line of configuration, the last of which counts."""
    redis.check_output(f"cp -p {CONFIGURATION} /root/redis.conf && echo {shlex.quote(line)} >> {CONFIGURATION}")
    try:
        redis.check_output("systemctl restart redis-server")
        yield
    finally:
        redis.check_output(f"mv /root/redis.conf {CONFIGURATION} && systemctl restart redis-server")


def full(redis: Host) -> Any:
    """Its memory is full: OOM for what writes."""
    return with_line(redis, "maxmemory 1mb")


def read_only(redis: Host) -> Any:
    """It copies another one that is not there: READONLY for what writes."""
    return with_line(redis, "replicaof 127.0.0.1 1")


@contextmanager
def cut_off(redis: Host) -> Iterator[None]:
    """Packets from and to it are dropped; neither side is told."""
    rules = """
    table inet cut {
      chain around { type filter hook input priority 0; tcp dport 6379 drop; tcp sport 6379 drop; }
    }
    """
    redis.check_output(f"printf %s {shlex.quote(rules)} | nft -f -")
    try:
        yield
    finally:
        redis.check_output("nft delete table inet cut")


def pass_by(seconds: float) -> None:
    begun = time.monotonic()
    topology.wait_for(f"{seconds:g} s to pass", lambda: time.monotonic() - begun >= seconds, seconds + 10)


def assert_back(worker: Host) -> None:
    topology.wait_for("the worker to run", lambda: worker.service("airflow-worker").is_running, 60)


def assert_due_tasks_wait(api: topology.Api, redis: Host, fault: Fault, seconds: float, workers: list[Host]) -> None:
    """Tasks with one try become due during a fault: each runs once, in that try, within a minute or two after it.

    Workers are there again by themselves.
    """
    with fault(redis):
        runs = [api.trigger("airfield_once") for _ in range(3)]
        pass_by(seconds)
        states = {task["state"] for run in runs for task in api.tasks("airfield_once", run)}
        assert not states & {"failed", "upstream_failed", "up_for_retry"}, states
    healed = time.monotonic()
    tasks = [task for run in runs for task in api.finish("airfield_once", run, timeout=180)]
    assert {(task["state"], task["try_number"]) for task in tasks} == {("success", 1)}
    print(f"{fault.__name__}: well {time.monotonic() - healed:.0f} s after its end")
    for worker in workers:
        assert_back(worker)
