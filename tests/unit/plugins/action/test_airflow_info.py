from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.action import airflow_info

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("host", "offset"), [(99.0, -1.0), (100.0, 0.0), (100.5, 0.0), (101.0, 0.0), (103.5, 2.5), (3700.0, 3599.0)]
)
def test_only_what_lies_outside_the_measurement_is_an_offset(host: float, offset: float) -> None:
    assert airflow_info.clock_offset(100.0, host, 101.0) == offset


@pytest.fixture
def run(make_action: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], dict[str, Any]]:
    """Run the action between 100 s and 101 s on the controller's clock, with this answer of the host."""

    def run(answer: dict[str, str]) -> dict[str, Any]:
        calls: list[str] = []
        times = iter([100.0, 101.0])

        def execute_module(task_vars: Any) -> dict[str, Any]:
            calls.append("module")
            return {"cpus": 2}

        def execute_command(command: str, sudoable: bool) -> dict[str, str]:
            calls.append(command)
            return answer

        def time() -> float:
            calls.append("time")
            return next(times)

        action = make_action(airflow_info, {})
        monkeypatch.setattr(action, "_execute_module", execute_module)
        monkeypatch.setattr(action, "_low_level_execute_command", execute_command)
        monkeypatch.setattr(airflow_info, "time", SimpleNamespace(time=time))
        result: dict[str, Any] = action.run(task_vars={})
        # Opening the connection, which the module does, is no part of the measurement.
        assert calls == ["module", "time", "date +%s.%N", "time"]
        return result

    return run


@pytest.mark.parametrize("stdout", ["103.500000000\n", "A banner of the host\n103.5\r\n"])
def test_offset_is_added_to_what_the_module_found(run: Callable[..., Any], stdout: str) -> None:
    assert run({"stdout": stdout}) == {"cpus": 2, "clock_offset": 2.5}


@pytest.mark.parametrize("stdout", ["", "date: not found\n"])
def test_unreadable_clock_fails_with_what_the_host_said(run: Callable[..., Any], stdout: str) -> None:
    result = run({"stdout": stdout, "stderr": "no such command\n"})
    assert result["failed"]
    assert result["msg"] == "The host's clock could not be read: no such command"
