"""Prints what people print while they look for a mistake: the environment of their task, and Airflow's options."""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG, conf, task
from airflow.providers.standard.operators.bash import BashOperator

# By the DAG processor, which has secrets of its own.
print("printing", dict(os.environ))
print(conf.as_dict(display_sensitive=True))

BASH = """
env | sort
set -x
echo "${AIRFLOW__CELERY__BROKER_URL:-}" "${AIRFLOW__CELERY__RESULT_BACKEND:-}" "${AIRFLOW_CONN_AIRFLOW_LOGS:-}"
set +x
# What the shell and all above it, up to the worker itself, were started with, as far as that is to be seen.
process=$$
while [ "$process" -gt 1 ]; do
  cat "/proc/$process/environ" 2>/dev/null | tr '\\0' '\\n'
  ps eww --ppid "$process"
  process=$(awk '/^PPid:/ {print $2}' "/proc/$process/status")
done
echo printed
"""

with DAG(dag_id="airfield_printing", schedule=None):

    @task
    def python() -> dict[str, str]:
        print(dict(os.environ))
        print(conf.as_dict(display_sensitive=True))
        for section, key in (("celery", "broker_url"), ("celery", "result_backend"), ("api", "secret_key")):
            print(section, key, conf.get(section, key, fallback=""))
        # Still in the memory of a process that the worker has forked.
        from airflow.providers.celery.executors.celery_executor_utils import app

        print(app.conf.broker_url, [app.conf.result_backend], {"url": app.conf.broker_url})
        try:
            raise RuntimeError(f"cannot connect to {app.conf.result_backend}")
        except RuntimeError as error:
            print(repr(error))
        print("printed")
        return dict(os.environ)

    BashOperator(task_id="bash", bash_command=BASH)
    python()
