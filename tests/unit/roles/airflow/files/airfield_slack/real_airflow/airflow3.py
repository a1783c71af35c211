"""What the scheduler, a worker and the DAG processor of Airflow 3.3 do, by their own code."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.dag_processing.processor import DagFileParseRequest, _parse_file
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagbag import DBDagBag
from airflow.sdk.definitions.dag import _run_task
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

BUNDLE = "dags-folder"


class Airflow:
    undated_runs = True

    def __init__(self, file: Path, executor: Any) -> None:
        self.file = file
        self.executor = executor
        DagBundlesManager().sync_bundles_to_db()
        bag = BundleDagBag(file, bundle_path=file.parent, bundle_name=BUNDLE)
        sync_bag_to_db(bag, BUNDLE, None)
        self.dags = bag.dags

    def process(self, requests: list[Any]) -> None:
        """The DAG processor reads the file, and calls back as it was asked to."""
        request = DagFileParseRequest(
            file=str(self.file), bundle_path=self.file.parent, bundle_name=BUNDLE, callback_requests=requests
        )
        _parse_file(request, structlog.get_logger(__name__))

    def start(self, dag: str, run: str, date: datetime | None, session: Any) -> None:
        DBDagBag().get_latest_version_of_dag(dag, session=session).create_dagrun(
            run_id=run,
            logical_date=date,
            data_interval=(date, date) if date else None,
            run_after=datetime.now().astimezone(),
            state=DagRunState.RUNNING,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            session=session,
        )

    def serialized(self, run: Any, session: Any) -> Any:
        """A run's DAG as the scheduler has it."""
        return DBDagBag().get_dag_for_run(run, session=session)

    def work(self, ti: Any) -> None:
        """A worker runs a task instance."""
        _run_task(ti=ti, task=self.dags[ti.dag_id].get_task(ti.task_id))

    def lose(self, tis: list[Any], session: Any) -> None:
        """The scheduler finds that running task instances no longer give a sign of life."""
        scheduler = SchedulerJobRunner(Job(), executors=[self.executor])
        scheduler._purge_task_instances_without_heartbeats(tis, session=session)
        scheduler.process_executor_events(self.executor, None, DBDagBag(), session)
