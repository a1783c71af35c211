"""A worker that takes no task although tasks wait takes part again within three minutes; one beside it is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import topology
from ledger import Judge, Load, consumers
from testinfra.host import Host

FIRST, SECOND = topology.members("airflow_worker")[:2]
QUEUES = set(topology.variable("airflow_worker_queues", ["default"])) | {FIRST}
CONCURRENCY = topology.variable("airflow_worker_concurrency", 16)
# Seconds in which a deaf worker must take tasks again.
PROMISE = 180
# Tells a worker to consume nothing, as Celery at times does by itself after a reconnect.
CANCEL = """
import re, sys
from celery import Celery
url = re.search('BROKER_URL="(.*)"', open("/etc/airflow/worker.env").read()).group(1)
for queue in sys.argv[2:]:
    Celery(broker=url).control.cancel_consumer(queue, destination=["celery@" + sys.argv[1]], reply=True, timeout=10)
"""


def hang(host: Host) -> None:
    """Its connections stay open, and its tasks go on."""
    host.check_output("systemctl kill --kill-whom=main --signal=STOP airflow-worker")


def consume_nothing(host: Host) -> None:
    answer = topology.python(host, CANCEL, FIRST, *QUEUES)
    assert answer.rc == 0, answer.stderr
    assert not consumers(host, [FIRST])[FIRST][0] & QUEUES


@pytest.mark.parametrize(
    ("scenario", "fault", "restarts"),
    [("a worker hangs", hang, True), ("a worker consumes nothing", consume_nothing, False)],
    ids=["hangs", "consumes nothing"],
)
def test_deaf_worker_takes_tasks_again(
    scenario: str, fault: Callable[[Host], None], restarts: bool, load: Load, judge: Judge, connect: topology.Connect
) -> None:
    def main_processes() -> list[str]:
        return [connect(name).check_output("systemctl show -P MainPID airflow-worker") for name in (FIRST, SECOND)]

    load.add(short=120, long=6)
    load.wait_until(f"{FIRST} to take tasks", lambda: load.starts(FIRST, 0) > CONCURRENCY, 240)
    before = main_processes()
    fault(connect(FIRST))
    deaf = time.time()
    # It may have had as many messages as it has slots.
    load.wait_until(f"{FIRST} to take tasks again", lambda: load.starts(FIRST, deaf) > CONCURRENCY, PROMISE)
    after = main_processes()
    assert (before[0] != after[0], before[1] != after[1]) == (restarts, False)
    verdict = judge(f"{scenario}, the watchdog finds it", load)
    assert verdict.is_clean(), verdict
