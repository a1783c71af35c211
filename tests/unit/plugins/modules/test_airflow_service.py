from __future__ import annotations

import datetime
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import files, systemd
from ansible_collections.airfield.metal.plugins.modules import airflow_service

RunModule = Callable[..., dict[str, Any]]
Tree = Callable[[Path], Any]
UNIT = "/etc/systemd/system/airflow-triggerer.service"
SOCKET = "/etc/systemd/system/airflow-triggerer.socket"
TIMER = "/etc/systemd/system/airflow-triggerer.timer"
MARK = "/var/lib/airfield/airflow-triggerer.fingerprint"
RECORD = "/var/lib/airfield/airflow-triggerer.written.json"
RUNNING_MARK = "/run/airfield/airflow-triggerer.fingerprint"
ENVIRONMENT = "/etc/airflow/triggerer.env"
RESTARTED = "it was started from another unit, environment or input"
PASSWORD = "hunter2-of-the-database"
KEY = "s3cret-in-a-file"


class Killed(BaseException):
    """The module's process ends in the middle of its work."""


class Host:
    """A host below a temporary folder, with as much of systemd as the module depends on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.states: dict[str, str] = {}
        self.enabled: set[str] = set()
        self.loaded: str | None = None
        self.kill_at = ""
        self.journal = ""
        self.started_as = "active"
        # A service that its timer starts does not work.
        self.fails = False
        self.changes: list[str] = []

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str | None:
        path = self.path(name)
        return path.read_text() if path.exists() else None

    def answer(self, words: list[str]) -> str:
        if words[0] == "journalctl":
            return self.journal
        verb, *arguments = words[1:]
        if verb == "show":
            return self.show(arguments[0], arguments[2].split(","))
        if verb == self.kill_at:
            raise Killed
        self.changes.append(" ".join(words[1:]))
        getattr(self, verb.replace("-", "_"))(*arguments)
        return ""

    def show(self, unit: str, names: list[str]) -> str:
        properties = {
            "LoadState": "loaded" if self.loaded else "not-found",
            "ActiveState": self.states.get(unit, "inactive"),
            "SubState": "running" if self.states.get(unit) == "active" else "dead",
            "NeedDaemonReload": "yes" if self.loaded and self.text(UNIT) != self.loaded else "no",
            "UnitFileState": "enabled" if unit in self.enabled else "",
        }
        if unit.endswith(".service"):
            properties["ExecMainStartTimestampMonotonic"] = "900000000"  # 100 s before the test's clock
        return "".join(f"{name}={properties[name]}\n" for name in names if name in properties)

    def daemon_reload(self) -> None:
        self.loaded = self.text(UNIT) or self.text(f"{UNIT}.d/airfield.conf")

    def enable(self, unit: str) -> None:
        self.enabled.add(unit)

    def disable(self, option: str, *units: str) -> None:
        assert option == "--now"
        self.enabled -= set(units)
        self.stop(*units)

    def stop(self, *units: str) -> None:
        for unit in units:
            self.states[unit] = "inactive"

    def restart(self, unit: str) -> None:
        """Start it as the last loaded unit says: it remembers the mark."""
        self.states[unit] = "failed" if self.fails and unit.endswith(".service") else self.started_as
        if unit.endswith(".service"):
            assert self.loaded is not None
            assert f"\nExecStartPre=+/usr/bin/install -D -m 0600 {MARK} {RUNNING_MARK}\n" in self.loaded
            self.path(RUNNING_MARK).parent.mkdir(parents=True, exist_ok=True)
            self.path(RUNNING_MARK).write_text(self.path(MARK).read_text())


@pytest.fixture
def host(tmp_path: Path, commands: Any, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The module sees the files and the systemd of this host."""
    host = Host(tmp_path)
    commands.answer = host.answer
    monkeypatch.setattr(airflow_service, "time", clock)
    monkeypatch.setattr(systemd, "unit_problems", lambda module, texts: {})
    monkeypatch.setattr(airflow_service, "read_text", lambda path: files.read_text(str(host.path(path))))
    monkeypatch.setattr(
        airflow_service,
        "ensure_file",
        lambda module, path, content, **rest: files.ensure_file(module, str(host.path(path)), content, **rest),
    )
    below = SimpleNamespace(
        path=SimpleNamespace(exists=lambda path: host.path(path).exists()), unlink=lambda path: os.unlink(host.path(path))
    )
    monkeypatch.setattr(airflow_service, "os", below)
    return host


