"""Has a log of conf's `mb` megabytes, and runs for `seconds` with it; then starts a run of another DAG `times` times.

The lines go straight into its log's file, for a task that prints so much would take minutes.
"""

from __future__ import annotations

import json
import time

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

LINES = 1000

with DAG(dag_id="airfield_big_log", schedule=None):

    @task
    def talk(**context) -> list[dict[str, int]]:
        from airflow.configuration import conf

        run, ti = context["dag_run"], context["ti"]
        path = f"dag_id={ti.dag_id}/run_id={run.run_id}/task_id={ti.task_id}/attempt={ti.try_number}.log"
        stamp = "2026-01-01T00:00:00.000000Z"
        lines = [
            json.dumps({"timestamp": stamp, "event": f"line {number} " + "x" * 64, "level": "info", "logger": "task.stdout"})
            for number in range(LINES)
        ]
        block = "\n".join(lines) + "\n"
        with open(f"{conf.get('logging', 'base_log_folder')}/{path}", "a", encoding="utf-8") as file:
            for _ in range(run.conf["mb"] * 2**20 // len(block)):
                file.write(block)
            file.write("the last line\n")
        time.sleep(run.conf.get("seconds", 0))
        return [{"number": number} for number in range(run.conf.get("times", 0))]

    TriggerDagRunOperator.partial(task_id="trigger", trigger_dag_id="airfield_nothing").expand(conf=talk())

with DAG(dag_id="airfield_nothing", schedule=None, max_active_runs=100):

    @task
    def nothing() -> None:
        pass

    nothing()
