from __future__ import annotations

import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils.service_account import call_as

ME = pwd.getpwuid(os.geteuid()).pw_name
ROOT = os.geteuid() == 0


@contextmanager
def streams() -> Iterator[None]:
    """Python's streams end where other programs' do, as in a module; pytest's go elsewhere."""
    with (
        open(1, "w", closefd=False) as stdout,
        open(2, "w", closefd=False) as stderr,
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        yield


def call(account: str, environment: dict[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    with streams():
        return call_as(account, environment, function, *arguments)


def who() -> dict[str, Any]:
    """Of a process, all that become() changes."""
    names = ("HOME", "USER", "LOGNAME")
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": sorted(os.getgroups()),
        "folder": os.getcwd(),
        "environment": {name: os.environ.get(name) for name in names},
    }


def test_function_gets_its_arguments_and_gives_its_result() -> None:
    assert call(ME, {}, lambda *words: [*words, os.getppid()], "a", 1) == ["a", 1, os.getpid()]


def test_function_sees_its_environment_and_the_caller_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFIELD_OLD", "of the caller")
    monkeypatch.setenv("AIRFIELD_BOTH", "of the caller")
    before = (dict(os.environ), os.getcwd())
    names = ("AIRFIELD_OLD", "AIRFIELD_BOTH", "AIRFIELD_NEW")
    given = {"AIRFIELD_BOTH": "of the service", "AIRFIELD_NEW": "of the service"}
    assert call(ME, given, lambda: [os.environ.get(name) for name in names]) == [
        "of the caller",
        "of the service",
        "of the service",
    ]
    assert (dict(os.environ), os.getcwd()) == before


def test_what_the_function_prints_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    def talk() -> None:
        print("by Python")
        print("by Python", file=sys.stderr)
        os.write(1, b"by another program\n")

    with streams():
        print("before", end="")  # not yet written when the process is made
        call_as(ME, {}, talk)
    assert capfd.readouterr() == ("before", "")


def test_exception_is_told_with_what_was_said_last(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        print("\n".join(f"line {number}" for number in range(50)))
        raise ValueError("no such bucket")

    with pytest.raises(RuntimeError) as error:
        call(ME, {}, fail)
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert "line 49" in lines
    assert lines[-2] == "ValueError: no such bucket"
    assert capfd.readouterr() == ("", "")


def leave() -> None:
    os.write(2, b"cannot go on\n")
    os._exit(3)


def kill() -> None:
    os.write(2, b"cannot go on\n")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("end", [leave, kill])
def test_process_that_dies_is_told_with_what_was_said_last(end: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^cannot go on\n\(wait status \d+\)$"):
        call(ME, {}, end)


def test_function_that_ends_the_program_ends_only_its_process() -> None:
    with pytest.raises(RuntimeError, match="SystemExit: 4"):
        call(ME, {}, sys.exit, 4)


def test_result_that_is_none_for_json_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="not JSON serializable"):
        call(ME, {}, object)


def test_unknown_account_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no-such-user"):
        call("no-such-user", {}, lambda: None)


def test_function_runs_as_the_account_if_root_calls() -> None:
    nobody = pwd.getpwnam("nobody")
    before = who()
    seen = call("nobody", {}, who)
    if ROOT:
        groups = sorted(os.getgrouplist("nobody", nobody.pw_gid))
        assert (seen["uids"], seen["gids"], seen["groups"]) == ([nobody.pw_uid] * 3, [nobody.pw_gid] * 3, groups)
    else:
        assert (tuple(seen["uids"]), tuple(seen["gids"]), seen["groups"]) == (before["uids"], before["gids"], before["groups"])
    assert seen["folder"] == "/"
    assert seen["environment"] == {"HOME": nobody.pw_dir, "USER": "nobody", "LOGNAME": "nobody"}
    assert who() == before


def test_account_does_not_change_if_another_than_root_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = who()
    seen = call("nobody", {}, who)
    assert (tuple(seen["uids"]), tuple(seen["gids"]), seen["groups"]) == (before["uids"], before["gids"], before["groups"])
    assert seen["environment"]["USER"] == "nobody"


def test_service_wins_over_its_account() -> None:
    assert call(ME, {"HOME": "/var/lib/airflow"}, who)["environment"]["HOME"] == "/var/lib/airflow"
