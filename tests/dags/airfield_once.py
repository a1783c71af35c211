"""Six tasks with one try and no more, and one for a queue that nobody has unless a test tells a worker."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

with DAG(dag_id="airfield_once", schedule=None, max_active_runs=100, tags=["slack:off"]):

    @task(retries=0)
    def once(number: int) -> None:
        print(number)

    once.expand(number=list(range(6)))

with DAG(dag_id="airfield_unclaimed", schedule=None, tags=["slack:off"]):

    @task(retries=0, queue="airfield-unclaimed")
    def wait_for_somebody() -> None:
        pass

    wait_for_somebody()