TASK: dict[str, Any] = {
    "name": "airflow-triggerer",
    "unit": "# Managed by Airfield.\n[Service]\nExecStart=/bin/a\n[Install]\nWantedBy=multi-user.target\n",
    "environment_file": ENVIRONMENT,
    "environment": {"CONN": PASSWORD},
    "files": [{"path": "/etc/a.conf", "content": "a = 1\n"}],
    "secret_files": [{"path": "/etc/a.key"}],
    "secret_contents": {"/etc/a.key": f"{KEY}\n"},
    "inputs": {"release": "3.3.2-a"},
}
CHANGES: dict[str, dict[str, Any]] = {
    "unit": {"unit": "# Managed by Airfield.\n[Service]\nExecStart=/bin/b\n"},
    "environment": {"environment": {"CONN": "changed-password"}},
    "files": {"files": [{"path": "/etc/a.conf", "content": "a = 2\n"}]},
    "secret_files": {"secret_files": [{"path": "/etc/a.key", "mode": "0640"}]},
    "secret_contents": {"secret_contents": {"/etc/a.key": "other\n"}},
    "inputs": {"inputs": {"release": "3.3.2-b"}},
}


def run(run_module: RunModule, check: bool = False, **changes: Any) -> dict[str, Any]:
    """Run a usual task; a change to None omits the argument."""
    arguments = {name: value for name, value in {**TASK, **changes}.items() if value is not None}
    return run_module(airflow_service, check=check, **arguments)


# Starting and restarting -----------------------------------------------------------------------------------------------


def test_first_run_writes_enables_and_starts(run_module: RunModule, host: Host) -> None:
    result = run(run_module)
    assert (result["changed"], result["started"], result["reason"]) == (True, True, "it was inactive")
    assert host.changes == ["daemon-reload", "enable airflow-triggerer.service", "restart airflow-triggerer.service"]
    assert (host.text(UNIT) or "").startswith(TASK["unit"])
    assert host.text(ENVIRONMENT) == f'CONN="{PASSWORD}"\n'
    modes = [host.path(path).stat().st_mode & 0o7777 for path in (UNIT, ENVIRONMENT, "/etc/a.key", MARK)]
    assert modes == [0o644, 0o600, 0o600, 0o600]


def test_second_run_changes_nothing(run_module: RunModule, host: Host, tree: Tree) -> None:
    run(run_module)
    before = tree(host.root)
    host.changes.clear()
    result = run(run_module)
    assert (result["changed"], result["started"], result["reason"], result["diff"]) == (False, False, "", [])
    assert host.changes == []
    assert tree(host.root) == before


@pytest.mark.parametrize("change", CHANGES)
def test_service_restarts_with_whatever_it_is_started_from(run_module: RunModule, host: Host, change: str) -> None:
    run(run_module)
    result = run(run_module, **CHANGES[change])
    assert (result["changed"], result["started"], result["reason"]) == (True, True, RESTARTED)
    assert host.changes[-2:] == ["daemon-reload", "restart airflow-triggerer.service"]
    assert not run(run_module, **CHANGES[change])["changed"]


