"""A task for each worker, so that both sides prove that they run tasks. No part of what is measured."""

from __future__ import annotations

from airflow.sdk import DAG, task

for worker in ("worker1", "worker2", "worker3", "worker4"):
    with DAG(dag_id=f"on_{worker}", schedule=None, is_paused_upon_creation=False):

        @task(queue=worker)
        def hello() -> None:
            print("hello")

        hello()
