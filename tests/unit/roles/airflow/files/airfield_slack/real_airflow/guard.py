"""guard.py FOLDER: what Airflow and Celery, with airfield_guard, make of what a worker may have written; prints it as JSON."""

from __future__ import annotations

import json
import os
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import airflow  # noqa: F401 - loads the policies first, as every process of Airflow does
import sqlalchemy
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.providers.celery.executors import celery_executor_utils
from airflow.serialization.serialized_objects import BaseSerialization
from celery import Celery

FOLDER = sys.argv[1]
MARK = f"{FOLDER}/executed"
DATABASE = f"sqlite:///{FOLDER}/results.db"
CELERYS = f"celery.backends.database:DatabaseBackend+{DATABASE}"


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARK}",)


ROWS = {
    "pickle": ("STARTED", pickle.dumps(Code())),
    "garbage": ("SUCCESS", b"\xff\x00"),
    "deep": ("SUCCESS", b"[" * 100_000),
    "digits": ("SUCCESS", b"9" * 9_999),
    "named": ("FAILURE", json.dumps({"exc_module": "os", "exc_type": "system", "exc_message": [f"touch {MARK}"]}).encode()),
    "text": ("FAILURE", b'"text"'),
    "retry": ("RETRY", b"[1]"),
    "nothing": ("FAILURE", None),
}


def results() -> dict[str, Any]:
    """Each row as Airflow's executor gets it and as Celery does."""
    old = Celery("old", broker="memory://", set_as_current=False)
    old.conf.result_backend = CELERYS
    new = Celery("new", broker="memory://", backend=f"db+{DATABASE}", set_as_current=False)
    # As the workers of a release without the guard go on to write, and ours.
    for name, app in (("old", old), ("new", new)):
        app.backend.store_result(f"{name} started", {"pid": 1}, "STARTED")
        app.backend.store_result(f"{name} failure", ValueError("no rows", 1), "FAILURE")
    with sqlalchemy.create_engine(DATABASE).begin() as connection:
        insert = sqlalchemy.text("INSERT INTO celery_taskmeta (task_id, status, result) VALUES (:name, :status, :result)")
        for name, (status, result) in ROWS.items():
            connection.execute(insert, {"name": name, "status": status, "result": result})
        insert = sqlalchemy.text("INSERT INTO celery_tasksetmeta (taskset_id, result) VALUES ('group', :result)")
        connection.execute(insert, {"result": pickle.dumps(Code())})
    names = [*ROWS, "old started", "old failure", "new started", "new failure", "missing"]
    fetcher = celery_executor_utils.BulkStateFetcher(1)
    fetcher.celery_app = celery_executor_utils.app = new
    states = fetcher.get_many([SimpleNamespace(task_id=name) for name in names])
    seen = {name: [states[name][0], repr(new.backend.get_task_meta(name)["result"])] for name in names}
    group = new.backend._restore_group("group")["result"]
    # A row that somebody has broken is its worker's to write.
    new.backend.store_result("pickle", None, "SUCCESS")
    return {"rows": seen, "group": group, "then": new.backend.get_task_meta("pickle", cache=False)["status"]}


def tried(function: Any, *arguments: Any) -> str:
    try:
        return repr(function(*arguments))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def encoded(kind: str, name: str) -> dict[str, Any]:
    kwargs = {"__type": "dict", "__var": {}}
    return {"__type": kind, "__var": {"__type": "dict", "__var": {"exc_cls_name": name, "args": ["x"], "kwargs": kwargs}}}


def log_server() -> list[str]:
    """Paths of the log server; of Airflow 2's there is nothing to see."""
    try:
        from airflow.utils.serve_logs.log_server import get_app  # noqa: PLC0415
    except ImportError:
        return ["/log"]
    return [route.path for route in get_app().router.routes]


runner = SimpleNamespace(trigger_cache={})
popen = {"__type": "tuple", "__var": ["subprocess.Popen", {"__type": "dict", "__var": {"args": ["touch", MARK]}}]}
answer = {
    **results(),
    "trigger": tried(TriggerRunner.get_trigger_by_classpath, runner, "airflow.triggers.base.BaseTrigger"),
    "no trigger": tried(TriggerRunner.get_trigger_by_classpath, runner, "subprocess.Popen"),
    "exception": tried(BaseSerialization.deserialize, encoded("airflow_exc_ser", "airflow.exceptions.AirflowException")),
    "no exception": tried(BaseSerialization.deserialize, encoded("airflow_exc_ser", "os.system")),
    "no builtin exception": tried(BaseSerialization.deserialize, encoded("base_exc_ser", "print")),
    "trigger in arguments": tried(BaseSerialization.deserialize, {"__type": "base_trigger", "__var": popen}),
    "log server": log_server(),
    "executed": os.path.exists(MARK),
}
print("\n" + json.dumps(answer))
