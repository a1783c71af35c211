from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import systemd

Make = Callable[..., Any]


def test_properties_of_a_unit_are_read(make_module: Make, commands: Any) -> None:
    commands.answer = lambda words: "ActiveState=active\nExecStart={ path=/bin/a ; argv[]=/bin/a --b=c }\nResult=\n"
    assert systemd.show(make_module(), "a.service") == {
        "ActiveState": "active",
        "ExecStart": "{ path=/bin/a ; argv[]=/bin/a --b=c }",
        "Result": "",
    }
    assert commands.lines[0].startswith("systemctl show a.service --property LoadState,")


def test_failing_systemctl_fails_the_module_with_its_message(
    make_module: Make, commands: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.answer = lambda words: (1, "", "Unit a.service is masked.")
    with pytest.raises(SystemExit):
        systemd.systemctl(make_module(), "enable", "a.service")
    assert "Unit a.service is masked." in capsys.readouterr().out
    assert commands.lines == ["systemctl enable a.service"]


def test_journal_shows_no_secret(make_module: Make, commands: Any) -> None:
    commands.answer = lambda words: "url redis://:hunter2@h\npassword hunter2, done\n"
    tail = systemd.journal_tail(make_module(), "a.service", secrets=["hunter2", "", "redis://:hunter2@h"])
    assert tail == "url ********\npassword ********, done\n"
    assert "--unit a.service --lines 30 " in commands.lines[0]


GROUP = "/system.slice/a.service"


@pytest.fixture
def processes() -> Iterator[list[int]]:
    """A process that runs, and one that has ended."""
    with subprocess.Popen(["sleep", "600"]) as running, subprocess.Popen(["true"]) as ended:
        ended.wait()
        yield [running.pid, ended.pid]
        running.kill()


@pytest.mark.parametrize("layouts", [["systemd"], ["."], ["systemd", "."]], ids=["version 1", "version 2", "both"])
def test_processes_of_a_unit_are_found_in_either_version_of_cgroups(
    tmp_path: Path, processes: list[int], layouts: list[str]
) -> None:
    for layout in layouts:
        folder = tmp_path / layout / GROUP[1:]
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text("".join(f"{number}\n" for number in processes))
    assert systemd.process_titles(GROUP, [f"{tmp_path}/systemd", str(tmp_path)]) == ["sleep 600"]


def test_unit_that_does_not_run_has_no_processes(tmp_path: Path) -> None:
    assert systemd.process_titles(GROUP, [f"{tmp_path}/systemd", str(tmp_path)]) == []


def test_process_that_a_signal_has_stopped_is_frozen() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not systemd.is_frozen(str(process.pid))
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert systemd.is_frozen(str(process.pid))
        process.kill()
    assert not systemd.is_frozen("0")


FOLDER = "/run/airfield-units-x"
SAID = f"""\
{FOLDER}/a.service:6: Invalid memory limit '48GB', ignoring: Invalid argument
{FOLDER}/a.service:7: Unknown key 'Nicenes' in section [Service], ignoring.
{FOLDER}/a.service:27: Unknown section 'Srevice'. Ignoring.
{FOLDER}/a.service:20: Standard output type syslog is obsolete, automatically updating to journal.
/lib/systemd/system/other.service:3: Unknown key 'X' in section [Service], ignoring.
a.service: Command /opt/airflow/current/bin/airflow is not executable: No such file or directory
{FOLDER}/b.timer:4: Failed to parse calendar specification, ignoring: 30 2 * * *
b.timer: Timer unit lacks value setting. Refusing.
{FOLDER}/a.service:7: Unknown key 'Nicenes' in section [Service], ignoring.
"""


def test_what_systemd_ignores_of_our_units_is_a_problem() -> None:
    assert systemd.read_unit_problems(SAID, FOLDER, ["a.service", "b.timer", "c.service"]) == {
        "a.service": [
            "Invalid memory limit '48GB', ignoring: Invalid argument",
            "Unknown key 'Nicenes' in section [Service], ignoring.",
            "Unknown section 'Srevice'. Ignoring.",
        ],
        "b.timer": [
            "Failed to parse calendar specification, ignoring: 30 2 * * *",
            "Timer unit lacks value setting. Refusing.",
        ],
    }


def test_texts_of_units_are_looked_at_together(make_module: Make, commands: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def answer(words: list[str]) -> tuple[int, str, str]:
        assert Path(words[-1]).read_text() == "[Timer]\n"
        return 1, "", f"{words[-2]}:1: Unknown key, ignoring.\n"

    commands.answer = answer
    found = systemd.unit_problems(make_module(), {"a.service": "[Service]\n", "a.timer": "[Timer]\n"})
    assert found == {"a.service": ["Unknown key, ignoring."]}
    (line,) = commands.lines
    assert line.startswith("systemd-analyze verify --man=no /")
    assert not Path(line.split()[-1]).parent.exists()
    assert systemd.unit_problems(make_module(), {}) == {}
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert systemd.unit_problems(make_module(), {"a.service": "x"}) == {}
    assert systemd.calendar_problems(make_module(), {"a": "x"}) == {}


def test_schedule_that_never_comes_is_a_problem(make_module: Make, commands: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    answers = {
        "30 2 * * *": (1, "", "Failed to parse calendar specification '30 2 * * *': Invalid argument\n"),
        "*-02-30": (0, "Normalized form: *-02-30 00:00:00\n    Next elapse: never\n", ""),
        "daily": (0, "    Next elapse: Wed 2026-12-02 00:00:00 UTC\n", ""),
    }
    commands.answer = lambda words: answers[words[-1]]
    assert systemd.calendar_problems(make_module(), {"a": "30 2 * * *", "b": "*-02-30", "c": "daily"}) == {
        "a": {"given": "30 2 * * *", "reason": "Failed to parse calendar specification '30 2 * * *': Invalid argument"},
        "b": {"given": "*-02-30", "reason": "it never comes"},
    }
