from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import service_account
from ansible_collections.airfield.metal.plugins.modules import airflow_canary

RunModule = Callable[..., dict[str, Any]]
URL = "postgresql://airflow:hunter2@db1/airflow"
RELEASE = "3.3.2-a"
RUN = "airfield__2026-01-01T00:00:00__worker1"


@pytest.mark.parametrize(
    ("reported", "problem"),
    [
        (98.0, ""),
        (100.0, ""),
        (110.0, ""),
        (112.0, ""),
        (97.9, "its clock is 2.1 s behind this host's, at most 2 s are allowed."),
        (112.1, "its clock is 2.1 s ahead of this host's, at most 2 s are allowed."),
        (3710.0, "its clock is 3600.0 s ahead of this host's, at most 2 s are allowed."),
    ],
)
def test_clock_is_wrong_when_it_was_read_neither_before_nor_after(reported: float, problem: str) -> None:
    assert airflow_canary.clock_problem(reported, 100.0, 110.0, 2.0) == problem


def report(**changes: Any) -> dict[str, Any]:
    """What the task of a worker with which nothing is wrong returns."""
    options = {"core.executor": "CeleryExecutor", "logging.remote_logging": "True"}
    return {"time": 105.0, "release": RELEASE, "options": options, "key": "hash", "problems": [], **changes}


def answer(report: dict[str, Any] | None, state: str = "success") -> dict[str, Any]:
    return {"run": RUN, "state": state, "started": 100.0, "ended": 110.0, "report": report}


HERE: dict[str, Any] = {
    "options": {"core.executor": "CeleryExecutor", "logging.remote_logging": "True"},
    "keys": {RUN: "hash", "another": "another hash"},
}


def problems(answer: dict[str, Any]) -> list[str]:
    found: list[str] = airflow_canary.find_problems(answer, HERE, RELEASE, skew=2.0, timeout=60)
    return found


@pytest.mark.parametrize("state", ["success", "failed", "running"])
def test_nothing_is_wrong_with_a_worker_that_reports_what_this_host_has(state: str) -> None:
    assert problems(answer(report(), state)) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"time": 205.0}, ["its clock is 95.0 s ahead of this host's, at most 2 s are allowed."]),
        ({"time": 5.0}, ["its clock is 95.0 s behind this host's, at most 2 s are allowed."]),
        ({"release": "3.3.1-b"}, ["it runs release 3.3.1-b, the cluster has 3.3.2-a."]),
        (
            {"options": {"logging.remote_logging": "False", "core.executor": "LocalExecutor"}},
            [
                "its option [core] executor is 'LocalExecutor', here it is 'CeleryExecutor'.",
                "its option [logging] remote_logging is 'False', here it is 'True'.",
            ],
        ),
        ({"options": {"core.a.b": "x"}}, ["its option [core] a.b is 'x', here it is None."]),
        ({"key": "another hash"}, ["its secret airflow_api_secret_key is not the cluster's."]),
        ({"problems": ["The bucket is away.", "So is the database."]}, ["The bucket is away.", "So is the database."]),
    ],
)
def test_each_thing_that_is_wrong_is_named(changes: dict[str, Any], found: list[str]) -> None:
    assert problems(answer(report(**changes))) == found


def test_all_that_is_wrong_is_named_at_once() -> None:
    assert len(problems(answer(report(time=0.0, release="x", key="x", problems=["y"])))) == 4


@pytest.mark.parametrize("state", ["failed", "success", "upstream_failed", "skipped", "removed"])
def test_task_that_ended_without_a_report_has_a_log(state: str) -> None:
    assert problems(answer(None, state)) == [
        f"its canary task {state} before it could report; read the log of run {RUN} of DAG airfield_canary."
    ]


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("", "not there after 60 s: the DAG processor has not brought in the DAG "),
        ("queued", "queued after 60 s: the worker does not take it from its private queue "),
        ("running", "running after 60 s: the worker does not end it "),
        ("restarting", "restarting after 60 s: the worker does not end it "),
    ],
)
def test_task_that_did_not_end_tells_by_its_state_who_is_to_blame(state: str, found: str) -> None:
    (problem,) = problems(answer(None, state))
    assert problem.startswith(f"its canary task is {found}")
    assert problem.endswith(f"(run {RUN} of DAG airfield_canary).")


# The module ------------------------------------------------------------------------------------------------------------

