"""A task for each worker, by which the floor proves that they run tasks; ours has a DAG for that."""

from __future__ import annotations

from airflow.sdk import DAG, task

for worker in ("worker1", "worker2", "worker3"):
    with DAG(dag_id=f"on_{worker}", schedule=None, is_paused_upon_creation=False):

        @task(queue=worker)
        def hello() -> None:
            print("hello")

        hello()
