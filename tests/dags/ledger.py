"""Tells a ledger, which is not Airflow's, when each of its tasks starts, lives and ends: see tests/testinfra/ledger.py.

Half of the tasks have one try and no more: what costs them a try without a start is lost.

A run's conf has the ledger's `url`, how many `short` and `long` tasks there are and, if need be, how many seconds they take
(`short_seconds`, `long_seconds`) and how many megabytes the first try of the first one takes (`greedy_mb`).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

with DAG(
    dag_id="ledger",
    schedule=None,
    catchup=False,
    max_active_runs=100,
    # The workers are the limit.
    max_active_tasks=1024,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=5)},
):

    @task
    def plan(part: int, **context) -> list[float]:
        """How long each task of one half takes: the long ones are spread evenly, so that there is always one that runs."""
        import random

        conf = context["dag_run"].conf
        durations = [conf.get("short_seconds", 1)] * (conf["short"] + conf["long"])
        for number in range(conf["long"]):
            chance = random.Random(f"{conf['seed']}-{number}")  # noqa: S311 - the same load for the same seed
            durations[number * len(durations) // conf["long"]] = chance.uniform(*conf.get("long_seconds", (30, 120)))
        return durations[part::2]

    def do(seconds: float, **context) -> None:
        import contextlib
        import http.client
        import json
        import socket
        import threading
        import time
        import urllib.parse
        import uuid

        ti, conf = context["ti"], context["dag_run"].conf
        address = urllib.parse.urlsplit(conf["url"]).netloc
        execution = str(uuid.uuid4())

        def post(event: str, **what: object) -> None:
            connection = http.client.HTTPConnection(address, timeout=10)
            with contextlib.closing(connection):
                connection.request("POST", f"/{event}", json.dumps({"uuid": execution, **what}))
                answer = connection.getresponse()
                if answer.status != http.HTTPStatus.NO_CONTENT:
                    raise RuntimeError(f"{event} refused: {answer.read().decode()}")

        def insist(event: str, **what: object) -> None:
            """A network that is cut for a while must not look like a lost task."""
            deadline = time.monotonic() + 120
            while True:
                try:
                    return post(event, **what)
                except (OSError, http.client.HTTPException):
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(1)

        over = threading.Event()

        def live() -> None:
            while not over.wait(2):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    post("beat")

        insist(
            "start",
            run=ti.run_id,
            task=ti.task_id,
            map_index=ti.map_index,
            try_number=ti.try_number,
            host=socket.gethostname(),
            seconds=seconds,
        )
        threading.Thread(target=live, daemon=True).start()
        try:
            if (ti.task_id, ti.map_index, ti.try_number) == ("work", 0, 1):
                # Filled, or the kernel would not give the memory away.
                hoard = [b"x" * 2**20 for _ in range(conf.get("greedy_mb", 0))]
                print(f"took {len(hoard)} MB")
            time.sleep(seconds)
        finally:
            over.set()
        # Not reached by a task that was interrupted.
        insist("end")

    @task(do_xcom_push=False)
    def work(seconds: float, **context) -> None:
        do(seconds, **context)

    @task(do_xcom_push=False, retries=0)
    def once(seconds: float, **context) -> None:
        do(seconds, **context)

    work.expand(seconds=plan.override(task_id="plan_work")(0))
    once.expand(seconds=plan.override(task_id="plan_once")(1))
