"""Callbacks of a DAG's author: what they leave in the outbox, whatever context Airflow gives them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airfield_slack import SlackAlert, outbox

Left = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Left:
    """What was left in the outbox."""
    monkeypatch.setenv("AIRFIELD_SLACK_OUTBOX", str(tmp_path))
    return lambda: [json.loads(path.read_text()) for path in outbox.waiting()]


def context(**more: Any) -> dict[str, Any]:
    """What a task's own callback gets, in short; test_real_airflow has Airflow's own."""
    return {"dag": SimpleNamespace(dag_id="sales"), "run_id": "manual__1", "ti": SimpleNamespace(task_id="load"), **more}


def test_run_has_an_address_where_airflow_was_told_none(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow, configuration = ModuleType("airflow"), ModuleType("airflow.configuration")
    vars(airflow)["__version__"] = "3.3.2"
    vars(configuration)["conf"] = SimpleNamespace(get=lambda section, name, fallback: fallback)
    monkeypatch.setitem(sys.modules, "airflow", airflow)
    monkeypatch.setitem(sys.modules, "airflow.configuration", configuration)
    SlackAlert("#a").failure(context(reason="task_failure"))
    assert left()[0]["log_url"] == "http://localhost:8080/dags/sales/runs/manual__1"


def test_what_a_task_instance_lacks_is_left_out(left: Left) -> None:
    SlackAlert("#a").failure(context())
    (found,) = left()
    assert (found["try"], found["tries"], found["map_index"], found["log_url"]) == (1, 1, -1, "")


@pytest.mark.parametrize(
    ("exception", "reason"), [(ValueError(), "ValueError"), ("x" * 500, "x" * 500), ("x" * 501, "x" * 499 + "…")]
)
def test_reason_is_short(left: Left, exception: Any, reason: str) -> None:
    SlackAlert("#a").failure(context(exception=exception))
    assert left()[0]["reason"] == reason


class BadError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even a text")


@pytest.mark.parametrize("given", [{}, context(exception=BadError())])
def test_alert_never_costs_a_task_its_outcome(left: Left, given: dict[str, Any]) -> None:
    SlackAlert("#a").failure(given)
    assert left() == []


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
    SlackAlert("#a").failure(context())
    assert len(caplog.records) == 1
    assert not place.is_dir() or not list(place.iterdir())


def test_alerts_are_in_order_and_never_half(left: Left, tmp_path: Path) -> None:
    for number in range(20):
        SlackAlert("#a").failure(context(ti=SimpleNamespace(task_id="load", try_number=number)))
    (tmp_path / ".0001-half").write_text('{"id":')
    assert [found["try"] for found in left()] == list(range(20))
    assert {path.stat().st_mode & 0o777 for path in outbox.waiting()} == {0o600}


def test_reason_shows_no_secret_that_the_log_would_not_show(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    masker = SimpleNamespace(redact=lambda text: text.replace("my-password", "***"))
    monkeypatch.setitem(sys.modules, "airflow.sdk._shared.secrets_masker", masker)
    # Also where the text is cut within it.
    SlackAlert("#a").failure(context(exception="x" * 480 + "postgresql://me:my-password@there"))
    SlackAlert("#a").failure(context(exception=RuntimeError("cannot reach postgresql://me:my-password@there")))
    assert [alert["reason"] for alert in left()] == [
        "x" * 480 + "postgresql://me:***…",
        "RuntimeError: cannot reach postgresql://me:***@there",
    ]
