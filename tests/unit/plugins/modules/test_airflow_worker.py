from __future__ import annotations

import json
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.modules import airflow_worker

RunModule = Callable[..., dict[str, Any]]
URL = "redis://:hunter2@redis1:6379/0"
NODE = "celery@worker1"


class Broker:
    """Stands in for Celery: the worker answers with these queues, one list an attempt, the last one for ever."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock = clock
        self.answers: list[list[str] | Exception | None] = []
        self.asked: list[list[str]] = []
        self.app: SimpleNamespace | None = None

    def __call__(self, broker: str) -> SimpleNamespace:
        self.app = SimpleNamespace(url=broker, conf=SimpleNamespace(), control=SimpleNamespace(inspect=self.inspect))
        return self.app

    def inspect(self, destination: list[str], timeout: float) -> SimpleNamespace:
        self.asked.append(destination)
        self.clock.sleep(timeout)
        return SimpleNamespace(active_queues=self.active_queues)

    def active_queues(self) -> dict[str, list[dict[str, str]]] | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return None if answer is None else {NODE: [{"name": name} for name in answer]}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> Broker:
    fake = Broker(clock)
    monkeypatch.setattr(airflow_worker, "Celery", fake, raising=False)
    monkeypatch.setattr(airflow_worker, "CELERY_ERROR", "")
    monkeypatch.setattr(airflow_worker, "time", clock)
    monkeypatch.setattr(socket, "gethostname", lambda: "worker1")
    return fake


def run(run_module: RunModule, **params: Any) -> dict[str, Any]:
    return run_module(airflow_worker, broker_url=URL, queues=["default", "worker1"], timeout=10, **params)


@pytest.mark.parametrize("check", [False, True])
def test_worker_that_consumes_its_queues_is_taken_at_once(run_module: RunModule, broker: Broker, check: bool) -> None:
    broker.answers = [["worker1", "other", "default"]]
    result = run(run_module, check=check, transport_options={"visibility_timeout": 60})
    assert result["changed"] is False
    assert (result["node"], result["queues"]) == (NODE, ["default", "other", "worker1"])
    assert broker.asked == [[NODE]]
    assert broker.app is not None
    assert broker.app.url == URL
    assert broker.app.conf.broker_transport_options == {"visibility_timeout": 60}


@pytest.mark.parametrize("first", [None, [], ["default"], ConnectionError("refused")])
def test_worker_that_is_not_ready_is_waited_for(run_module: RunModule, broker: Broker, first: Any) -> None:
    broker.answers = [first, ["default", "worker1"]]
    assert not run(run_module).get("failed")
    assert len(broker.asked) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "does not consume default, worker1 after 10 s (no answer from celery@worker1)."),
        ([], "does not consume default, worker1 after 10 s (it consumes nothing)."),
        (["default", "x"], "does not consume worker1 after 10 s (it consumes default, x)."),
        (ConnectionError("refused"), "does not consume default, worker1 after 10 s (the broker: refused)."),
    ],
)
def test_deaf_worker_fails_with_the_reason_and_its_journal(
    run_module: RunModule, broker: Broker, commands: Any, answer: Any, reason: str
) -> None:
    broker.answers = [answer]
    commands.answer = lambda words: f"Connected to {URL}\nboom\n"
    result = run(run_module)
    assert result["failed"]
    assert reason in result["msg"]
    assert result["msg"].endswith("Remedy: read its journal below.")
    assert result["journal"][1] == "boom"
    assert "hunter2" not in json.dumps(result)


def test_broker_error_shows_no_secret(run_module: RunModule, broker: Broker, commands: Any) -> None:
    broker.answers = [ConnectionError(f"cannot connect to {URL}")]
    result = run(run_module)
    assert "the broker: cannot connect to ****" in result["msg"]
    assert "hunter2" not in json.dumps(result)


def test_missing_celery_is_named(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_worker, "CELERY_ERROR", "ImportError")
    assert "celery" in run(run_module)["msg"]
