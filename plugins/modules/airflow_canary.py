#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_canary
short_description: Let workers run one task each, and say what is wrong with them
version_added: "0.1.0"
description:
  - Starts a run of the DAG C(airfield_canary) for each worker, its task on the worker's private queue, through the real
    broker, worker, API server and object store, and compares what the task reports with what this host has. The task is
    queued by Airflow's executor as the scheduler would, so that it waits for no slot of a cluster that is full.
  - Finds a worker with another release, other options, another key for logs, a wrong clock, and one that cannot reach the
    bucket or the result backend.
  - Never fails because of a worker; RV(problems) says what to do with which.
  - Runs on a host with the command line (a scheduler), as root, with the release's Python (set
    C(ansible_python_interpreter)).
options:
  workers:
    description: Name of each worker, and its private queue.
    type: dict
    required: true
  release:
    description: Release that the workers must run.
    type: str
    required: true
  clock_skew:
    description: Seconds that a worker's clock may differ from this host's.
    type: float
    default: 2
  timeout:
    description: Seconds until a worker that has not answered counts as one that does not work.
    type: int
    default: 180
extends_documentation_fragment:
  - airfield.metal.service_account
attributes:
  check_mode:
    support: full
    description: Starts no run and finds no problem.
  diff_mode:
    support: none
    description: Has nothing to show.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Prove two new workers
  airfield.metal.airflow_canary:
    workers: {worker3: canary.worker3, worker4: canary.worker4}
    release: "{{ airflow_release_id }}"
  vars:
    ansible_python_interpreter: /opt/airflow/current/bin/python
  register: canary
"""

RETURN = r"""
problems:
  description: What is wrong with each worker; an empty list where nothing is.
  returned: always
  type: dict
  sample: {worker3: [], worker4: ["its clock is 3600.2 s ahead of this host's."]}
runs:
  description: The run of the DAG for each worker.
  returned: always
  type: dict