@pytest.mark.parametrize("part", ["account", "reads", "timezone"])
def test_service_restarts_when_what_surrounds_it_changes(
    run_module: RunModule, host: Host, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    found = {"account": [50000, 50000, 50000], "reads": {"/opt/airflow/plugins": "a"}, "timezone": "/zoneinfo/UTC"}
    monkeypatch.setattr(airflow_service, "surroundings", lambda user, reads: found)
    of_account: dict[str, Any] = {"account": "airflow", "reads": ["/opt/airflow/plugins"]}
    run(run_module, **of_account)
    assert not run(run_module, **of_account)["changed"]
    found[part] = "another"
    assert run(run_module, **of_account)["reason"] == RESTARTED
    assert not run(run_module, **of_account)["changed"]


def test_service_of_root_has_no_surroundings(run_module: RunModule, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_service, "surroundings", None)
    assert run(run_module)["started"]


def test_text_that_systemd_would_ignore_changes_nothing(
    run_module: RunModule, host: Host, monkeypatch: pytest.MonkeyPatch, tree: Tree
) -> None:
    run(run_module)
    before = tree(host.root)
    asked: list[dict[str, str]] = []

    def unit_problems(module: Any, texts: dict[str, str]) -> dict[str, list[str]]:
        asked.append(texts)
        return {"airflow-triggerer.service": ["Unknown key 'Nicenes' in section [Service], ignoring."]}

    monkeypatch.setattr(systemd, "unit_problems", unit_problems)
    assert not run(run_module).get("failed")
    assert asked == []
    host.changes.clear()
    result = run(run_module, **CHANGES["unit"])
    assert result["failed"]
    assert "airflow-triggerer.service: Unknown key 'Nicenes' in section [Service], ignoring. Remedy: " in result["msg"]
    assert (tree(host.root), host.changes) == (before, [])
    assert run(run_module, unit=None, drop_in="[Service]\nNice=5\n")["failed"]
    assert asked[-1]["airflow-triggerer.service"].startswith("[Service]\nExecStart=/bin/true\n[Service]\nNice=5\n")


def test_way_to_tell_its_health_is_no_reason_to_restart(
    run_module: RunModule, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(run_module)
    monkeypatch.setattr(airflow_service, "open_url", lambda url, **rest: io.BytesIO(b""))
    assert not run(run_module, health={"url": "http://h/"})["changed"]


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_service_that_does_not_run_is_started(run_module: RunModule, host: Host, state: str) -> None:
    run(run_module)
    host.states["airflow-triggerer.service"] = state
    result = run(run_module)
    assert (result["changed"], result["started"], result["reason"]) == (True, True, f"it was {state}")


def test_reloading_service_runs(run_module: RunModule, host: Host) -> None:
    run(run_module)
    host.states["airflow-triggerer.service"] = "reloading"
    assert not run(run_module, check=True)["started"]


def test_service_started_before_airfield_managed_it_is_restarted(run_module: RunModule, host: Host) -> None:
    host.states["airflow-triggerer.service"] = "active"
    assert run(run_module)["reason"] == RESTARTED


def test_service_that_is_not_enabled_is_enabled_without_a_restart(run_module: RunModule, host: Host) -> None:
    run(run_module)
    host.enabled.clear()
    result = run(run_module)
    assert (result["changed"], result["started"]) == (True, False)
    assert host.enabled == {"airflow-triggerer.service"}


def test_unit_that_also_names_another_is_enabled_until_both_are(run_module: RunModule, host: Host) -> None:
    unit = TASK["unit"] + "Also=other.service\n"
    assert run(run_module, unit=unit)["changed"]
    host.changes.clear()
    assert run(run_module, unit=unit)["changed"]
    assert host.changes == ["enable airflow-triggerer.service"]
    host.enabled.add("other.service")
    assert not run(run_module, unit=unit)["changed"]


@pytest.mark.parametrize("killed_at", ["daemon-reload", "restart"])
@pytest.mark.parametrize("change", CHANGES)
def test_run_killed_between_writing_and_restarting_is_healed(
    run_module: RunModule, host: Host, change: str, killed_at: str
) -> None:
    run(run_module)
    host.kill_at = killed_at
    with pytest.raises(Killed):
        run(run_module, **CHANGES[change])
    assert host.text(MARK) != host.text(RUNNING_MARK)
    host.kill_at = ""
    result = run(run_module, **CHANGES[change])
    assert (result["changed"], result["started"], result["reason"]) == (True, True, RESTARTED)
    assert host.text(MARK) == host.text(RUNNING_MARK)
    assert host.loaded == host.text(UNIT)
    assert not run(run_module, **CHANGES[change])["changed"]


def test_run_killed_between_the_files_is_healed(run_module: RunModule, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run(run_module)

    def die_at_the_mark(module: Any, path: str, content: str, **rest: Any) -> bool:
        if path == MARK:
            raise Killed
        return bool(files.ensure_file(module, str(host.path(path)), content, **rest))

    with monkeypatch.context() as patch:
        patch.setattr(airflow_service, "ensure_file", die_at_the_mark)
        with pytest.raises(Killed):
            run(run_module, **CHANGES["environment"])
    assert run(run_module, **CHANGES["environment"])["reason"] == RESTARTED


@pytest.mark.parametrize("change", ["nothing", *CHANGES])
def test_check_mode_says_what_a_run_does_and_changes_nothing(
    run_module: RunModule, host: Host, tree: Tree, change: str
) -> None:
    changes = CHANGES.get(change, {})
    run(run_module)
    before = tree(host.root)
    host.changes.clear()
    told = run(run_module, check=True, **changes)
    assert tree(host.root) == before
    assert host.changes == []
    done = run(run_module, **changes)
    for key in ("changed", "started", "reason", "diff"):
        assert told[key] == done[key]


def test_all_that_is_written_is_recorded_without_a_secret(run_module: RunModule, host: Host) -> None:
    run(run_module, secret_files=[{"path": "/etc/triggerer.key"}], secret_contents={"/etc/triggerer.key": KEY})
    record = host.text(RECORD) or ""
    assert {UNIT, ENVIRONMENT, "/etc/triggerer.key"} <= set(json.loads(record))
    assert not any(secret in record for secret in (PASSWORD, KEY))


def test_check_mode_works_on_a_bare_host(run_module: RunModule, host: Host, tree: Tree) -> None:
    result = run(run_module, check=True)
    assert (result["changed"], result["started"], result["reason"]) == (True, True, "it was inactive")
    assert tree(host.root) == {}
    assert host.changes == []


def test_diff_shows_what_changes_and_no_secret(run_module: RunModule, host: Host) -> None:
    run(run_module)
    changes = {name: value for change in CHANGES.values() for name, value in change.items()}
    result = run(run_module, **changes)
    unit, file, environment = result["diff"]
    assert [entry["after_header"] for entry in result["diff"]] == [UNIT, "/etc/a.conf", ENVIRONMENT]
    assert "ExecStart=/bin/a" in unit["before"]
    assert "ExecStart=/bin/b" in unit["after"]
    assert (file["before"], file["after"]) == ("a = 1\n", "a = 2\n")
    assert (environment["before"], environment["after"]) == ("CONN=<before>\n", "CONN=<after>\n")
    for secret in (PASSWORD, KEY):
        assert secret not in json.dumps(result)


def test_drop_in_stands_beside_the_unit_of_a_package(run_module: RunModule, host: Host) -> None:
    run(run_module, unit=None, drop_in="[Service]\nNice=5\n")
    assert (host.text(f"{UNIT}.d/airfield.conf") or "").startswith("[Service]\nNice=5\n")
    assert host.text(UNIT) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": None}, "state is started but any of the following are missing: unit, drop_in"),
        ({"drop_in": "[Service]\n"}, "mutually exclusive: unit|drop_in"),
        ({"environment_file": None}, "environment_file"),
    ],
)
def test_arguments_that_do_not_fit_are_named(run_module: RunModule, host: Host, changes: dict[str, Any], message: str) -> None:
    result = run(run_module, **changes)
    assert result["failed"]
    assert message in result["msg"]
    assert host.changes == []


# Checks of the files ---------------------------------------------------------------------------------------------------

CHECKED = {"path": "/etc/a.conf", "content": "a = 3\n", "validate": ["check", "--strict"]}


def test_file_is_checked_before_the_process_gets_it(run_module: RunModule, host: Host, commands: Any) -> None:
    run(run_module)
    commands.answer = lambda words: "" if words[0] == "check" else host.answer(words)
    assert run(run_module, files=[CHECKED])["started"]
    assert commands.inputs[commands.lines.index("check --strict")] == "a = 3\n"
    commands.lines.clear()
    assert not run(run_module, files=[CHECKED])["changed"]
    assert "check --strict" not in commands.lines
    # A file that is as before is tried with a new release, too.
    assert run(run_module, files=[CHECKED], inputs={"release": "3.3.2-b"})["started"]
    assert "check --strict" in commands.lines


def test_how_a_file_is_checked_is_no_reason_to_restart(run_module: RunModule, host: Host) -> None:
    run(run_module)
    assert not run(run_module, files=[{**TASK["files"][0], "validate": ["check"]}])["changed"]


@pytest.mark.parametrize("check", [False, True])
def test_file_that_would_not_do_changes_nothing(
    run_module: RunModule, host: Host, commands: Any, tree: Tree, check: bool
) -> None:
    run(run_module)
    before = tree(host.root)
    host.changes.clear()
    commands.answer = lambda words: (1, "", "line 1: no\n") if words[0] == "check" else host.answer(words)
    result = run(run_module, check=check, files=[CHECKED], environment={"CONN": "another-password"})
    assert result["failed"]
    assert result["msg"] == "airflow-triggerer.service was left as it is, since /etc/a.conf would not do: line 1: no"
    assert tree(host.root) == before
    assert host.changes == []


@pytest.mark.parametrize("there", [False, True])
def test_check_mode_leaves_out_a_check_that_is_not_there_yet(
    run_module: RunModule, host: Host, commands: Any, there: bool
) -> None:
    run(run_module)
    if there:
        host.path("/opt/check").parent.mkdir(parents=True)
        host.path("/opt/check").touch()
    commands.answer = lambda words: (1, "", "no") if words[0] == "run" else host.answer(words)
    result = run(run_module, check=True, files=[{**CHECKED, "validate": ["run", "/opt/check"]}])
    assert result.get("failed", False) is there
    # A run insists on it.
    assert run(run_module, files=[{**CHECKED, "validate": ["run", "/opt/check"]}])["failed"]


# Sockets ---------------------------------------------------------------------------------------------------------------

WITH_SOCKET: dict[str, Any] = {"socket": "[Socket]\nListenStream=8333\n"}


def test_service_with_a_socket_comes_up_by_its_first_connection(run_module: RunModule, host: Host) -> None:
    result = run(run_module, **WITH_SOCKET)
    assert result["started"]
    assert host.text(SOCKET) == WITH_SOCKET["socket"]
    assert host.changes[-3:] == [
        "enable airflow-triggerer.socket",
        "stop airflow-triggerer.socket airflow-triggerer.service",
        "restart airflow-triggerer.socket",
    ]
    assert not run(run_module, **WITH_SOCKET)["changed"]


def test_running_service_with_a_socket_restarts_by_its_fingerprint(run_module: RunModule, host: Host) -> None:
    run(run_module, **WITH_SOCKET)
    host.restart("airflow-triggerer.service")
    assert not run(run_module, **WITH_SOCKET)["changed"]
    result = run(run_module, socket="[Socket]\nListenStream=8334\n")
    assert result["reason"] == RESTARTED
    assert host.states == {"airflow-triggerer.service": "inactive", "airflow-triggerer.socket": "active"}


def test_health_of_a_service_with_a_socket_is_asked(run_module: RunModule, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_service, "open_url", lambda url, **rest: io.BytesIO(b""))
    assert run(run_module, **WITH_SOCKET, health={"url": "http://h/"})["started"]


# Timers ----------------------------------------------------------------------------------------------------------------

WITH_TIMER: dict[str, Any] = {"timer": "[Timer]\nOnCalendar=daily\n"}
RUN_AT_ONCE: dict[str, Any] = {**WITH_TIMER, "first_run": True}
ENDED = "airflow-triggerer.service"


def test_service_with_a_timer_is_left_to_it(run_module: RunModule, host: Host) -> None:
    result = run(run_module, **WITH_TIMER)
    assert result["started"]
    assert host.text(TIMER) == WITH_TIMER["timer"]
    assert host.changes[-2:] == ["enable airflow-triggerer.timer", "restart airflow-triggerer.timer"]
    assert not run(run_module, **WITH_TIMER)["changed"]


@pytest.mark.parametrize("ended", ["inactive", "failed"])
def test_service_that_its_timer_will_run_again_is_not_run_for_a_change(run_module: RunModule, host: Host, ended: str) -> None:
    run(run_module, **WITH_TIMER)
    host.restart(ENDED)
    host.states[ENDED] = ended
    result = run(run_module, **WITH_TIMER, inputs={"release": "3.3.2-b"})
    assert (result["changed"], result["started"]) == (True, False)
    assert host.changes[-1] == "daemon-reload"


@pytest.mark.parametrize("state", ["inactive", "activating", "failed"])
def test_service_with_a_timer_takes_what_changed_at_its_next_start(run_module: RunModule, host: Host, state: str) -> None:
    run(run_module, **WITH_TIMER)
    host.states["airflow-triggerer.service"] = state
    host.changes.clear()
    result = run(run_module, timer="[Timer]\nOnCalendar=weekly\n", files=[])
    assert (result["changed"], result["started"], result["pending"]) == (True, False, False)
    assert host.changes == ["daemon-reload"]
    assert not run(run_module, timer="[Timer]\nOnCalendar=weekly\n", files=[])["changed"]


def test_timer_that_does_not_run_is_started(run_module: RunModule, host: Host) -> None:
    run(run_module, **WITH_TIMER)
    host.states["airflow-triggerer.timer"] = "inactive"
    assert run(run_module, **WITH_TIMER)["started"]


def test_first_run_is_waited_for_and_comes_again_after_a_change(run_module: RunModule, host: Host) -> None:
    assert run(run_module, **RUN_AT_ONCE)["started"]
    assert host.changes[-2:] == ["restart airflow-triggerer.timer", "restart airflow-triggerer.service"]
    host.states[ENDED] = "inactive"
    assert not run(run_module, **RUN_AT_ONCE)["changed"]
    assert run(run_module, **RUN_AT_ONCE, inputs={"release": "3.3.2-b"})["reason"] == RESTARTED
    host.states[ENDED] = "inactive"
    assert not run(run_module, **RUN_AT_ONCE, inputs={"release": "3.3.2-b"})["changed"]


def test_reboot_is_no_reason_for_another_first_run(run_module: RunModule, host: Host) -> None:
    run(run_module, **RUN_AT_ONCE)
    host.states[ENDED] = "inactive"
    host.path(RUNNING_MARK).unlink()
    assert not run(run_module, **RUN_AT_ONCE)["changed"]


def test_first_run_that_fails_is_told_and_tried_again(run_module: RunModule, host: Host) -> None:
    host.fails, host.journal = True, "The bucket is not there.\n"
    result = run(run_module, **RUN_AT_ONCE)
    assert result["failed"]
    assert "airflow-triggerer.service has failed" in result["msg"]
    assert result["journal"] == ["The bucket is not there."]
    host.fails = False
    assert run(run_module, **RUN_AT_ONCE)["reason"] == "it had failed"


def test_timer_goes_with_its_service(run_module: RunModule, host: Host) -> None:
    run(run_module, **WITH_TIMER)
    assert run(run_module, state="absent")["changed"]
    assert host.changes[-2:] == ["disable --now airflow-triggerer.timer airflow-triggerer.service", "daemon-reload"]
    assert (host.text(TIMER), host.enabled) == (None, set())
    assert not run(run_module, state="absent")["changed"]


# Health ----------------------------------------------------------------------------------------------------------------


def beat(age: float) -> str:
    """When a heartbeat was that many seconds ago."""
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)).isoformat()


