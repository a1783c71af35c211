"""The package as Airflow 3.3 and 2.11 themselves use it: what is in the outbox when real runs have ended, and what is refused.

Each version runs once, from an environment that is kept in .cache until its lock changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from airfield_slack.alert import LOST
from airfield_slack.button import Try
from airfield_slack.store import Store
from airfield_slack.untold import log_url

ROOT = Path(__file__).parents[6]
HERE = Path(__file__).parent / "real_airflow"
FILES = ROOT / "roles/airflow/files"

RUN = "manual__2026-11-25T19:00:00+00:00"
QUOTED_RUN = "manual__2026-11-25T19%3A00%3A00%2B00%3A00"
DATE = "2026-11-25T19:00:00+00:00"
BASE_URL = "http://web1:8080"

Alert = dict[str, Any]


@dataclass(frozen=True)
class Version:
    """What is not the same in both, beside the release's lock."""

    name: str
    log_url: str
    mapped: str
    run_url: str
    # What is told of a run without a logical date.
    undated: tuple[str, ...]
    # Whether a run's callback has its logical date where no task has made its end.
    date_without_task: str | None
    # How often it is called back that a task's host was lost, and what is said of it.
    tellings: int
    loss: Callable[[Alert], str]


def zombie(alert: Alert) -> str:
    """Airflow 2.11 has no other words."""
    index = {"Map Index": alert["map_index"]} if alert["map_index"] >= 0 else {}
    return str({"DAG Id": alert["dag"], "Task Id": alert["task"], "Run Id": alert["run"], **index})


AIRFLOW_3 = Version(
    name="3.3.2",
    log_url="/dags/{dag}/runs/{run}/tasks/{task}{mapped}?try_number={number}",
    mapped="/mapped/{index}",
    run_url="/dags/{dag}/runs/{run}",
    undated=("task", "run"),
    date_without_task=None,
    tellings=2,
    loss=lambda alert: LOST,
)
AIRFLOW_2 = Version(
    name="2.11.2",
    # Its pages have no address for a try: the log of the last one is shown, and the others are a click away.
    log_url="/dags/{dag}/grid?dag_run_id={run}&task_id={task}{mapped}&base_date=2026-11-25T19%3A00%3A00.000000%2B0000&tab=logs",
    mapped="&map_index={index}",
    run_url="/dags/{dag}/grid?dag_run_id={run}",
    # There is none.
    undated=(),
    date_without_task=DATE,
    tellings=1,
    loss=zombie,
)


