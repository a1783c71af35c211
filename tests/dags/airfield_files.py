"""Writes files on each worker, as a team's tasks do for the next system."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.operators.bash import BashOperator

with DAG(dag_id="airfield_files", schedule=None):
    for worker in ("worker1", "worker2"):

        @task(task_id=f"python_on_{worker}", queue=worker)
        def write(name: str, **context) -> str:
            import socket

            folder = Path(context["dag_run"].conf["folder"], f"{name}-python")
            folder.mkdir(exist_ok=True)
            (folder / "result.csv").write_text(socket.gethostname())
            return socket.gethostname()

        write(worker)
        BashOperator(
            task_id=f"bash_on_{worker}",
            queue=worker,
            bash_command='mkdir -p "$FOLDER" && hostname > "$FOLDER/result.csv" && echo "$REGION"',
            env={"FOLDER": "{{ dag_run.conf['folder'] }}/" + worker + "-bash"},
            append_env=True,
        )