def health(status: str = "healthy", age: float = 5, component: str = "triggerer") -> bytes:
    return json.dumps({component: {"status": status, f"latest_{component}_heartbeat": beat(age)}}).encode()


@pytest.mark.parametrize(
    ("body", "fresh"),
    [
        (health, True),
        (lambda: health(age=60), True),
        (lambda: health(age=101), False),
        (lambda: health(status="unhealthy"), False),
        (lambda: health(component="scheduler"), False),
        (lambda: b'{"triggerer": {"status": "healthy", "latest_triggerer_heartbeat": null}}', False),
        (lambda: b'{"triggerer": {"status": null, "latest_triggerer_heartbeat": null}}', False),
        (lambda: b'{"triggerer": null}', False),
        (lambda: b"{}", False),
        (lambda: b"null", False),
    ],
)
def test_heartbeat_counts_when_it_is_of_the_present_process(body: Callable[[], bytes], fresh: bool) -> None:
    # Made now: tests may run a minute after they were collected.
    assert airflow_service.heartbeat_is_fresh(body(), "triggerer", process_age=100) is fresh


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[bytes | Exception]:
    """What the health address answers, one a question, the last one for ever."""
    answers: list[bytes | Exception] = []

    def open_url(url: str, **rest: Any) -> io.BytesIO:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(airflow_service, "open_url", open_url)
    return answers


