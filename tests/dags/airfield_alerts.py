"""Tasks that fail for good until a file appears: what alerts are for. A run's conf has the file, and how many of them."""

from __future__ import annotations

from datetime import timedelta

from airfield_slack import SlackAlert
from airflow.providers.common.compat.sdk import DAG, task

alert = SlackAlert("#data-alerts")

# The second for many at once, which need no second try.
for name, retries in {"airfield_alerts": 1, "airfield_flood": 0}.items():
    with DAG(
        dag_id=name,
        schedule=None,
        max_active_tasks=16,
        default_args={
            "on_failure_callback": alert.failure,
            "retries": retries,
            "retry_delay": timedelta(0),
        },
    ):

        @task
        def count(**context) -> list[int]:
            return list(range(context["dag_run"].conf["tasks"]))

        @task
        def work(number: int, **context) -> None:
            from pathlib import Path

            if not Path(context["dag_run"].conf["file"]).exists():
                raise FileNotFoundError(f"nothing to do for number {number} yet")

        work.expand(number=count())

# Without a callback of their own: for the policy.
with DAG(dag_id="airfield_quiet", schedule=None):

    @task(task_id="work")
    def fail() -> None:
        raise ValueError("nobody told me")

    fail()

# No process of theirs lives to call a callback.
with DAG(dag_id="airfield_killed", schedule=None):

    @task(task_id="work")
    def take_memory() -> None:
        taken = []
        # Beyond what the worker's unit may have, and not all of the machine's.
        while len(taken) < 96:
            taken.append(b"x" * 2**26)
        raise MemoryError("nobody minded")

    take_memory()

with DAG(dag_id="airfield_lost", schedule=None):

    @task(task_id="work")
    def wait() -> None:
        import time

        time.sleep(3600)

    wait()

with DAG(dag_id="airfield_mute", schedule=None, tags=["slack:off"]):

    @task(task_id="work")
    def fail_unheard() -> None:
        raise ValueError("nobody hears")

    fail_unheard()
