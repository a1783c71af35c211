"""What the code of DAGs finds in its environment, and what is masked of the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from airfield_guard import environment

PASSWORD = "p'a\"s\\s@word/é"
QUOTED = "p%27a%22s%5Cs%40word%2F%C3%A9"
BROKER = f"redis://airflow:{QUOTED}@store1:6379/0"
LOGS = json.dumps({"conn_type": "aws", "login": "access-key-of-logs", "password": PASSWORD})
WORKER = {
    "PATH": "/usr/bin",
    "AIRFLOW__API__SECRET_KEY": "api-secret-key",
    "AIRFLOW__API__BASE_URL": "http://web1:8080",
    "AIRFLOW__CELERY__BROKER_URL": BROKER,
    "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": "{}",
    "AIRFLOW__CELERY__RESULT_BACKEND": "db+postgresql://airflow_results:x@store1/airflow_results",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__SENTINEL_KWARGS": '{"password": "of-the-sentinels"}',
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
    "AIRFLOW__SMTP__SMTP_PASSWORD": "of-the-mail-server",
    "AIRFLOW_CONN_AIRFLOW_LOGS": LOGS,
    "AIRFLOW_CONN_MINE": "postgresql://me:my-password@there/db",
}
SENSITIVE = environment.SENSITIVE | {"AIRFLOW__SMTP__SMTP_PASSWORD"}


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow that declares what it does, and a worker's environment."""
    monkeypatch.setattr(environment, "sensitive_names", lambda: SENSITIVE)
    monkeypatch.setattr(environment, "kept", {})
    for name, value in WORKER.items():
        monkeypatch.setenv(name, value)


def test_task_of_airflow_3_has_no_secret_of_the_worker() -> None:
    assert WORKER.keys() - environment.withdrawn(WORKER, SENSITIVE, environment.SECTIONS_3) == {
        "PATH",
        "AIRFLOW__API__BASE_URL",
        "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG",
        # Of its own use: mail, and connections that the operator has given it.
        "AIRFLOW__SMTP__SMTP_PASSWORD",
        "AIRFLOW_CONN_MINE",
    }


def test_task_of_airflow_2_keeps_its_database() -> None:
    names = {"AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY"}
    assert environment.withdrawn(names, SENSITIVE, environment.SECTIONS) == {"AIRFLOW__WEBSERVER__SECRET_KEY"}


def test_dag_file_and_trigger_have_no_key_of_the_database() -> None:
    names = {"AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "AIRFLOW__API_AUTH__JWT_SECRET"}
    assert environment.withdrawn(names, SENSITIVE, environment.SECTIONS_3) == names


@pytest.mark.parametrize(
    "printed",
    [
        BROKER,
        PASSWORD,
        QUOTED,
        str({"url": PASSWORD}),
        str([str({"url": PASSWORD})]),
        json.dumps({"url": PASSWORD}),
        LOGS,
        str({"AIRFLOW_CONN_AIRFLOW_LOGS": LOGS}),
        "access-key-of-logs",
        "of-the-sentinels",
        "of-the-mail-server",
        "my-password",
        "api-secret-key",
    ],
)
def test_secret_is_masked_as_it_is_printed(printed: str) -> None:
    for secret in sorted(environment.secrets(WORKER, SENSITIVE), key=len, reverse=True):
        printed = printed.replace(secret, "***")
    assert "***" in printed
    for part in ("word", "key-of", "of-the", "password@", "secret-key"):
        assert part not in printed.replace('"password": "***"', "")


def test_what_is_no_secret_is_not_masked() -> None:
    assert not {"sqlite://", "/usr/bin", "http://web1:8080", "{}", ""} & environment.secrets(WORKER, SENSITIVE)
    assert environment.secrets({"AIRFLOW__CELERY__BROKER_URL": "", "OTHER": "anything"}, SENSITIVE) == set()


@pytest.mark.usefixtures("airflow")
def test_environment_is_withdrawn_and_restored_for_the_canary() -> None:
    environment.withdraw(environment.SECTIONS_3)
    assert "AIRFLOW__CELERY__BROKER_URL" not in os.environ
    assert os.environ["AIRFLOW__SMTP__SMTP_PASSWORD"] == "of-the-mail-server"
    with environment.restored():
        assert os.environ["AIRFLOW__CELERY__BROKER_URL"] == BROKER
        assert os.environ["AIRFLOW_CONN_AIRFLOW_LOGS"] == LOGS
    assert "AIRFLOW__CELERY__BROKER_URL" not in os.environ


def test_kernel_shows_no_withdrawn_value_any_more() -> None:
    code = """
import os
from airfield_guard import environment
environment.sensitive_names = lambda: environment.SENSITIVE
before = open("/proc/self/environ").read()
environment.withdraw(environment.SECTIONS_3)
after = open("/proc/self/environ").read()
print("api-secret-key" in before, "api-secret-key" in after, os.environ["PATH"] in after)
print(os.popen("echo $PATH $AIRFLOW__API__SECRET_KEY").read())
"""
    paths = {"PYTHONPATH": os.path.dirname(os.path.dirname(environment.__file__)), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env={**WORKER, **paths}, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["True", "False", "True", "/usr/bin:/bin"]


def test_text_is_redacted_by_the_maskers_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.redact("secret-one secret-two") == "secret-one secret-two"
    for name, secret in zip(environment.MASKERS, ("secret-one", "secret-two"), strict=False):
        masker = SimpleNamespace(redact=lambda text, secret=secret: text.replace(secret, "***"))
        monkeypatch.setitem(sys.modules, name, masker)
    assert environment.redact("secret-one secret-two") == "*** ***"


class Subprocess:
    """Airflow's, as far as it is changed."""

    seen: list[Any]

    @classmethod
    def start(cls, **options: Any) -> Any:
        return cls, options


@pytest.mark.usefixtures("airflow")
def test_children_of_airflow_3_start_masked_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    class Task(Subprocess):
        pass

    masked: list[str] = []
    seen: list[dict[str, str]] = []
    monkeypatch.setitem(sys.modules, environment.MASKERS[0], SimpleNamespace(mask_secret=masked.append))
    supervisor = SimpleNamespace(WatchedSubprocess=Subprocess, _fork_main=lambda *arguments: seen.append(dict(os.environ)))
    monkeypatch.setattr(Subprocess, "start", Subprocess.__dict__["start"])
    environment.guard_children(supervisor)
    assert Task.start(what=1) == (Task, {"what": 1})
    assert BROKER in masked
    assert PASSWORD in masked
    supervisor._fork_main(1, 2)
    assert "AIRFLOW__CELERY__BROKER_URL" not in seen[0]
    assert seen[0]["AIRFLOW_CONN_MINE"] == WORKER["AIRFLOW_CONN_MINE"]


@pytest.mark.usefixtures("airflow")
def test_raw_task_of_airflow_2_runs_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: list[bool] = []
    monkeypatch.setattr(environment, "hide_memory", lambda: hidden.append(True))
    command: Any = SimpleNamespace(_run_raw_task=lambda *arguments: (arguments, "AIRFLOW__API__SECRET_KEY" in os.environ))
    environment.guard_raw_task(command)
    assert command._run_raw_task("args", "ti") == (("args", "ti"), False)
    assert hidden == [True]
    assert os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "sqlite://"


def test_task_command_of_airflow_3_is_left_alone() -> None:
    command: Any = SimpleNamespace()
    environment.guard_raw_task(command)
    assert vars(command) == {}