HEALTH: dict[str, Any] = {"health": {"url": "http://web1/health", "component": "triggerer", "timeout": 20}}


@pytest.mark.parametrize(
    "first", [ConnectionError("refused"), b"{}", health(age=101), b"<html>starting</html>", b'["ok"]', b""], ids=str
)
def test_service_that_is_not_healthy_yet_is_waited_for(
    run_module: RunModule, host: Host, replies: list[Any], clock: SimpleNamespace, first: Any
) -> None:
    replies += [first, first, health()]
    assert run(run_module, **HEALTH)["started"]
    assert clock.now == 1001.0


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (ConnectionError("refused"), "GET http://web1/health: refused"),
        (b"{}", "http://web1/health names no heartbeat of this process for triggerer yet"),
    ],
)
def test_service_that_stays_unhealthy_fails_with_the_reason_and_its_journal(
    run_module: RunModule, host: Host, replies: list[Any], clock: SimpleNamespace, reply: Any, problem: str
) -> None:
    replies.append(reply)
    host.journal = f"cannot log in with {PASSWORD}\nboom\n"
    result = run(run_module, **HEALTH)
    assert result["failed"]
    assert result["msg"].startswith(f"airflow-triggerer.service did not become healthy within 20 s: {problem}. Remedy: ")
    assert "journalctl -u airflow-triggerer" in result["msg"]
    assert result["journal"] == ["cannot log in with ********", "boom"]
    assert PASSWORD not in json.dumps(result)
    assert 20 < clock.now - 1000 < 22


