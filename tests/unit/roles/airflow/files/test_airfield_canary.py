from __future__ import annotations

import hashlib
import hmac
import json
import runpy
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/airfield_canary.py"
RUN = "airfield__2026-01-01T00:00:00__worker1"
FOLDER = "s3://logs/prod"
KEY = f"prod/airfield_canary/{socket.gethostname()}"
RESULTS = "db+postgresql+psycopg2://results:hunter2@db1:5433/airflow_results"


class Configuration:
    """Airflow's configuration."""

    def __init__(self) -> None:
        self.options = {
            "api.secret_key": "the cluster's key",
            "core.executor": "CeleryExecutor",
            "logging.remote_logging": "True",
            "logging.remote_base_log_folder": FOLDER,
            "logging.remote_log_conn_id": "airflow_logs",
            "celery.result_backend": RESULTS,
        }

    def get(self, section: str, option: str, **fallback: str) -> str:
        return self.options.get(f"{section}.{option}", *fallback.values()) or ""

    def getboolean(self, section: str, option: str) -> bool:
        return self.get(section, option) == "True"


class Bucket:
    """The provider's hook, and what it has done."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], str] = {}
        self.read: list[tuple[str, str]] = []
        self.error: tuple[str, Exception] | None = None
        self.garbles = False
        self.arguments: dict[str, Any] = {}

    def __call__(self, **arguments: Any) -> Bucket:
        self.arguments = arguments
        self.fail_at("log in")
        return self

    def fail_at(self, step: str) -> None:
        if self.error and self.error[0] == step:
            raise self.error[1]

    @staticmethod
    def parse_s3_url(url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        return parts.netloc, parts.path.lstrip("/")

    def load_string(self, text: str, key: str, bucket_name: str, replace: bool) -> None:
        self.fail_at("write")
        assert replace  # a task may run twice
        self.objects[bucket_name, key] = text

    def read_key(self, key: str, bucket_name: str) -> str:
        self.fail_at("read")
        self.read.append((bucket_name, key))
        return "" if self.garbles else self.objects[bucket_name, key]

    def delete_objects(self, bucket: str, keys: str) -> None:
        self.fail_at("delete")
        del self.objects[bucket, keys]


class Results:
    """The database of Celery's results, through as much of SQLAlchemy as the task needs."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.logins: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    def make_url(self, url: str) -> SimpleNamespace:
        parts = urlsplit(url)
        return SimpleNamespace(
            text=url,
            get_backend_name=lambda: parts.scheme.partition("+")[0],
            host=parts.hostname,
            port=parts.port,
            database=parts.path[1:],
        )

    def create_engine(self, url: SimpleNamespace, connect_args: dict[str, Any]) -> SimpleNamespace:
        self.logins.append((url.text, connect_args))
        return SimpleNamespace(connect=lambda: self)

    def __enter__(self) -> SimpleNamespace:
        if self.error:
            raise self.error
        return SimpleNamespace(execute=self.statements.append)

    def __exit__(self, *error: object) -> None:
        return None


class Airflow:
    """What the DAG's file imports."""

    def __init__(self) -> None:
        self.conf = Configuration()
        self.bucket = Bucket()
        self.results = Results()
        self.dags: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, tuple[Callable[[], None], dict[str, Any]]] = {}
        self.xcoms: dict[str, Any] = {}

    def dag(self, **arguments: Any) -> Callable[..., Any]:
        def wrap(function: Callable[[], None]) -> Callable[[], None]:
            self.dags[function.__name__] = arguments
            return function

        return wrap

    def task(self, **arguments: Any) -> Callable[..., Any]:
        def wrap(function: Callable[[], None]) -> Callable[[], None]:
            def call() -> None:
                self.tasks[function.__name__] = (function, arguments)

            return call

        return wrap

    def context(self) -> dict[str, Any]:
        return {"run_id": RUN, "ti": SimpleNamespace(xcom_push=self.xcoms.__setitem__)}


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    fake = Airflow()
    modules: dict[str, dict[str, Any]] = {
        "airflow": {"__version__": "3.3.2"},
        "airflow.sdk": {"dag": fake.dag, "task": fake.task, "get_current_context": fake.context},
        "airflow.configuration": {"conf": fake.conf},
        "airflow.providers.amazon.aws.hooks.s3": {"S3Hook": fake.bucket},
        "botocore.config": {"Config": dict},
        "sqlalchemy": {"create_engine": fake.results.create_engine, "text": str},
        "sqlalchemy.engine": {"make_url": fake.results.make_url},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@pytest.fixture
def canary(airflow: Airflow) -> Any:
    """The DAG's file, as Airflow reads it."""
    return SimpleNamespace(**runpy.run_path(str(FILE)))


@pytest.fixture
def prove(canary: Any, airflow: Airflow) -> Callable[[], None]:
    """The task's function."""
    return airflow.tasks["prove"][0]


# The DAG ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("canary")
def test_dag_runs_only_when_it_is_asked_to(airflow: Airflow) -> None:
    (arguments,) = airflow.dags.values()
    assert list(airflow.dags) == ["airfield_canary"]
    assert (arguments["schedule"], arguments["is_paused_upon_creation"]) == (None, False)


@pytest.mark.usefixtures("canary")
def test_dag_has_one_task_that_is_tried_once(airflow: Airflow) -> None:
    ((function, arguments),) = airflow.tasks.values()
    assert arguments["retries"] == 0


# The task --------------------------------------------------------------------------------------------------------------


def test_task_reports_what_the_worker_is_like(
    prove: Callable[[], None], airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "releases/3.3.2-a").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/3.3.2-a")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "current"))
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    prove()
    report = json.loads(json.dumps(airflow.xcoms["report"]))
    options = report.pop("options")
    key = hmac.new(b"the cluster's key", RUN.encode(), hashlib.sha256).hexdigest()
    assert report == {"time": 1234.5, "release": "3.3.2-a", "key": key, "problems": []}
    assert options["core.executor"] == "CeleryExecutor"
    assert options["celery_broker_transport_options.visibility_timeout"] == ""
    assert "the cluster's key" not in json.dumps(airflow.xcoms)


def test_options_that_must_be_equal_exist(canary: Any) -> None:
    for path in (FILE.parent / "releases").glob("airflow-*.json"):
        known = json.loads(path.read_text())["options"]
        names = {f"{section}.{option}" for section, body in known.items() for option in body}
        missing = set(canary.SHARED_OPTIONS) - names
        only_3 = {"core.execution_api_server_url", "dag_processor.dag_bundle_config_list"}
        assert missing == (only_3 if path.name.startswith("airflow-2.") else set())


def test_key_of_airflow_2_is_in_another_section(canary: Any, airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["airflow"], "__version__", "2.11.2")
    airflow.conf.options["webserver.secret_key"] = airflow.conf.options.pop("api.secret_key")
    assert canary.look(RUN)["key"] == hmac.new(b"the cluster's key", RUN.encode(), hashlib.sha256).hexdigest()


def test_task_reports_what_is_wrong_and_then_fails(prove: Callable[[], None], airflow: Airflow) -> None:
    airflow.bucket.error = ("write", PermissionError("no"))
    airflow.results.error = ConnectionError("refused")
    with pytest.raises(RuntimeError) as error:
        prove()
    problems = airflow.xcoms["report"]["problems"]
    assert len(problems) == 2
    assert str(error.value) == " ".join(problems)


# The bucket ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "key"), [(FOLDER, KEY), (f"{FOLDER}/", KEY), ("s3://logs", KEY.removeprefix("prod/"))], ids=str
)
def test_object_is_written_read_and_deleted_again(canary: Any, airflow: Airflow, folder: str, key: str) -> None:
    airflow.conf.options["logging.remote_base_log_folder"] = folder
    assert canary.try_bucket(RUN) == ""
    assert airflow.bucket.read == [("logs", key)]
    assert airflow.bucket.objects == {}


