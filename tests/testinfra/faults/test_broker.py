"""While Redis takes no messages, tasks that are due wait; a message that is lost is found."""

from __future__ import annotations

import pytest
import topology
from broker import Fault, assert_due_tasks_wait, full, stopped

REDIS = topology.members("redis")
WORKERS = topology.members("airflow_worker")
QUEUE = "airfield-unclaimed"
# With the account of a worker: delete what waits in a queue, or count it.
MESSAGES = """
import re, redis, sys
url = re.search('BROKER_URL="(.*)"', open("/etc/airflow/worker.env").read()).group(1)
connection = redis.Redis.from_url(url, socket_timeout=10)
print(getattr(connection, sys.argv[1])(sys.argv[2]))
"""
CONSUME = """
import re, sys
from celery import Celery
url = re.search('BROKER_URL="(.*)"', open("/etc/airflow/worker.env").read()).group(1)
getattr(Celery(broker=url).control, sys.argv[1])(sys.argv[2], destination=["celery@" + sys.argv[3]], reply=True, timeout=10)
"""
# Seconds in which a lost message must be sent again: 45 s of patience, and two looks that are 20 s apart.
PROMISE = 180


@pytest.mark.parametrize(("fault", "seconds"), [(stopped, 60), (full, 30)], ids=["stopped", "memory full"])
@pytest.mark.usefixtures("dags")
def test_tasks_wait_for_the_broker(fault: Fault, seconds: float, api: topology.Api, connect: topology.Connect) -> None:
    assert_due_tasks_wait(api, connect(REDIS[0]), fault, seconds, [connect(name) for name in WORKERS])


@pytest.mark.usefixtures("dags")
def test_lost_message_is_found(api: topology.Api, connect: topology.Connect) -> None:
    worker = connect(WORKERS[0])

    def ask(command: str) -> int:
        answer = topology.python(worker, MESSAGES, command, QUEUE)
        assert answer.rc == 0, answer.stderr
        return int(answer.stdout)

    def tell(command: str) -> None:
        answer = topology.python(worker, CONSUME, command, QUEUE, WORKERS[0])
        assert answer.rc == 0, answer.stderr

    run = api.trigger("airfield_unclaimed")
    topology.wait_for("a message", lambda: ask("llen") == 1, 60)
    assert ask("delete") == 1
    topology.wait_for("the message to be sent again", lambda: ask("llen") == 1, PROMISE)
    tell("add_consumer")
    try:
        (task,) = api.finish("airfield_unclaimed", run)
    finally:
        tell("cancel_consumer")
    assert (task["state"], task["try_number"]) == ("success", 1)
    assert ask("llen") == 0