def test_service_that_ends_at_once_fails_with_its_state(run_module: RunModule, host: Host) -> None:
    host.started_as = "failed"
    result = run(run_module)
    assert "did not become healthy within 30 s: airflow-triggerer.service is failed (dead)" in result["msg"]


def test_unhealthy_service_is_found_though_nothing_changed(run_module: RunModule, host: Host, replies: list[Any]) -> None:
    run(run_module)
    replies.append(ConnectionError("refused"))
    assert run(run_module, **HEALTH)["failed"]


def test_check_mode_does_not_wait(run_module: RunModule, host: Host, replies: list[Any]) -> None:
    replies.append(ConnectionError("refused"))
    assert run(run_module, check=True, **HEALTH)["changed"]


# Choosing the moment ---------------------------------------------------------------------------------------------------

LATER: dict[str, Any] = {"restart": False}
FORCED = "a restart was asked for"


@pytest.mark.parametrize("change", CHANGES)
def test_restart_can_be_left_to_a_later_run(
    run_module: RunModule, host: Host, replies: list[bytes | Exception], change: str
) -> None:
    run(run_module)
    host.changes.clear()
    replies.append(ConnectionError("refused"))  # what is about to be restarted need not be healthy
    for written in (True, False):
        result = run(run_module, **CHANGES[change], **LATER, **HEALTH)
        assert (result["changed"], result["started"], result["pending"]) == (written, False, True)
        assert result["reason"] == RESTARTED
        assert host.changes == ["daemon-reload"]
    assert host.loaded == host.text(UNIT)
    result = run(run_module, **CHANGES[change])
    assert (result["changed"], result["started"], result["pending"], result["reason"]) == (True, True, False, RESTARTED)
    assert not run(run_module, **CHANGES[change], **LATER)["pending"]


