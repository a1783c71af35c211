from __future__ import annotations

import importlib.util
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow_worker/files/airfield_repeated_call.py"
NOW = datetime.now(UTC)
STAMP = NOW.isoformat().replace("+00:00", "Z")
TRIGGER = ("POST", "dag-runs/target/manual__1")
END = ("PATCH", "task-instances/01a/state")


class HTTPStatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.response, self.request = SimpleNamespace(status_code=status), "request"


class Server:
    """An API server that answers with a status, after some attempts without an answer; it has one run of a DAG."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.status, self.attempts, self.run = 409, 2, {}  # type: ignore[var-annotated]
        client = ModuleType("airflow.sdk.api.client")
        httpx = ModuleType("httpx")
        vars(httpx).update(
            HTTPStatusError=HTTPStatusError, Response=lambda status, request: SimpleNamespace(status_code=status)
        )

        def request(*args: Any, **kwargs: Any) -> Any:
            vars(request)["statistics"] = {"attempt_number": self.attempts}
            if self.status >= 400:
                raise HTTPStatusError(self.status)
            return SimpleNamespace(status_code=self.status)

        vars(request)["statistics"] = {}
        self.client = type("Client", (), {"request": request, "get": lambda *args: SimpleNamespace(json=lambda: self.run)})
        vars(client)["Client"] = self.client
        api = ModuleType("airflow.sdk.api")
        vars(api)["client"] = client
        for name, module in {"airflow": None, "airflow.sdk": None, "airflow.sdk.api": api, "httpx": httpx}.items():
            monkeypatch.setitem(sys.modules, name, module or ModuleType(name))
        spec = importlib.util.spec_from_file_location("airfield_repeated_call", FILE)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

    def answer(self, call: tuple[str, str], **asked: Any) -> int:
        status: int = self.client().request(*call, content=json.dumps(asked)).status_code
        return status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def test_repeated_trigger_of_the_run_that_it_made_is_done(server: Server) -> None:
    server.run = {"logical_date": STAMP, "conf": {"a": 1}, "start_date": None}
    assert server.answer(TRIGGER, logical_date=STAMP, conf={"a": 1}) == 204
    # It may have begun by now.
    server.run["start_date"] = datetime.now(UTC).isoformat()
    assert server.answer(TRIGGER, logical_date=STAMP, conf={"a": 1}) == 204


@pytest.mark.parametrize(
    "run",
    [
        {"logical_date": (NOW - timedelta(days=1)).isoformat(), "conf": {}},
        {"logical_date": STAMP, "conf": {"other": 1}},
        {"logical_date": STAMP, "conf": {}, "start_date": (NOW - timedelta(minutes=1)).isoformat()},
        {"logical_date": None, "conf": None},
    ],
    ids=["another date", "another conf", "begun before", "no date"],
)
def test_run_that_was_there_before_stays_a_conflict(server: Server, run: dict[str, Any]) -> None:
    server.run = run
    with pytest.raises(HTTPStatusError):
        server.answer(TRIGGER, logical_date=STAMP)


def test_first_attempt_is_told_of_the_conflict(server: Server) -> None:
    server.run, server.attempts = {"logical_date": STAMP, "conf": {}}, 1
    for call in (TRIGGER, END):
        with pytest.raises(HTTPStatusError):
            server.answer(call, logical_date=STAMP)


@pytest.mark.parametrize("status", [404, 409, 410])
def test_repeated_end_of_a_task_that_has_moved_on_is_done(server: Server, status: int) -> None:
    server.status = status
    assert server.answer(END) == 204


@pytest.mark.parametrize(
    ("call", "status"),
    [(END, 422), (TRIGGER, 404), (("PATCH", "task-instances/01a/run"), 409), (("PUT", "task-instances/01a/heartbeat"), 409)],
    ids=["wrong", "no such DAG", "begin", "heartbeat"],
)
def test_every_other_refusal_stands(server: Server, call: tuple[str, str], status: int) -> None:
    server.status = status
    with pytest.raises(HTTPStatusError):
        server.answer(call)


def test_answer_that_came_is_passed_on(server: Server) -> None:
    server.status = 200
    assert server.answer(TRIGGER) == 200
