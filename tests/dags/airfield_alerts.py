"""Tasks that fail for good until a file appears: what alerts are for. A run's conf has the file, and how many of them."""

from __future__ import annotations

from datetime import timedelta

from airfield_slack import SlackAlert
from airflow.sdk import DAG, task

alert = SlackAlert("#data-alerts")

with DAG(
    dag_id="airfield_alerts",
    schedule=None,
    max_active_tasks=16,
    default_args={
        "on_failure_callback": alert.failure,
        "retries": 1,
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

with DAG(dag_id="airfield_mute", schedule=None, tags=["slack:off"]):

    @task(task_id="work")
    def fail_unheard() -> None:
        raise ValueError("nobody hears")

    fail_unheard()