@pytest.mark.parametrize("change", CHANGES)
def test_run_killed_before_it_could_say_what_is_pending_is_healed(run_module: RunModule, host: Host, change: str) -> None:
    run(run_module)
    host.kill_at = "daemon-reload"
    with pytest.raises(Killed):
        run(run_module, **CHANGES[change], **LATER)
    host.kill_at = ""
    assert run(run_module, **CHANGES[change], **LATER)["pending"]
    assert run(run_module, **CHANGES[change])["started"]


@pytest.mark.parametrize("state", ["inactive", "failed"])
@pytest.mark.parametrize("change", [{}, CHANGES["unit"], {"force": True}], ids=["same", "changed", "forced"])
def test_service_that_does_not_run_is_started_at_any_moment(
    run_module: RunModule, host: Host, state: str, change: dict[str, Any]
) -> None:
    run(run_module)
    host.states["airflow-triggerer.service"] = state
    result = run(run_module, **change, **LATER)
    assert (result["started"], result["pending"], result["reason"]) == (True, False, f"it was {state}")
    assert host.states["airflow-triggerer.service"] == "active"


def test_service_that_nothing_changed_for_is_not_pending_and_its_health_is_asked(
    run_module: RunModule, host: Host, replies: list[bytes | Exception]
) -> None:
    run(run_module)
    assert not run(run_module, **LATER)["pending"]
    replies.append(ConnectionError("refused"))
    assert run(run_module, **LATER, **HEALTH)["failed"]


def test_restart_can_be_forced(run_module: RunModule, host: Host) -> None:
    run(run_module)
    host.changes.clear()
    result = run(run_module, force=True)
    assert (result["changed"], result["started"], result["pending"], result["reason"]) == (True, True, False, FORCED)
    assert host.changes == ["restart airflow-triggerer.service"]


def test_forced_restart_can_be_left_to_a_later_run(run_module: RunModule, host: Host) -> None:
    run(run_module)
    host.changes.clear()
    result = run(run_module, force=True, **LATER)
    assert (result["changed"], result["started"], result["pending"], result["reason"]) == (False, False, True, FORCED)
    assert host.changes == []


def test_changed_service_says_so_though_a_restart_is_forced(run_module: RunModule, host: Host) -> None:
    run(run_module)
    assert run(run_module, force=True, **CHANGES["unit"])["reason"] == RESTARTED


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("change", [CHANGES["environment"], {"force": True}], ids=["changed", "forced"])
def test_check_mode_says_what_would_be_pending(
    run_module: RunModule, host: Host, tree: Tree, change: dict[str, Any], restart: bool
) -> None:
    run(run_module)
    before = tree(host.root)
    host.changes.clear()
    told = run(run_module, check=True, restart=restart, **change)
    assert (tree(host.root), host.changes) == (before, [])
    done = run(run_module, restart=restart, **change)
    for key in ("changed", "started", "pending", "reason", "diff"):
        assert told[key] == done[key]


# Fingerprint -----------------------------------------------------------------------------------------------------------


