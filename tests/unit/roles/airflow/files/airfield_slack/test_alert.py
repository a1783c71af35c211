"""Callbacks of a DAG's author: what they leave in the outbox, whatever context Airflow gives them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airfield_slack import SlackAlert, alert, outbox

DATE = datetime(2026, 11, 25, 19, 0, tzinfo=UTC)
Left = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Left:
    """What was left in the outbox."""
    monkeypatch.setenv("AIRFIELD_SLACK_OUTBOX", str(tmp_path))
    return lambda: [json.loads(path.read_text()) for path in outbox.waiting()]


def instance(**attributes: Any) -> SimpleNamespace:
    """A task instance as a task's own callback has it."""
    usual = {"dag_id": "sales", "run_id": "manual__1", "task_id": "load", "map_index": -1, "try_number": 2, "max_tries": 1}
    return SimpleNamespace(
        **usual | {"log_url": "http://web1:8080/dags/sales/runs/manual__1/tasks/load?try_number=2"} | attributes
    )


def test_failure_says_what_has_failed(left: Left) -> None:
    context = {"ti": instance(), "task_instance": instance(), "logical_date": DATE, "exception": ValueError("no rows")}
    SlackAlert("#data-alerts").failure(context)
    (found,) = left()
    assert {name: found[name] for name in found if name not in ("id", "time", "host")} == {
        "kind": "task",
        "channel": "#data-alerts",
        "state": "failed",
        "dag": "sales",
        "run": "manual__1",
        "task": "load",
        "map_index": -1,
        "try": 2,
        "tries": 2,
        "logical_date": "2026-11-25T19:00:00+00:00",
        "reason": "ValueError: no rows",
        "log_url": "http://web1:8080/dags/sales/runs/manual__1/tasks/load?try_number=2",
    }


@pytest.mark.parametrize(("method", "state"), [("failure", "failed"), ("success", "success"), ("retry", "up_for_retry")])
def test_each_callback_has_its_state(left: Left, method: str, state: str) -> None:
    getattr(SlackAlert("#a"), method)({"ti": instance()})
    assert [found["state"] for found in left()] == [state]


def test_run_without_a_logical_date_has_none(left: Left) -> None:
    # Airflow 3: the key is not there at all.
    SlackAlert("#a").failure({"ti": instance(), "dag_run": SimpleNamespace(logical_date=None)})
    assert left()[0]["logical_date"] is None


def test_context_of_airflow_2_has_its_date_in_the_run(left: Left) -> None:
    SlackAlert("#a").failure({"ti": instance(map_index=3), "dag_run": SimpleNamespace(logical_date=DATE), "exception": "text"})
    (found,) = left()
    assert (found["logical_date"], found["map_index"], found["reason"]) == (DATE.isoformat(), 3, "text")


class Partial:
    """The task instance in a DAG's callback in Airflow 3: some attributes raise."""

    dag_id, run_id, task_id, max_tries, state = "sales", "manual__1", "load", 0, None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@pytest.mark.parametrize(
    ("version", "base_url", "url"),
    [
        ("3.3.2", ("api", "http://web1:8080/"), "http://web1:8080/dags/sales/runs/manual__1%2B00"),
        ("2.11.2", ("webserver", "http://web1:8080"), "http://web1:8080/dags/sales/grid?dag_run_id=manual__1%2B00"),
    ],
)
def test_callback_of_a_dag_tells_of_the_run(
    left: Left, monkeypatch: pytest.MonkeyPatch, version: str, base_url: tuple[str, str], url: str
) -> None:
    airflow, configuration = ModuleType("airflow"), ModuleType("airflow.configuration")
    vars(airflow)["__version__"] = version
    options = {(base_url[0], "base_url"): base_url[1]}
    vars(configuration)["conf"] = SimpleNamespace(get=lambda section, name, fallback=None: options[section, name])
    monkeypatch.setitem(sys.modules, "airflow", airflow)
    monkeypatch.setitem(sys.modules, "airflow.configuration", configuration)
    ti = Partial()
    ti.__dict__["run_id"] = "manual__1+00"
    SlackAlert("#a").failure({"ti": ti, "reason": "task_failure", "run_id": "manual__1+00"})
    (found,) = left()
    assert (found["kind"], found["dag"], found["run"], found["reason"]) == ("run", "sales", "manual__1+00", "task_failure")
    assert found["log_url"] == url
    assert "task" not in found


def test_attributes_that_raise_are_left_out(left: Left) -> None:
    SlackAlert("#a").failure({"ti": Partial()})
    (found,) = left()
    assert (found["try"], found["tries"], found["map_index"], found["log_url"]) == (1, 1, -1, "")


def test_long_reason_is_cut(left: Left) -> None:
    SlackAlert("#a").failure({"ti": instance(), "exception": ValueError("x" * 10_000)})
    assert len(left()[0]["reason"]) == alert.REASON


class BadError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even a text")


@pytest.mark.parametrize("context", [{}, {"ti": instance(), "exception": BadError()}])
def test_alert_never_costs_a_task_its_outcome(left: Left, context: dict[str, Any]) -> None:
    SlackAlert("#a").failure(context)


@pytest.mark.parametrize("broken", ["absent", "file", "full"])
def test_outbox_that_takes_nothing_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    place = tmp_path / "outbox"
    if broken == "file":
        place.write_text("")
    if broken == "full":
        place.mkdir()
        monkeypatch.setattr(outbox, "MOST", 0)
    monkeypatch.setenv("AIRFIELD_SLACK_OUTBOX", str(place))
    SlackAlert("#a").failure({"ti": instance()})
    assert len(caplog.records) == 1
    assert not place.is_dir() or not list(place.iterdir())


def test_alerts_are_in_order_and_never_half(left: Left, tmp_path: Path) -> None:
    for number in range(20):
        SlackAlert("#a").failure({"ti": instance(try_number=number)})
    (tmp_path / ".0001-half").write_text('{"id":')
    assert [found["try"] for found in left()] == list(range(20))
    assert {path.stat().st_mode & 0o777 for path in outbox.waiting()} == {0o600}