@pytest.mark.parametrize(("connection", "given"), [("airflow_logs", "airflow_logs"), ("", None)])
def test_bucket_is_tried_with_the_worker_s_own_login_and_little_patience(
    canary: Any, airflow: Airflow, connection: str, given: str | None
) -> None:
    airflow.conf.options["logging.remote_log_conn_id"] = connection
    canary.try_bucket(RUN)
    assert airflow.bucket.arguments["aws_conn_id"] == given
    config = airflow.bucket.arguments["config"]
    assert config["connect_timeout"] + config["read_timeout"] <= 20
    assert config["retries"] == {"max_attempts": 1}


@pytest.mark.parametrize("step", ["log in", "write", "read", "delete"])
def test_bucket_that_refuses_is_a_problem(canary: Any, airflow: Airflow, step: str) -> None:
    airflow.bucket.error = (step, PermissionError("403 Forbidden"))
    said = canary.try_bucket(RUN)
    assert said.startswith(f"Logs cannot be kept in {FOLDER}: PermissionError: 403 Forbidden. Remedy: let there be this bucket")


def test_bucket_that_gives_back_something_else_is_a_problem(canary: Any, airflow: Airflow) -> None:
    airflow.bucket.garbles = True
    assert canary.try_bucket(RUN) == f"The bucket {FOLDER} gave back something else than was written."


@pytest.mark.parametrize(
    "options", [{"logging.remote_logging": "False"}, {"logging.remote_base_log_folder": "gs://logs"}], ids=str
)
def test_logs_that_are_kept_elsewhere_are_not_tried(
    canary: Any, airflow: Airflow, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.conf.options.update(options)
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.s3", None)  # nor is the provider needed
    assert canary.try_bucket(RUN) == ""


# The result backend ----------------------------------------------------------------------------------------------------


def test_worker_logs_in_to_the_result_backend(canary: Any, airflow: Airflow) -> None:
    assert canary.try_result_backend() == ""
    assert airflow.results.logins == [(RESULTS.removeprefix("db+"), {"connect_timeout": 10})]
    assert airflow.results.statements == ["select 1"]


@pytest.mark.parametrize("url", ["redis://:hunter2@redis1:6379/1", "rpc://", "db+sqlite:////tmp/results.db"])
def test_result_backend_of_another_kind_is_not_tried(canary: Any, airflow: Airflow, url: str) -> None:
    airflow.conf.options["celery.result_backend"] = url
    assert canary.try_result_backend() == ""
    assert airflow.results.logins == []


class OperationalError(Exception):
    """SQLAlchemy's, around the driver's."""

    def __init__(self, orig: Exception) -> None:
        super().__init__(
            f"(psycopg2.OperationalError) {orig} [SQL: select 1] (Background on this error at: https://sqlalche.me)"
        )
        self.orig = orig


@pytest.mark.parametrize("wrap", [OperationalError, lambda error: error], ids=["wrapped", "plain"])
def test_wrong_login_is_a_problem(canary: Any, airflow: Airflow, wrap: Callable[[Exception], Exception]) -> None:
    airflow.results.error = wrap(ConnectionError('password authentication failed for user "results"\n'))
    problem = canary.try_result_backend()
    assert problem == (
        'Celery\'s results cannot be kept at db1:5433/airflow_results: password authentication failed for user "results"'
    )
    assert "hunter2" not in problem