def test_fingerprint_changes_with_each_part_and_not_with_their_order() -> None:
    parts: tuple[Any, ...] = ("unit", None, {"A": "1", "B": "2"}, [], {"release": "a"})
    base = airflow_service.fingerprint(*parts)
    assert airflow_service.fingerprint("unit", None, {"B": "2", "A": "1"}, [], {"release": "a"}) == base
    variants = {airflow_service.fingerprint(*parts[:index], "other", *parts[index + 1 :]) for index in range(len(parts))}
    assert len(variants | {base}) == len(parts) + 1


# Removing --------------------------------------------------------------------------------------------------------------


def remove(run_module: RunModule, check: bool = False) -> dict[str, Any]:
    return run_module(
        airflow_service, check=check, name="airflow-triggerer", environment_file=ENVIRONMENT, environment={}, state="absent"
    )


def test_leftover_is_removed_by_its_name_and_environment_file(run_module: RunModule, host: Host) -> None:
    """As the role does it, which does not know the secrets of what is to go."""
    run(run_module)
    result = run_module(airflow_service, name="airflow-triggerer", environment_file=ENVIRONMENT, state="absent")
    assert "msg" not in result
    assert host.text(UNIT) is None


def test_absent_service_is_stopped_and_its_files_removed(run_module: RunModule, host: Host) -> None:
    run(run_module)
    host.changes.clear()
    assert remove(run_module)["changed"]
    assert host.changes == ["disable --now airflow-triggerer.service", "daemon-reload"]
    assert not any(host.path(path).exists() for path in (UNIT, ENVIRONMENT, MARK, RUNNING_MARK, RECORD))
    host.changes.clear()
    assert not remove(run_module)["changed"]
    assert host.changes == []


def test_absent_service_takes_its_timer_with_it(run_module: RunModule, host: Host) -> None:
    run(run_module, **WITH_TIMER)
    host.changes.clear()
    assert remove(run_module)["changed"]
    assert host.changes[0] == "disable --now airflow-triggerer.timer airflow-triggerer.service"
    assert host.states["airflow-triggerer.timer"] == "inactive"
    assert host.text(TIMER) is None


def test_killed_removal_is_finished(run_module: RunModule, host: Host) -> None:
    run(run_module)
    host.kill_at = "daemon-reload"
    with pytest.raises(Killed):
        remove(run_module)
    host.kill_at = ""
    remove(run_module)
    assert not host.path(UNIT).exists()
    assert host.states["airflow-triggerer.service"] == "inactive"


def test_check_mode_removes_nothing(run_module: RunModule, host: Host, tree: Tree) -> None:
    run(run_module)
    before = tree(host.root)
    host.changes.clear()
    told = remove(run_module, check=True)
    assert tree(host.root) == before
    assert host.changes == []
    assert told["changed"] == remove(run_module)["changed"]
    assert not remove(run_module, check=True)["changed"]


def test_file_without_its_secret_is_refused(run_module: RunModule, host: Host) -> None:
    result = run(run_module, secret_contents={})
    assert result["failed"]
    assert "secret_contents must have the content of each of secret_files" in result["msg"]


@pytest.mark.parametrize("restart", [True, False])
def test_frozen_service_is_restarted_and_not_waited_for(
    run_module: RunModule, host: Host, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    assert run(run_module)["started"]
    monkeypatch.setattr(systemd, "is_frozen", lambda process: True)
    host.changes.clear()
    result = run(run_module, restart=restart)
    assert (result["started"], result["changed"], result["pending"]) == (True, True, False)
    assert result["reason"] == "a signal had stopped its main process"
    assert host.changes == ["restart airflow-triggerer.service"]


def test_unit_of_the_operators_by_the_same_name_is_left_alone(run_module: RunModule, host: Host, tree: Tree) -> None:
    host.path(UNIT).parent.mkdir(parents=True)
    host.path(UNIT).write_text("[Service]\nExecStart=/bin/theirs\n")
    host.states["airflow-triggerer.service"] = "active"
    before = tree(host.root)
    assert not run_module(airflow_service, name="airflow-triggerer", state="absent")["changed"]
    assert (tree(host.root), host.changes) == (before, [])


def test_host_notes_whose_it_is_without_a_restart(run_module: RunModule, host: Host) -> None:
    run(run_module)
    assert host.text("/var/lib/airfield/cluster.json") is None
    result = run(run_module, cluster="production")
    assert (result["changed"], result["started"]) == (True, False)
    assert json.loads(host.text("/var/lib/airfield/cluster.json") or "") == {"name": "production"}
