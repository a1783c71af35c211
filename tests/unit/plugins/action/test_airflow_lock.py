from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.action import airflow_lock

Make = Callable[..., Any]
ROOT = Path(__file__).parents[4]
SECONDS = 60  # by which everything has happened, also on a busy machine


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# Who runs, and whether it still does -----------------------------------------------------------------------------------


@pytest.fixture
def me() -> dict[str, Any]:
    """The run of this test's process."""
    return airflow_lock.describe_run()


def test_run_is_the_same_in_all_tasks_and_no_other(me: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert airflow_lock.describe_run() == me
    assert me["pid"] == os.getpid()
    assert me["started"].isdigit()
    assert "@" in me["who"]
    monkeypatch.setattr(airflow_lock, "process", lambda pid: ("S", "1"))
    assert airflow_lock.describe_run()["run"] != me["run"]


def test_task_belongs_to_the_process_that_forked_it_also_when_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=4711))
    assert airflow_lock.describe_run()["pid"] == 4711


def test_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987654)
    assert airflow_lock.describe_run()["who"].startswith("987654@")


def test_machine_without_identity_is_not_recognised_after_its_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(boot: str, **texts: str) -> str:
        known = {"/proc/sys/kernel/random/boot_id": boot, **texts}
        monkeypatch.setattr(airflow_lock, "read", lambda path: known.get(path, ""))
        machine: str = airflow_lock.describe_run()["machine"]
        return machine

    assert describe("1") != describe("2")
    assert describe("1", **{"/etc/machine-id": "a"}) == describe("2", **{"/etc/machine-id": "a"})


@pytest.fixture
def ended() -> Iterator[int]:
    """A process that has ended and for which nobody has waited yet."""
    child = subprocess.Popen(["true"])
    wait_until(lambda: airflow_lock.process(child.pid)[0] == "Z")
    yield child.pid
    child.wait()


def test_process_runs_until_it_has_ended(me: dict[str, Any], ended: int) -> None:
    assert airflow_lock.running(me["pid"], me["started"])
    assert not airflow_lock.running(ended, airflow_lock.process(ended)[1])
    os.waitpid(ended, 0)
    assert not airflow_lock.running(ended, me["started"])


def test_other_process_with_the_same_number_is_not_it(me: dict[str, Any]) -> None:
    assert not airflow_lock.running(me["pid"], "1")


@pytest.mark.parametrize("error", [PermissionError, None])
def test_process_that_is_not_seen_may_be_running(monkeypatch: pytest.MonkeyPatch, error: type[OSError] | None) -> None:
    """/proc hides those of other users where it is mounted so, and there are systems without it."""

    def kill(pid: int, number: int) -> None:
        if error:
            raise error

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(airflow_lock, "read", lambda path: "")
    assert airflow_lock.running(4711, "1234")


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        ({}, False),
        ({"started": "1"}, True),
        ({"boot": "another"}, True),
        ({"started": "1", "machine": "another"}, False),
        ({"boot": "another", "machine": "another"}, False),
        (dict.fromkeys(("machine", "boot", "pid", "started"), "unknown"), False),
    ],
)
def test_only_a_run_of_this_machine_is_known_to_be_dead(me: dict[str, Any], change: dict[str, str], dead: bool) -> None:
    assert airflow_lock.is_dead({**me, **change}, me) is dead


def test_nothing_is_known_where_a_machine_does_not_say_when_it_started(me: dict[str, Any]) -> None:
    me["boot"] = ""
    assert not airflow_lock.is_dead({**me, "started": "1"}, me)


# What the action does with the module's answer -------------------------------------------------------------------------


