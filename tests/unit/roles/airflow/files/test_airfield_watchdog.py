from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/airfield_watchdog.py"
SPEC = importlib.util.spec_from_file_location("airfield_watchdog", FILE)
assert SPEC is not None
assert SPEC.loader is not None
watchdog = importlib.util.module_from_spec(SPEC)
sys.modules["airfield_watchdog"] = watchdog
SPEC.loader.exec_module(watchdog)

PATIENCE = watchdog.Patience(frozen=60, ill=180, start=600)
WELL = {"metadatabase": {"status": "healthy"}, "dag_processor": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}}
ILL, FINE, UNKNOWN = (watchdog.Look(7, False, healthy) for healthy in (False, True, None))
FROZEN = watchdog.Look(7, True, None)


def restarts(looks: list[Any], step: int = 30) -> list[int]:
    """Seconds at which it is restarted, with a look every 30 s."""
    history, found = None, []
    for number, look in enumerate(looks):
        history = watchdog.follow(history, look, number * step)
        if watchdog.reason(history, number * step, PATIENCE):
            found.append(number * step)
    return found


def test_component_that_works_is_left_alone() -> None:
    assert restarts([FINE] * 100) == []


def test_frozen_one_is_restarted_after_a_minute_whatever_else_is_known() -> None:
    assert restarts([FINE, FROZEN, FROZEN, FROZEN])[:1] == [90]
    assert restarts([FROZEN] * 3) == [60]


def test_one_without_a_sign_of_life_is_restarted_after_three() -> None:
    assert restarts([FINE, *[ILL] * 10])[:1] == [210]


def test_one_that_starts_gets_ten_minutes() -> None:
    assert restarts([ILL] * 25)[:1] == [600]
    assert restarts([ILL] * 10 + [FINE] + [ILL] * 6) == []


def test_sign_of_life_ends_it() -> None:
    assert restarts(([FINE] + [ILL] * 6) * 10) == []


@pytest.mark.parametrize("away", [UNKNOWN, None])
def test_what_nobody_can_tell_ends_it_too(away: Any) -> None:
    looks = [FINE, *[ILL] * 5, UNKNOWN if away is None else away, *[ILL] * 5]
    assert restarts(looks) == []


def test_another_process_begins_anew() -> None:
    other = watchdog.Look(8, False, False)
    assert restarts([FINE, *[ILL] * 6, *[other] * 19]) == []


def test_looks_far_apart_are_not_compared() -> None:
    assert restarts([FINE, *[ILL] * 20], step=76) == []


@pytest.mark.parametrize(
    ("unit", "document", "answers", "expected"),
    [
        ("airflow-dag-processor", WELL, {}, True),
        ("airflow-triggerer", WELL, {}, False),
        # The database is away, or the web server is, or it has no such component.
        ("airflow-triggerer", {**WELL, "metadatabase": {"status": "unhealthy"}}, {}, None),
        ("airflow-triggerer", None, {}, None),
        ("airflow-triggerer", {"metadatabase": {"status": "healthy"}, "triggerer": {"status": None}}, {}, None),
        ("airflow-scheduler", WELL, {"airflow-scheduler": True}, True),
        ("airflow-scheduler", None, {"airflow-scheduler": True}, True),
        ("airflow-scheduler", WELL, {"airflow-scheduler": False}, False),
        ("airflow-scheduler", None, {"airflow-scheduler": False}, None),
        ("airflow-scheduler", {"metadatabase": None}, {"airflow-scheduler": False}, None),
        ("airflow-api-server", None, {"airflow-api-server": False}, False),
        ("airflow-webserver", None, {"airflow-webserver": True}, True),
        ("airflow-webserver", None, {}, None),
    ],
)
def test_health_is_told_only_by_what_can_tell(
    unit: str, document: Any, answers: dict[str, bool], expected: bool | None
) -> None:
    assert watchdog.is_healthy(unit, document, answers) is expected


class Host:
    """A host with one unit that runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.main, self.frozen, self.now = 7, False, 0.0
        self.answers: dict[str, bytes] = {"monitor": json.dumps(WELL).encode(), "scheduler": b"{}"}
        self.killed: list[str] = []
        arguments = ["--monitor", "monitor", "--address", "airflow-scheduler=scheduler"]
        monkeypatch.setattr(sys, "argv", ["watchdog", *arguments, "--state", str(tmp_path / "state.json")])
        monkeypatch.setattr(watchdog.subprocess, "run", self.run)
        monkeypatch.setattr(watchdog, "is_frozen", lambda process: self.frozen)
        monkeypatch.setattr(watchdog, "fetch", self.answers.get)
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now)

    def run(self, command: list[str], **arguments: Any) -> Any:
        if command[1] == "kill":
            self.killed.append(command[-1])
            return None
        state = f"MainPID={self.main}\nId=airflow-scheduler.service\nActiveState=active\n"
        return subprocess.CompletedProcess(command, 0, f"MainPID=0\nId=x.service\nActiveState=inactive\n\n{state}", "")

    def look(self, times: int) -> None:
        for _ in range(times):
            watchdog.main()
            self.now += 30


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


def test_scheduler_that_does_nothing_is_killed_and_said(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.look(3)
    del host.answers["scheduler"]
    host.look(6)
    assert host.killed == []
    host.look(1)
    assert host.killed == ["airflow-scheduler.service"]
    assert capsys.readouterr().out.startswith("Restarting airflow-scheduler: its process is there, and for 180 s")


def test_frozen_scheduler_is_killed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.frozen = True
    host.look(3)
    assert host.killed == ["airflow-scheduler.service"]
    assert "a signal has stopped its main process for 60 s" in capsys.readouterr().out


def test_nothing_is_killed_while_the_database_is_away(host: Host) -> None:
    host.look(1)
    host.answers = {"monitor": json.dumps({"metadatabase": {"status": "unhealthy"}}).encode()}
    host.look(100)
    host.answers.clear()
    host.look(100)
    assert host.killed == []


def test_broken_memory_is_made_anew(host: Host, tmp_path: Path) -> None:
    for text in ("", "[]", '{"airflow-scheduler": {"other": 1}}', '{"airflow-scheduler": 3}'):
        (tmp_path / "state.json").write_text(text)
        host.look(1)
    assert host.killed == []


def test_stopped_process_is_told_from_others(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not watchdog.is_frozen(process.pid)
        process.send_signal(signal.SIGSTOP)
        for _ in range(1000):
            if watchdog.is_frozen(process.pid):
                break
        assert watchdog.is_frozen(process.pid)
        process.kill()
    assert not watchdog.is_frozen(2**30)
