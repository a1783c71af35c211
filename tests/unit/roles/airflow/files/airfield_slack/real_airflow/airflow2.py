"""What the scheduler, a worker and the DAG processor of Airflow 2.11 do, by their own code."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.dag_processing.processor import DagFileProcessor
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagbag import DagBag
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType


class Airflow:
    undated_runs = False

    def __init__(self, file: Path, executor: Any) -> None:
        self.file = file
        self.executor = executor
        self.process([])
        self.dags = DagBag(file, include_examples=False).dags

    def process(self, requests: list[Any]) -> None:
        """The DAG processor reads the file, and calls back as it was asked to."""
        processor = DagFileProcessor(dag_ids=None, dag_directory=str(self.file.parent), log=logging.getLogger(__name__))
        processor.process_file(str(self.file), requests)

    def start(self, dag: str, run: str, date: datetime | None, session: Any) -> None:
        self.dags[dag].create_dagrun(
            run_id=run,
            execution_date=date,
            data_interval=(date, date),
            state=DagRunState.RUNNING,
            run_type=DagRunType.MANUAL,
            session=session,
        )

    def serialized(self, run: Any, session: Any) -> Any:
        """A run's DAG as the scheduler has it."""
        return DagBag(os.devnull, include_examples=False, read_dags_from_db=True).get_dag(run.dag_id, session=session)

    def work(self, ti: Any) -> None:
        """A worker runs a task instance."""
        ti.task = self.dags[ti.dag_id].get_task(ti.task_id)
        # It passes on what the task has raised, after all that is to be done about it.
        with suppress(Exception):
            ti.run()

    def lose(self, tis: list[Any], session: Any) -> None:
        """The scheduler finds that running task instances no longer give a sign of life."""
        scheduler = SchedulerJobRunner(Job(executor=self.executor))
        scheduler._purge_zombies([(ti, ti.dag_model.fileloc, ti.dag_model.processor_subdir) for ti in tis], session=session)
        scheduler._process_executor_events(self.executor, session)