class Action:
    """The action, with the module's answers; `keepers` are those that it has started."""

    def __init__(self, make_action: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.keepers: list[subprocess.Popen[bytes]] = []
        self.warnings: list[str] = []
        self.make_action = make_action
        self.monkeypatch = monkeypatch

        def fork(work: Callable[[], object]) -> int:
            self.keepers.append(subprocess.Popen(["true"]))
            return self.keepers[-1].pid

        monkeypatch.setattr(airflow_lock, "fork", fork)
        monkeypatch.setattr(airflow_lock.display, "warning", self.warnings.append)

    def run(self, *answers: dict[str, Any], check: bool = False) -> dict[str, Any]:
        action = self.make_action(airflow_lock, {"force": "{{ no }}"}, check)
        remaining = list(answers)

        def execute_module(module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
            self.calls.append(module_args)
            return {"path": "/run.lock", "timeout": 300, **remaining.pop(0)}

        self.monkeypatch.setattr(action, "_execute_module", execute_module)
        result: dict[str, Any] = action.run(task_vars={})
        assert not remaining
        return result


@pytest.fixture
def action(make_action: Make, monkeypatch: pytest.MonkeyPatch) -> Action:
    return Action(make_action, monkeypatch)


HOLDER = {
    "run": "run-b",
    "who": "lee@runner",
    "machine": "runner",
    "boot": "b00t",
    "pid": 4711,
    "started": "1",
    "playbook": "site.yml",
    "since": "2026-11-24T13:40:01Z",
    "idle": 20,
}
TAKEN = {"changed": True, "acquired": True}
REFUSED = {"changed": False, "acquired": False, "held_by": HOLDER}


def test_lock_that_was_taken_is_kept_and_no_change(action: Action, me: dict[str, Any]) -> None:
    result = action.run(TAKEN)
    assert (result["changed"], result["acquired"], "failed" in result) == (False, True, False)
    assert action.calls == [{"force": "{{ no }}", "owner": me}]
    assert (len(action.keepers), action.warnings) == (1, [])


def test_lock_that_this_run_has_already_is_not_kept_twice(action: Action) -> None:
    assert action.run({"changed": False, "acquired": True})["acquired"]
    assert action.keepers == []


def test_refusal_says_who_since_when_until_when_and_the_remedy(action: Action) -> None:
    result = action.run(REFUSED)
    assert result["failed"]
    assert result["msg"] == (
        "Another run is working on this cluster: lee@runner, process 4711, site.yml, since 2026-11-24T13:40:01Z, last renewed "
        "20 s ago. Its lock ends with that run, or 280 s from now if it is not renewed. Remedy: wait, or if that run is "
        "certainly dead, add -e airflow_lock_break=true."
    )
    assert (action.keepers, len(action.calls)) == ([], 1)


def test_dead_run_of_this_machine_is_replaced_without_a_word(action: Action, me: dict[str, Any]) -> None:
    holder = {**HOLDER, "machine": me["machine"], "boot": me["boot"], "pid": me["pid"]}
    result = action.run({**REFUSED, "held_by": holder}, {**TAKEN, "previous": holder})
    assert result["acquired"]
    assert action.calls[1] == {"force": "{{ no }}", "owner": me, "replace": "run-b"}
    assert (len(action.keepers), action.warnings) == (1, [])


def test_dead_run_that_another_has_replaced_is_not_replaced_again(action: Action, me: dict[str, Any]) -> None:
    holder = {**HOLDER, "machine": me["machine"], "boot": me["boot"], "pid": me["pid"]}
    result = action.run({**REFUSED, "held_by": holder}, REFUSED)
    assert result["failed"]
    assert "lee@runner" in result["msg"]
    assert action.keepers == []


def test_other_takeover_is_told(action: Action) -> None:
    assert action.run({**TAKEN, "previous": HOLDER})["acquired"]
    (warning,) = action.warnings
    assert "lee@runner, process 4711, site.yml, since 2026-11-24T13:40:01Z" in warning


def test_failure_of_the_module_is_the_tasks(action: Action) -> None:
    result = action.run({"failed": True, "msg": "No space left on device"})
    assert (result["failed"], result["msg"]) == (True, "No space left on device")
    assert action.keepers == []


def test_check_mode_needs_no_lock(action: Action) -> None:
    result = action.run(check=True)
    assert (result["changed"], result["acquired"], "failed" in result) == (False, False, False)
    assert (action.calls, action.keepers) == ([], [])


def test_command_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> None:
        program = subprocess.Popen(["sleep", "30"])
        (tmp_path / "new").write_text(str(program.pid))
        (tmp_path / "new").rename(tmp_path / "pid")
        program.wait()

    monkeypatch.setattr(airflow_lock, "COMMAND", 2)
    airflow_lock.run_limited(hang)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not airflow_lock.running(pid, airflow_lock.process(pid)[1]))


@pytest.mark.parametrize(("run", "renewed", "left"), [("run-a", True, False), ("run-b", False, True)])
def test_keeper_renews_and_frees_the_lock_while_it_is_this_runs(
    make_action: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: str, renewed: bool, left: bool
) -> None:
    kept: list[Any] = []
    path = tmp_path / "a lock; and more"
    action = make_action(airflow_lock, {})
    monkeypatch.setattr(airflow_lock, "let_go", lambda: None)
    monkeypatch.setattr(airflow_lock, "keep", lambda *arguments: kept.extend(arguments))
    monkeypatch.setattr(
        action, "_low_level_execute_command", lambda command, sudoable: subprocess.run(["sh", "-c", command], check=False)
    )
    action._keep({"run": "run-a", "pid": 4711, "started": "1"}, str(path), 300)
    pid, started, interval, renew, release = kept
    assert (pid, started, interval) == (4711, "1", 60)
    path.write_text(json.dumps({"run": run}))
    os.utime(path, (1, 1))
    renew()
    assert (path.stat().st_mtime > 1) is renewed
    release()
    assert path.exists() is left
    path.unlink(missing_ok=True)
    renew()
    assert not path.exists()


def test_keeper_sends_no_messages(tmp_path: Path) -> None:
    class Queue:
        def send_display(self, *args: Any, **kwargs: Any) -> None:
            (tmp_path / "sent").touch()

    def forked() -> None:
        airflow_lock.display.set_queue(Queue())
        airflow_lock.let_go()
        airflow_lock.display.warning("Not for the terminal")

    child = multiprocessing.get_context("fork").Process(target=forked)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert not (tmp_path / "sent").exists()


# Real runs -------------------------------------------------------------------------------------------------------------


class Run:
    """An ansible-playbook that takes the lock, twice, then waits until the test lets it go on."""

    def __init__(self, folder: Path, name: str, timeout: int, fails: bool, variables: dict[str, Any]) -> None:
        self.go, self.waits, self.playbook = (folder / f"{name}.{kind}" for kind in ("go", "waits", "yml"))
        self.lock = folder / "airfield/run.lock"
        lock = {
            "path": str(self.lock),
            "timeout": timeout,
            "force": "{{ airflow_lock_break | default(false) }}",
        }
        tasks: list[dict[str, Any]] = [
            {"airfield.metal.airflow_lock": lock},
            {"airfield.metal.airflow_lock": lock},
            {"ansible.builtin.raw": f"touch {self.waits}; timeout 600 sh -c 'until test -e {self.go}; do sleep 0.1; done'"},
        ]
        if fails:
            tasks.append({"ansible.builtin.fail": {}})
        self.playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        variables = {"ansible_connection": "local", "ansible_remote_tmp": str(folder / "tmp"), **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ansible", "playbook", "-i", "host,", "-e", json.dumps(variables), str(self.playbook)],
            cwd=ROOT,
            env={
                **os.environ,
                "HOME": str(folder),
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """All processes of the run: what ansible-playbook forks has its command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            if str(self.playbook) in airflow_lock.read(str(path)):
                found.append(int(path.parent.name))
        return found

    def keepers(self) -> list[int]:
        main = self.process.pid
        return [pid for pid in self.processes() if main not in (pid, parent(pid))]

    def end(self) -> str:
        """Wait for it as one who has captured its output does; returns that."""
        return self.process.communicate(timeout=SECONDS)[0]


def parent(pid: int) -> int:
    fields = airflow_lock.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a run and wait until it waits, or has ended; nothing of it is left after the test."""
    runs: list[Run] = []

    def start(name: str, timeout: int = 300, fails: bool = False, go: bool = False, **variables: Any) -> Run:
        if go:
            (tmp_path / f"{name}.go").touch()
        run = Run(tmp_path, name, timeout, fails, variables)
        runs.append(run)
        wait_until(lambda: run.waits.exists() or run.process.poll() is not None)
        return run

    yield start
    for run in runs:
        run.go.touch()
        run.process.kill()
        run.process.communicate()
    wait_until(lambda: not any(run.processes() for run in runs))


def test_second_run_is_refused_until_the_first_has_ended(start: Start) -> None:
    first = start("first")
    holder = json.loads(first.lock.read_text())
    second = start("second")
    output = second.end()
    assert second.process.returncode == 2
    assert f"{holder['who']}, process {first.process.pid}, first.yml, since {holder['since']}" in output
    assert "airflow_lock_break=true" in output
    assert json.loads(first.lock.read_text()) == holder
    first.go.touch()
    assert "failed=0" in first.end()
    wait_until(lambda: not first.lock.exists())
    assert start("third", go=True).end().count("changed=1") == 1  # by the task that waits, not by the lock's


def test_keeper_is_one_process_and_has_nothing_of_its_run(start: Start) -> None:
    run = start("first")
    (keeper,) = run.keepers()
    assert {os.readlink(path) for path in Path(f"/proc/{keeper}/fd").iterdir()} == {"/dev/null"}
    assert os.getsid(keeper) == keeper
    os.kill(keeper, signal.SIGTERM)
    wait_until(lambda: not run.keepers())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_run_that_is_interrupted_frees_the_lock(start: Start, number: signal.Signals) -> None:
    run = start("first")
    os.killpg(run.process.pid, number)  # all that a terminal or a CI job would reach
    run.end()
    wait_until(lambda: not run.lock.exists())
    run.go.touch()
    wait_until(lambda: not run.processes())


def test_run_that_fails_frees_the_lock(start: Start) -> None:
    run = start("first", fails=True, go=True)
    run.end()
    assert run.process.returncode == 2
    wait_until(lambda: not run.lock.exists())


def test_run_that_was_killed_with_its_keeper_is_replaced_without_options(start: Start) -> None:
    first = start("first")
    for pid in (*first.keepers(), first.process.pid):
        os.kill(pid, signal.SIGKILL)
    first.end()
    assert first.lock.exists()
    second = start("second", go=True)
    second.end()
    assert second.process.returncode == 0
    wait_until(lambda: not first.lock.exists())


def test_lock_that_was_broken_is_not_freed_by_the_run_that_had_it(start: Start) -> None:
    first = start("first")
    second = start("second", airflow_lock_break="true")
    first.go.touch()
    first.end()
    wait_until(lambda: not first.processes())
    assert json.loads(second.lock.read_text())["pid"] == second.process.pid
    second.go.touch()
    assert "The lock was taken over from" in second.end()
    wait_until(lambda: not second.lock.exists())


@pytest.fixture
def ssh(tmp_path: Path) -> dict[str, Any]:
    """Variables of a host that is reached by ssh and sudo; stand-ins for both run everything here."""
    programs = {
        "ssh": 'for command; do :; done; exec /bin/sh -c "$command"',
        "sudo": f'echo "$*" >> {tmp_path}/sudo.log; while [ "$1" != /bin/sh ]; do shift; done; exec "$@"',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return {
        "ansible_connection": "ssh",
        "ansible_ssh_executable": str(tmp_path / "ssh"),
        "ansible_user": "operator",
        "ansible_become": True,
        "ansible_become_exe": str(tmp_path / "sudo"),
    }


def test_lock_is_renewed_and_freed_as_root_over_ssh(start: Start, ssh: dict[str, Any], tmp_path: Path) -> None:
    run = start("first", timeout=2, **ssh)
    taken = run.lock.stat().st_mtime
    wait_until(lambda: run.lock.stat().st_mtime > taken + 3)
    run.go.touch()
    run.end()
    assert run.process.returncode == 0
    wait_until(lambda: not run.lock.exists())
    assert f"rm -f {run.lock}" in (tmp_path / "sudo.log").read_text()
