"""run.py RUN DATE: run the DAGs beside this by the installed Airflow: scheduler, worker and DAG processor in one process.

`dag.test()` would not do: it calls a DAG's callbacks by another way than a cluster does, and cannot lose a task or clear it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow import __version__
from airflow.executors.base_executor import BaseExecutor
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import clear_task_instances
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState

FILE = Path(__file__).parent / "dags/contexts.py"


class Sink:
    """What the DAG processor is asked to call back: it comes to it as JSON."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def send(self, request: Any) -> None:
        self.requests.append(type(request).from_json(request.to_json()))


class Cluster:
    """Keeps no object of the database from one step to the next: they end each other's sessions."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.sink = Sink()
        executor = BaseExecutor()
        executor.callback_sink = self.sink
        self.airflow = importlib.import_module(f"airflow{__version__[0]}").Airflow(FILE, executor)

    def start(self, dag: str, date: datetime | None) -> None:
        with create_session() as session:
            self.airflow.start(dag, self.run, date, session)

    def finish(self, dag: str, work: Callable[[str], None]) -> None:
        """Schedule a run, and let somebody work on it, until it has ended."""
        while self.schedule(dag):
            work(dag)
            self.process()
        self.process()

    def schedule(self, dag: str) -> bool:
        """Queue what may run; returns whether the run goes on."""
        with create_session() as session:
            run = self.run_of(dag, session)
            run.dag = self.airflow.serialized(run, session)
            ready, callback = run.update_state(session=session, execute_callbacks=False)
            run.schedule_tis(ready, session=session)
            session.flush()
            if callback:
                self.sink.send(callback)
            for ti in run.get_task_instances(state=[TaskInstanceState.SCHEDULED], session=session):
                ti.state = TaskInstanceState.QUEUED
            return bool(run.state == DagRunState.RUNNING)

    def run_of(self, dag: str, session: Any) -> Any:
        return session.query(DagRun).filter_by(dag_id=dag).one()

    def work(self, dag: str) -> None:
        with create_session() as session:
            queued = self.run_of(dag, session).get_task_instances(state=[TaskInstanceState.QUEUED], session=session)
            session.expunge_all()
        for ti in queued:
            self.airflow.work(ti)

    def lose(self, dag: str) -> None:
        with create_session() as session:
            queued = self.run_of(dag, session).get_task_instances(state=[TaskInstanceState.QUEUED], session=session)
            for ti in queued:
                ti.state = TaskInstanceState.RUNNING
            session.flush()
            self.airflow.lose(queued, session)

    def process(self) -> None:
        requests, self.sink.requests = self.sink.requests, []
        if requests:
            self.airflow.process(requests)

    def clear(self, dag: str, task: str) -> None:
        with create_session() as session:
            run = self.run_of(dag, session)
            clear_task_instances([run.get_task_instance(task, session=session)], session)
            run.state = DagRunState.RUNNING


def main(name: str, date: datetime) -> None:
    initdb()
    cluster = Cluster(name)
    for dag in set(cluster.airflow.dags) - {"undated", "lost"}:
        cluster.start(dag, date)
        cluster.finish(dag, cluster.work)
    cluster.clear("tasks", "fails_twice")
    cluster.finish("tasks", cluster.work)
    cluster.start("lost", date)
    cluster.finish("lost", cluster.lose)
    if cluster.airflow.undated_runs:
        cluster.start("undated", None)
        cluster.finish("undated", cluster.work)


main(sys.argv[1], datetime.fromisoformat(sys.argv[2]))
