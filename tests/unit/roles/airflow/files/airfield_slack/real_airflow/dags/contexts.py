"""DAGs whose tasks and runs end in every way that calls back, for Airflow 3 and 2.11."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airfield_slack import SlackAlert

try:
    from airflow.sdk import DAG, task
    from airflow.sdk.exceptions import AirflowSkipException
except ImportError:
    from airflow import DAG
    from airflow.decorators import task
    from airflow.exceptions import AirflowSkipException

OWN = SlackAlert("#own")
ALL = {
    "on_failure_callback": OWN.failure,
    "on_success_callback": OWN.success,
    "on_retry_callback": OWN.retry,
    "retry_delay": timedelta(0),
}


def works() -> None:
    pass


def fails(number: int = 1) -> None:
    if number:
        raise ValueError("no rows")


def fails_at_length() -> None:
    raise ValueError("x" * 10_000)


def skips() -> None:
    raise AirflowSkipException


def dag(name: str, **arguments: Any) -> Any:
    return DAG(name, schedule=None, start_date=datetime(2026, 1, 1), catchup=False, **arguments)


with dag("tasks", default_args=ALL, on_failure_callback=OWN.failure):
    task(task_id="works")(works)()
    task(task_id="fails")(fails)()
    task(task_id="fails_twice", retries=1)(fails)()
    task(task_id="fails_at_length")(fails_at_length)()
    task(task_id="mapped")(fails).expand(number=[0, 1])

with dag("succeeds", on_success_callback=OWN.success):
    task(task_id="works")(works)()

with dag("skips", on_success_callback=OWN.success):
    task(task_id="skips")(skips)()

# Its runs have no logical date, where that is possible.
with dag("undated", default_args=ALL, on_failure_callback=OWN.failure):
    task(task_id="fails")(fails)()

# Its tasks end with their host.
with dag("lost", default_args=ALL):
    task(task_id="once")(works)()
    task(task_id="twice", retries=1)(works)()
    task(task_id="mapped")(fails).expand(number=[0, 1])
    task(task_id="by_policy", on_failure_callback=None)(works)()

with dag("policy_default"):
    task(task_id="plain")(fails)()
    task(task_id="mapped")(fails).expand(number=[1])
    task(task_id="own", on_failure_callback=OWN.failure)(fails)()

with dag("policy_off", tags=["slack:off"]):
    task(task_id="plain")(fails)()

with dag("policy_tag", tags=["daily", "slack:#other"]):
    task(task_id="plain")(fails)()

with dag("policy_param", params={"slack_channel": "#param"}):
    task(task_id="plain")(fails)()