def call(command: Sequence[str | Path], environment: dict[str, str]) -> str:
    """Run a program; returns its output, which is the reason where it fails."""
    done = subprocess.run(
        command, check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    return done.stdout


def uv(*arguments: str | Path) -> None:
    call(["uv", *arguments], {**os.environ, "UV_SYSTEM_CERTS": "1"})


def build(version: Version, scratch: Path) -> Path:
    """Python with an Airflow and all it needs."""
    venv = ROOT / f".cache/airflow-{version.name}"
    # Written last: an environment without it is half built.
    complete = venv / ".complete"
    release = FILES / f"releases/airflow-{version.name}-python3.11.lock"
    key = hashlib.sha256(release.read_bytes()).hexdigest()
    if not complete.exists() or complete.read_text() != key:
        uv("venv", "--quiet", "--clear", "--python", "3.11", venv)
        # These two are built from C sources, for which a machine may lack a compiler.
        left_out = ("--no-emit-package", "mysqlclient", "--no-emit-package", "python-ldap")
        lock = scratch / "lock"
        uv("pip", "compile", "--quiet", "--no-deps", "--generate-hashes", *left_out, "--output-file", lock, release)
        uv("pip", "sync", "--quiet", "--require-hashes", "--python", venv / "bin/python", lock)
        complete.write_text(key)
    return venv / "bin/python"


@dataclass(frozen=True)
class Outbox:
    version: Version
    alerts: list[Alert]

    def of(self, *dags: str, kind: str = "task") -> list[Alert]:
        return [alert for alert in self.alerts if alert["kind"] == kind and alert["dag"] in dags]


@dataclass(frozen=True)
class Release:
    """An Airflow with the package."""

    version: Version
    scratch: Path
    python: Path
    package: Path


@pytest.fixture(scope="module", params=[AIRFLOW_3, AIRFLOW_2], ids=lambda version: version.name)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Release:
    version: Version = request.param
    scratch = tmp_path_factory.mktemp(version.name)
    python = build(version, scratch)
    # Built as for a release, so that Airflow finds the policy by its entry point; never from a cache, which may be old.
    package = scratch / "package"
    options = ("--quiet", "--no-cache", "--offline", "--no-deps", "--python", python, "--target", package)
    uv("pip", "install", *options, FILES / "airfield_slack")
    return Release(version, scratch, python, package)


@pytest.fixture(scope="module")
def outbox(release: Release) -> Outbox:
    """All alerts of all runs."""
    version, scratch, python, package = release.version, release.scratch, release.python, release.package
    place = scratch / "outbox"
    place.mkdir()
    call(
        [python, HERE / "run.py", RUN, DATE],
        {
            "HOME": str(scratch),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(package),
            "AIRFLOW_HOME": str(scratch),
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__API__BASE_URL": f"{BASE_URL}/",
            "AIRFLOW__WEBSERVER__BASE_URL": BASE_URL,
            # Only so does 2.11's scheduler do without a DAG processor of its own.
            "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
            "AIRFIELD_SLACK_OUTBOX": str(place),
            "AIRFIELD_SLACK_DEFAULT_CHANNEL": "#all",
        },
    )
    return Outbox(version, [json.loads(path.read_text()) for path in sorted(place.glob("*.json"))])


def test_each_try_is_told_as_it_ended(outbox: Outbox) -> None:
    names = ("task", "map_index", "state", "try", "tries", "reason")
    found = [tuple(alert[name] for name in names) for alert in outbox.of("tasks")]
    no_rows = "ValueError: no rows"
    assert sorted(found) == [
        ("fails", -1, "failed", 1, 1, no_rows),
        ("fails_at_length", -1, "failed", 1, 1, "ValueError: " + 487 * "x" + "…"),
        ("fails_twice", -1, "failed", 2, 2, no_rows),
        # Somebody has cleared it.
        ("fails_twice", -1, "failed", 4, 4, no_rows),
        ("fails_twice", -1, "up_for_retry", 1, 2, no_rows),
        ("fails_twice", -1, "up_for_retry", 3, 4, no_rows),
        ("mapped", 0, "success", 1, 1, ""),
        ("mapped", 1, "failed", 1, 1, no_rows),
        ("works", -1, "success", 1, 1, ""),
    ]
    assert {alert["channel"] for alert in outbox.of("tasks")} == {"#own"}


def test_run_is_told_as_it_ended(outbox: Outbox) -> None:
    names = ("dag", "state", "reason", "logical_date", "channel")
    found = [tuple(alert[name] for name in names) for alert in outbox.of("tasks", "succeeds", "skips", kind="run")]
    assert sorted(found) == [
        ("skips", "success", "success", outbox.version.date_without_task, "#own"),
        ("succeeds", "success", "success", DATE, "#own"),
        # The first time, and again after a task of it was cleared.
        *2 * [("tasks", "failed", "task_failure", DATE, "#own")],
    ]


def test_lost_task_is_told_once(outbox: Outbox) -> None:
    alerts = outbox.of("lost")
    names = ("task", "map_index", "state", "try", "tries", "channel")
    losses = [
        ("by_policy", -1, "failed", 1, 1, "#all"),
        ("mapped", 0, "failed", 1, 1, "#own"),
        ("mapped", 1, "failed", 1, 1, "#own"),
        ("once", -1, "failed", 1, 1, "#own"),
        ("twice", -1, "failed", 2, 2, "#own"),
        ("twice", -1, "up_for_retry", 1, 2, "#own"),
    ]
    assert sorted(tuple(alert[name] for name in names) for alert in alerts) == sorted(losses * outbox.version.tellings)
    assert [alert["reason"] for alert in alerts] == [outbox.version.loss(alert) for alert in alerts]
    store = Store(":memory:")
    assert sum(store.add(alert, 0.0) for alert in alerts) == len(losses)


@pytest.mark.parametrize(
    ("dag", "channels"),
    [
        ("policy_default", {("plain", "#all"), ("mapped", "#all"), ("own", "#own")}),
        ("policy_off", set()),
        ("policy_tag", {("plain", "#other")}),
        ("policy_param", {("plain", "#param")}),
    ],
)
def test_policy_gives_each_task_its_channel(outbox: Outbox, dag: str, channels: set[tuple[str, str]]) -> None:
    assert {(alert["task"], alert["channel"]) for alert in outbox.of(dag)} == channels


def test_run_without_a_logical_date_has_none(outbox: Outbox) -> None:
    found = [(alert["kind"], alert["run"], alert["logical_date"]) for alert in outbox.alerts if alert["dag"] == "undated"]
    assert found == [(kind, RUN, None) for kind in outbox.version.undated]


def test_every_other_alert_has_run_and_date(outbox: Outbox) -> None:
    alerts = [alert for alert in outbox.alerts if alert["dag"] != "undated"]
    assert {alert["run"] for alert in alerts} == {RUN}
    assert {alert["logical_date"] for alert in alerts if alert["kind"] == "task"} == {DATE}


def test_every_alert_opens_its_page(outbox: Outbox) -> None:
    for alert in outbox.alerts:
        path = outbox.version.run_url
        values = {"dag": alert["dag"], "run": QUOTED_RUN}
        if alert["kind"] == "task":
            path = outbox.version.log_url
            mapped = outbox.version.mapped.format(index=alert["map_index"]) if alert["map_index"] >= 0 else ""
            values |= {"task": alert["task"], "mapped": mapped, "number": alert["try"]}
        assert alert["log_url"] == BASE_URL + path.format(**values)


@pytest.mark.parametrize("release", [AIRFLOW_3], indirect=True, ids=[AIRFLOW_3.name])
def test_what_no_callback_tells_has_the_same_page(outbox: Outbox) -> None:
    tries = [Try(alert["dag"], alert["run"], alert["task"], alert["map_index"], alert["try"]) for alert in outbox.of("tasks")]
    assert [log_url(BASE_URL, what) for what in tries] == [alert["log_url"] for alert in outbox.of("tasks")]


@pytest.fixture(scope="module")
def guarded(release: Release) -> dict[str, Any]:
    """What came of what a worker may write."""
    home = release.scratch / "guarded"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(release.package), "AIRFLOW_HOME": str(home)}
    said = call([release.python, HERE / "guard.py", home], environment)
    return dict(json.loads(said.splitlines()[-1]))


