"""Uses all that is delivered beside a DAG: a module of its folder, a Python package and a resource."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

with DAG(dag_id="airfield_delivery", schedule=None):

    @task
    def use() -> str:
        from pathlib import Path

        import pyfiglet
        from airfield_shared import shout

        return shout(Path("/opt/airflow/resources/current/greeting.txt").read_text()) + pyfiglet.__version__

    use()