WORKERS = {"worker1": "canary.worker1", "worker2": "canary.worker2"}


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The account in which Airflow is imported: `answer` is what comes back, or the text of its error."""
    fake = SimpleNamespace(answer={}, calls=[], secrets=tmp_path / "cli.env")
    fake.secrets.write_text(f'AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="{URL}"\nAIRFLOW__EMPTY__OPTION=""\n')

    def call_as(*arguments: Any) -> Any:
        fake.calls.append(arguments)
        if isinstance(fake.answer, str):
            raise RuntimeError(fake.answer)
        return fake.answer

    monkeypatch.setattr(service_account, "call_as", call_as)
    return fake


@pytest.fixture
def run(run_module: RunModule, airflow: SimpleNamespace) -> RunModule:
    def run(workers: dict[str, str], check: bool = False) -> dict[str, Any]:
        arguments = {"release": RELEASE, "timeout": 60, "account": "somebody", "config": "/etc/a.cfg"}
        environment_file = str(airflow.secrets)
        return run_module(airflow_canary, check=check, workers=workers, environment_file=environment_file, **arguments)

    return run


def test_each_worker_is_judged_by_its_own_run(run: RunModule, airflow: SimpleNamespace) -> None:
    airflow.answer = {
        "workers": {
            "worker1": answer(report()),
            "worker2": {**answer(report(key="another hash", release="x")), "run": "another"},
        },
        **HERE,
    }
    result = run(WORKERS)
    assert result["changed"]
    assert result["problems"] == {"worker1": [], "worker2": ["it runs release x, the cluster has 3.3.2-a."]}
    assert result["runs"] == {"worker1": RUN, "worker2": "another"}


def test_airflow_gets_the_secrets_of_the_command_line(run: RunModule, airflow: SimpleNamespace) -> None:
    airflow.answer = {"workers": {}, "options": {}, "keys": {}}
    run(WORKERS)
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": URL,
        "AIRFLOW__EMPTY__OPTION": "",
        "AIRFLOW_CONFIG": "/etc/a.cfg",
        "AIRFLOW_HOME": "/var/lib/airflow",
        "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
    }
    assert airflow.calls == [("somebody", environment, airflow_canary.run_canaries, WORKERS, 60)]


@pytest.mark.parametrize(("workers", "check"), [(WORKERS, True), ({}, False)], ids=["check mode", "no workers"])
def test_nothing_is_started_in_check_mode_or_without_workers(
    run: RunModule, airflow: SimpleNamespace, workers: dict[str, str], check: bool
) -> None:
    result = run(workers, check=check)
    assert (result["changed"], result["problems"], result["runs"]) == (False, {name: [] for name in workers}, {})
    assert airflow.calls == []


def test_failure_of_airflow_is_told_without_its_secrets(run: RunModule, airflow: SimpleNamespace) -> None:
    airflow.answer = f"bad URL {URL}"
    result = run(WORKERS)
    assert result["failed"]
    assert result["msg"].startswith("No canary task could be started: bad URL ********. Remedy: ")
    assert "hunter2" not in json.dumps(result)


class SlowExecutor:
    """Gives up the first sendings, as Airflow's does after a second, and keeps what it has not sent."""

    def __init__(self, failures: int) -> None:
        self.queued_tasks, self.failures = {"one": 1, "two": 2}, failures

    def trigger_tasks(self, slots: int) -> None:
        assert slots == len(self.queued_tasks)
        if self.failures:
            self.failures -= 1
        else:
            self.queued_tasks.popitem()


def test_message_that_took_too_long_is_sent_again() -> None:
    executor = SlowExecutor(failures=2)
    airflow_canary.send(executor, time.monotonic() + 60)
    assert not executor.queued_tasks


def test_sending_ends_with_the_time() -> None:
    executor = SlowExecutor(failures=10**9)
    airflow_canary.send(executor, time.monotonic() + 0.1)
    assert len(executor.queued_tasks) == 2


# Airflow 2 -------------------------------------------------------------------------------------------------------------


class Column:
    """An attribute of a model in a query."""

    def __eq__(self, other: object) -> Any:
        return True

    def in_(self, values: Any) -> bool:
        return True

    def desc(self) -> Column:
        return self

    __hash__ = None  # type: ignore[assignment]


