"""Runs until a file appears, so that a test can look at, and tamper with, a task that is running."""

from __future__ import annotations

import time
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

with DAG(dag_id="airfield_wait", schedule=None):

    @task(queue="worker1")
    def wait(**context) -> None:
        release = Path(context["dag_run"].conf["release"])
        print("waiting for", release, flush=True)
        deadline = time.monotonic() + 300
        while not release.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(release)
            time.sleep(0.5)
        # Not before: by now another revision of the DAGs may be current.
        from airfield_shared import EDITION

        print("released, edition", EDITION, flush=True)

    wait()
