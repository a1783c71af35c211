"""Alerts for every DAG: who gets which channel."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airfield_slack import SlackAlert

Apply = Callable[..., Any]


@pytest.fixture
def apply(monkeypatch: pytest.MonkeyPatch) -> Apply:
    """Give the policy a task; returns its failure callbacks, ours by their channels."""
    contents: dict[str, dict[str, Any]] = {"airflow": {}, "airflow.policies": {"hookimpl": lambda function: function}}
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    policy = importlib.import_module("airfield_slack.policy")

    def apply(default: str = "#all", callback: Any = (), **dag: Any) -> Any:
        monkeypatch.setenv("AIRFIELD_SLACK_DEFAULT_CHANNEL", default)
        task = SimpleNamespace(on_failure_callback=callback, dag=SimpleNamespace(**{"tags": set(), "params": {}, **dag}))
        policy.task_policy(task)
        return [
            found.__self__.channel if getattr(found, "__func__", None) is SlackAlert.failure else found
            for found in task.on_failure_callback
        ]

    return apply


def test_every_task_alerts_the_default_channel(apply: Apply) -> None:
    assert apply() == ["#all"]


def test_nothing_is_done_without_a_default_channel(apply: Apply) -> None:
    assert apply(default="") == []


def test_task_keeps_a_callback_of_its_own(apply: Apply) -> None:
    assert apply(callback=["mine"]) == ["mine"]


@pytest.mark.parametrize(
    ("dag", "channel"),
    [
        ({"tags": {"slack:#team", "daily"}}, "#team"),
        ({"tags": ["slack:C0123"]}, "C0123"),
        ({"params": {"slack_channel": "#team"}}, "#team"),
        ({"tags": {"slack:#tag"}, "params": {"slack_channel": "#param"}}, "#tag"),
        ({"tags": None, "params": None}, "#all"),
        ({"tags": {"slack"}}, "#all"),
    ],
)
def test_dag_chooses_its_channel(apply: Apply, dag: dict[str, Any], channel: str) -> None:
    assert apply(**dag) == [channel]


@pytest.mark.parametrize("tags", [{"slack:off"}, {"slack:#team", "slack:off"}])
def test_dag_opts_out(apply: Apply, tags: set[str]) -> None:
    assert apply(tags=tags) == []