class Airflow2:
    """As much of Airflow 2 as the module uses."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.read: list[tuple[str, bool]] = []
        self.synced: list[str] = []
        self.runs: list[dict[str, Any]] = []
        self.tasks: list[Any] = []
        self.queued_tasks: dict[str, tuple[list[str], str]] = {}
        self.sent: list[tuple[list[str], str]] = []

    def read_bag(self, path: str, include_examples: bool) -> Any:
        self.read.append((path, include_examples))
        dag = SimpleNamespace(create_dagrun=self.create_dagrun)
        return SimpleNamespace(
            import_errors=self.errors,
            dags={"airfield_canary": dag},
            sync_to_db=self.sync,
        )

    def sync(self, processor_subdir: str) -> None:
        self.synced.append(processor_subdir)

    def create_dagrun(self, **arguments: Any) -> Any:
        self.runs.append(arguments)
        task = SimpleNamespace(run_id=arguments["run_id"], pool="default_pool")
        task.command_as_list = lambda **options: ["airflow", "tasks", "run", task.run_id, options]
        self.tasks.append(task)
        return SimpleNamespace(get_task_instances=lambda session: [task])

    def queue_command(self, task: Any, command: list[str], queue: str) -> None:
        self.queued_tasks[task.run_id] = (command, queue)

    def trigger_tasks(self, slots: int) -> None:
        self.sent += self.queued_tasks.values()
        self.queued_tasks = {}

    def __enter__(self) -> Any:
        return SimpleNamespace(scalars=lambda rows: SimpleNamespace(first=lambda: 7) if rows == "jobs" else self.tasks)

    def __exit__(self, *dummy: object) -> None:
        pass


@pytest.fixture
def airflow_2(monkeypatch: pytest.MonkeyPatch) -> Airflow2:
    fake = Airflow2()
    job = SimpleNamespace(id=Column(), job_type=Column(), state=Column(), latest_heartbeat=Column())
    instance = SimpleNamespace(dag_id=Column(), run_id=Column())

    def select(what: Any) -> Any:
        rows = "jobs" if what is job.id else "tasks"
        query: Any = SimpleNamespace(where=lambda *conditions: query, order_by=lambda column: rows)
        return query

    modules: dict[str, dict[str, Any]] = {
        "airflow": {},
        "airflow.executors": {},
        "airflow.executors.executor_loader": {"ExecutorLoader": SimpleNamespace(get_default_executor=lambda: fake)},
        "airflow.jobs": {},
        "airflow.jobs.job": {"Job": job},
        "airflow.models": {},
        "airflow.models.dagbag": {"DagBag": fake.read_bag},
        "airflow.models.taskinstance": {"TaskInstance": instance},
        "airflow.utils": {"timezone": SimpleNamespace(utcnow=lambda: datetime(2026, 1, 1, tzinfo=UTC))},
        "airflow.utils.session": {"create_session": lambda: fake},
        "airflow.utils.state": {
            "DagRunState": SimpleNamespace(RUNNING="running"),
            "TaskInstanceState": SimpleNamespace(QUEUED="queued"),
        },
        "airflow.utils.types": {"DagRunType": SimpleNamespace(MANUAL="manual")},
        "sqlalchemy": {"select": select},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def test_runs_of_airflow_2_come_from_the_dag_s_file(airflow_2: Airflow2) -> None:
    airflow_canary.create_runs_2({"one": "canary.worker1", "two": "canary.worker2"}, 0.0)
    assert airflow_2.read == [("/opt/airflow/airfield/airfield_canary.py", False)]
    assert airflow_2.synced == ["/opt/airflow/airfield"]
    assert [(run["run_id"], run["state"]) for run in airflow_2.runs] == [("one", "running"), ("two", "running")]
    # Unique in Airflow 2.
    assert len({run["execution_date"] for run in airflow_2.runs}) == 2
    assert [(task.queue, task.state, task.try_number, task.queued_by_job_id) for task in airflow_2.tasks] == [
        ("canary.worker1", "queued", 1, 7),
        ("canary.worker2", "queued", 1, 7),
    ]


def test_file_that_airflow_2_cannot_read_is_told(airflow_2: Airflow2) -> None:
    airflow_2.errors["airfield_canary.py"] = "no module"
    with pytest.raises(RuntimeError, match="no module"):
        airflow_canary.create_runs_2({"one": "canary.worker1"}, 0.0)


def test_tasks_of_airflow_2_wait_for_no_slot(airflow_2: Airflow2) -> None:
    airflow_canary.create_runs_2({"one": "canary.worker1"}, 0.0)
    airflow_canary.queue_tasks_2(["one"], time.monotonic() + 5)
    options = {"local": True, "ignore_all_deps": True, "pool": "default_pool"}
    assert airflow_2.sent == [(["airflow", "tasks", "run", "one", options], "canary.worker1")]


@pytest.mark.parametrize(("version", "section"), [("3.3.2", "api"), ("2.11.2", "webserver")])
def test_version_decides_who_makes_the_runs(monkeypatch: pytest.MonkeyPatch, version: str, section: str) -> None:
    calls: list[str] = []
    asked: list[str] = []

    def get(section: str, option: str, **fallback: str) -> str:
        asked.append(f"{section}.{option}")
        return "key"

    airflow, configuration = ModuleType("airflow"), ModuleType("airflow.configuration")
    vars(airflow)["__version__"] = version
    vars(configuration)["conf"] = SimpleNamespace(get=get)
    monkeypatch.setitem(sys.modules, "airflow", airflow)
    monkeypatch.setitem(sys.modules, "airflow.configuration", configuration)
    for name in ("create_runs", "create_runs_2", "queue_tasks", "queue_tasks_2"):
        monkeypatch.setattr(airflow_canary, name, lambda *arguments, name=name: calls.append(name))
    monkeypatch.setattr(airflow_canary, "watch_runs", lambda *arguments: {"worker1": answer(None)})
    airflow_canary.run_canaries(WORKERS, 60)
    suffix = "_2" if version.startswith("2.") else ""
    assert calls == [f"create_runs{suffix}", f"queue_tasks{suffix}"]
    assert asked == [f"{section}.secret_key"]