"""

import hashlib
import hmac
import json
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import service_account

DAG = "airfield_canary"
FILE = "/opt/airflow/airfield/airfield_canary.py"
ENDED = ("success", "failed", "upstream_failed", "skipped", "removed")


def clock_problem(reported: float, first: float, last: float, skew: float) -> str:
    """Whether a clock that was read at a moment between two others (seconds of this host's clock) was wrong."""
    if reported > last + skew:
        return f"its clock is {reported - last:.1f} s ahead of this host's, at most {skew:g} s are allowed."
    if reported < first - skew:
        return f"its clock is {first - reported:.1f} s behind this host's, at most {skew:g} s are allowed."
    return ""


def find_problems(answer: dict[str, Any], here: dict[str, Any], release: str, skew: float, timeout: int) -> list[str]:
    """What is wrong with a worker by what its run came to, one sentence each."""
    report, state, run = answer["report"], answer["state"], answer["run"]
    if not report:
        if state in ENDED:
            return [f"its canary task {state} before it could report; read the log of run {run} of DAG {DAG}."]
        reason = (
            "the worker does not take it from its private queue"
            if state == "queued"
            else "the worker does not end it"
            if state
            else "the DAG processor has not brought in the DAG"
        )
        return [f"its canary task is {state or 'not there'} after {timeout} s: {reason} (run {run} of DAG {DAG})."]
    problems = [clock_problem(report["time"], answer["started"], answer["ended"], skew)]
    if report["release"] != release:
        problems.append(f"it runs release {report['release']}, the cluster has {release}.")
    for name, value in sorted(report["options"].items()):
        if value != here["options"].get(name):
            problems.append(
                "its option [{}] {} is {!r}, here it is {!r}.".format(*name.split(".", 1), value, here["options"].get(name))
            )
    if report["key"] != here["keys"][run]:
        problems.append("its secret airflow_api_secret_key is not the cluster's.")
    return [problem for problem in [*problems, *report["problems"]] if problem]


def run_canaries(queues: dict[str, str], timeout: int) -> dict[str, Any]:
    """Let a task run on each worker's queue and return what came of it. From here on Airflow is there, with its environment."""
    from airflow import __version__
    from airflow.configuration import conf

    airflow_2 = __version__.startswith("2.")
    deadline, started = time.monotonic() + timeout, time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    runs = {name: f"airfield__{stamp}__{name}" for name in queues}
    (create_runs_2 if airflow_2 else create_runs)({run: queues[name] for name, run in runs.items()}, deadline)
    (queue_tasks_2 if airflow_2 else queue_tasks)(list(runs.values()), deadline)
    answers = watch_runs(runs, deadline)
    names = {name for answer in answers.values() if answer["report"] for name in answer["report"]["options"]}
    key = conf.get("webserver" if airflow_2 else "api", "secret_key").encode()
    return {
        "workers": {name: {**answer, "started": started} for name, answer in answers.items()},
        "options": {name: conf.get(*name.split(".", 1), fallback="") for name in names},
        "keys": {run: hmac.new(key, run.encode(), hashlib.sha256).hexdigest() for run in runs.values()},
    }


def create_runs(queues: dict[str, str], deadline: float) -> None:
    """Create runs of the DAG as soon as it is known, with their tasks in a queue each; none where it comes too late.

    As the scheduler does it, whose own slots ([core] parallelism, pools) may be taken for hours.
    """
    from airflow.jobs.job import Job
    from airflow.models.dagbag import DBDagBag
    from airflow.utils import timezone
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    alive = select(Job.id).where(Job.job_type == "SchedulerJob", Job.state == "running").order_by(Job.latest_heartbeat.desc())
    while time.monotonic() < deadline:
        with create_session() as session:
            dag = DBDagBag().get_latest_version_of_dag(DAG, session=session)
            # It must hold the tasks for its own, or it would queue them once more.
            scheduler = session.scalars(alive).first()
            for run, queue in queues.items() if dag else ():
                now = timezone.utcnow()
                dag_run = dag.create_dagrun(
                    run_id=run,
                    run_after=now,
                    start_date=now,
                    run_type=DagRunType.MANUAL,
                    triggered_by=DagRunTriggeredByType.CLI,
                    state=DagRunState.RUNNING,
                    session=session,
                )
                for task in dag_run.get_task_instances(session=session):
                    task.queue, task.state, task.try_number = queue, TaskInstanceState.QUEUED, 1
                    task.queued_dttm, task.queued_by_job_id = now, scheduler
        if dag:
            return
        time.sleep(1)


def create_runs_2(queues: dict[str, str], deadline: float) -> None:
    """The same for Airflow 2, whose only folder is the operator's: the DAG comes from its file."""
    from datetime import timedelta

    from airflow.jobs.job import Job
    from airflow.models.dagbag import DagBag
    from airflow.utils import timezone
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunType
    from sqlalchemy import select

    bag = DagBag(FILE, include_examples=False)
    if bag.import_errors:
        raise RuntimeError(" ".join(bag.import_errors.values()))
    # What the DAG processor does not find in its own folder it would take for deleted.
    bag.sync_to_db(processor_subdir=os.path.dirname(FILE))
    alive = select(Job.id).where(Job.job_type == "SchedulerJob", Job.state == "running").order_by(Job.latest_heartbeat.desc())
    with create_session() as session:
        # It must hold the tasks for its own, or it would queue them once more.
        scheduler = session.scalars(alive).first()
        now = timezone.utcnow()
        for number, (run, queue) in enumerate(queues.items()):
            # No two runs of a DAG may have the same.
            date = now - timedelta(microseconds=number)
            dag_run = bag.dags[DAG].create_dagrun(
                run_id=run,
                execution_date=date,
                data_interval=(date, date),
                start_date=now,
                run_type=DagRunType.MANUAL,
                external_trigger=True,
                state=DagRunState.RUNNING,
                session=session,
            )
            for task in dag_run.get_task_instances(session=session):
                task.queue, task.state, task.try_number = queue, TaskInstanceState.QUEUED, 1
                task.queued_dttm, task.queued_by_job_id = now, scheduler


def queue_tasks_2(runs: list[str], deadline: float) -> None:
    """The same for Airflow 2, whose workers look once more for a free slot unless they are told not to."""
    from airflow.executors.executor_loader import ExecutorLoader
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    executor = ExecutorLoader.get_default_executor()
    with create_session() as session:
        for task in session.scalars(select(TaskInstance).where(TaskInstance.dag_id == DAG, TaskInstance.run_id.in_(runs))):
            command = task.command_as_list(local=True, ignore_all_deps=True, pool=task.pool)
            executor.queue_command(task, command, queue=task.queue)
        send(executor, deadline)


def queue_tasks(runs: list[str], deadline: float) -> None:
    """Give the tasks of the runs to Airflow's executor."""
    from airflow.executors.executor_loader import ExecutorLoader
    from airflow.executors.workloads import ExecuteTask
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    executor = ExecutorLoader.get_default_executor()
    with create_session() as session:
        for task in session.scalars(select(TaskInstance).where(TaskInstance.dag_id == DAG, TaskInstance.run_id.in_(runs))):
            executor.queue_workload(ExecuteTask.make(task, generator=executor.jwt_generator), session=session)
    send(executor, deadline)


def send(executor: Any, deadline: float) -> None:
    """Send all that the executor has; what took longer than [celery] operation_timeout it keeps for the next time."""
    while executor.queued_tasks and time.monotonic() < deadline:
        executor.trigger_tasks(len(executor.queued_tasks))


def watch_runs(runs: dict[str, str], deadline: float) -> dict[str, Any]:
    """State and report of each worker's run when it has ended, or when the time is over; then nothing of it is left to run."""
    from airflow.models import xcom as xcoms
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from sqlalchemy import select

    # Airflow 2 has it by another name, and deserializes the value when the row is loaded.
    BaseXCom = getattr(xcoms, "BaseXCom", None)  # noqa: N806
    XComModel: Any = getattr(xcoms, "XComModel", BaseXCom)  # noqa: N806
    answers: dict[str, Any] = {}
    while True:
        late = time.monotonic() > deadline
        with create_session() as session:
            tasks = {
                task.run_id: task
                for task in session.scalars(
                    select(TaskInstance).where(TaskInstance.dag_id == DAG, TaskInstance.run_id.in_(runs.values()))
                )
            }
            for name, run in runs.items():
                task = tasks.get(run)
                state = str(task.state or "") if task else ""
                if name in answers or not (state in ENDED or late):
                    continue
                xcom = session.scalars(
                    select(XComModel).where(XComModel.dag_id == DAG, XComModel.run_id == run, XComModel.key == "report")
                ).first()
                # As it is: Airflow's own way would make objects of the classes that a worker names, beside all secrets.
                report = xcom and xcom.value
                if isinstance(report, str):
                    report = json.loads(report)
                answers[name] = {"run": run, "state": state, "ended": time.time(), "report": report}
                if task and state not in ENDED:
                    # Else it would run whenever the worker comes to.
                    task.state, task.dag_run.state = TaskInstanceState.FAILED, DagRunState.FAILED
        if len(answers) == len(runs):
            return answers
        time.sleep(1)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **service_account.ARGUMENTS,
            "workers": {"type": "dict", "required": True},
            "release": {"type": "str", "required": True},
            "clock_skew": {"type": "float", "default": 2},
            "timeout": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode or not params["workers"]:
        module.exit_json(changed=False, problems={name: [] for name in params["workers"]}, runs={})
    # No processes of its own for so few messages.
    extra = {"AIRFLOW__CELERY__SYNC_PARALLELISM": "1"}
    try:
        here = service_account.call_airflow(module, extra, run_canaries, params["workers"], params["timeout"])
    except RuntimeError as error:
        module.fail_json(msg=f"No canary task could be started: {error}. Remedy: see whether the scheduler's database answers.")
    answers = here["workers"]
    module.exit_json(
        changed=True,
        problems={
            name: find_problems(answer, here, params["release"], params["clock_skew"], params["timeout"])
            for name, answer in answers.items()
        },
        runs={name: answer["run"] for name, answer in answers.items()},
    )


if __name__ == "__main__":
    main()