def test_nothing_that_a_worker_wrote_was_executed(guarded: dict[str, Any]) -> None:
    assert guarded["executed"] is False


def test_results_are_data(guarded: dict[str, Any]) -> None:
    assert guarded["rows"] == {
        "pickle": ["STARTED", "None"],
        "garbage": ["SUCCESS", "None"],
        "deep": ["SUCCESS", "None"],
        "digits": ["SUCCESS", "None"],
        "named": ["FAILURE", ANY],
        "text": ["FAILURE", "Exception('text')"],
        "retry": ["RETRY", "Exception('[1]')"],
        "nothing": ["FAILURE", "None"],
        # Pickles of a worker that has no guard yet: their states count.
        "old started": ["STARTED", "None"],
        "old failure": ["FAILURE", "None"],
        "new started": ["STARTED", "{'pid': 1}"],
        "new failure": ["FAILURE", "Exception('ValueError: no rows, 1')"],
        "missing": ["PENDING", "None"],
    }
    assert guarded["rows"]["named"][1].startswith("Exception('system: touch ")
    assert guarded["group"] is None
    assert guarded["then"] == "SUCCESS"


def test_only_triggers_and_exceptions_are_made(guarded: dict[str, Any]) -> None:
    assert guarded["trigger"] == "<class 'airflow.triggers.base.BaseTrigger'>"
    assert "AirflowException('x')" in guarded["exception"]
    for name in ("no trigger", "no exception", "no builtin exception", "trigger in arguments"):
        assert guarded[name].startswith(("TypeError: ", "DeserializationError: ")), guarded[name]


def test_log_server_has_no_page_about_itself(guarded: dict[str, Any]) -> None:
    assert guarded["log server"] == ["/log"]
