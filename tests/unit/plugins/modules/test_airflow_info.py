from __future__ import annotations

import contextlib
import grp
import hashlib
import io
import json
import os
import pwd
import runpy
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import host_health
from ansible_collections.airfield.metal.plugins.modules import airflow_info

RunModule = Callable[..., dict[str, Any]]
STATUS = """\
Package: zstd
Status: install ok installed
Version: 1.5

Package: python3-venv
Status: deinstall ok config-files

Package: redis-server
Status: install ok half-configured

Package: broken
Status: install reinstreq installed

Package: adduser
Status: install ok installed
Description: zstd
 Package: other
"""
URL = "postgresql://airflow:hunter2@db1/airflow"
# Of a database, when nothing is known of it.
NOTHING: dict[str, Any] = {
    "error": "",
    "cluster": "",
    "revisions": {},
    "users": 0,
    "queued": 0,
    "running": {},
    "mysql": {},
    "migrated": False,
}


@pytest.mark.parametrize(
    ("names", "installed"),
    [
        (["zstd"], ["zstd"]),
        (["python3-venv", "redis-server", "broken", "unknown"], []),
        (["adduser", "zstd"], ["zstd", "adduser"]),
        (["other"], []),
    ],
)
def test_packages_count_when_dpkg_has_them_installed(tmp_path: Path, names: list[str], installed: list[str]) -> None:
    status = tmp_path / "status"
    status.write_text(STATUS)
    assert airflow_info.installed_packages(names, str(status)) == installed


def test_no_packages_need_no_dpkg() -> None:
    assert airflow_info.installed_packages([], "/nonexistent") == []


@pytest.mark.parametrize("below", ["", "a/b/c"])
def test_free_space_of_a_path_that_does_not_exist_yet_is_that_of_its_file_system(tmp_path: Path, below: str) -> None:
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize / 2**20
    assert airflow_info.free_mb(str(tmp_path / below)) == pytest.approx(free, rel=0.1)


def test_account_is_found_with_the_groups_that_it_lacks() -> None:
    user = pwd.getpwuid(os.getuid())
    group = grp.getgrgid(user.pw_gid).gr_name
    found, others = airflow_info.look_up_account(user.pw_name, [group, "no-such-group"])
    assert others == []
    assert found == {
        "uid": user.pw_uid,
        "gid": user.pw_gid,
        "group": group,
        "missing_groups": ["no-such-group"],
        "surplus_groups": [],
    }


def test_further_group_of_an_account_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(grp, "getgrall", lambda: [grp.struct_group(("docker", "x", 999, [user.pw_name]))])
    assert airflow_info.look_up_account(user.pw_name, ["docker", "other"])[0]["missing_groups"] == ["other"]


def test_group_is_surplus_where_an_earlier_run_gave_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user = pwd.getpwuid(os.getuid())
    rows = [grp.struct_group((name, "x", 999, [user.pw_name])) for name in ("docker", "jenkins", "hdfs")]
    monkeypatch.setattr(grp, "getgrall", lambda: rows)
    (tmp_path / "account.json").write_text('{"groups": ["hdfs", "jenkins"]}')
    assert airflow_info.groups_given(str(tmp_path / "missing.json")) == []
    given = airflow_info.groups_given(str(tmp_path / "account.json"))
    account, others = airflow_info.look_up_account(user.pw_name, ["hdfs"], given)
    assert (account["surplus_groups"], others) == (["jenkins"], ["docker"])


def test_unknown_account_is_empty() -> None:
    assert airflow_info.look_up_account("no-such-user", ["x"]) == ({}, [])


def test_holders_of_names_and_numbers_are_found(tmp_path: Path) -> None:
    user = pwd.getpwuid(os.getuid())
    group = grp.getgrgid(os.getgid())
    params = {"account": user.pw_name, "group": group.gr_name, "uid": user.pw_uid, "gid": group.gr_gid}
    assert airflow_info.look_up_ids(params, str(tmp_path)) == {
        "user": {"uid": user.pw_uid, "gid": user.pw_gid, "shell": user.pw_shell, "home": user.pw_dir},
        "uid": user.pw_name,
        "group": group.gr_gid,
        "gid": group.gr_name,
        "home": {"user": user.pw_name, "uid": user.pw_uid, "group": group.gr_name, "gid": group.gr_gid},
    }


@pytest.mark.parametrize(
    "numbers", [{"uid": 2**31 - 2, "gid": 2**31 - 2}, {"uid": None, "gid": None}, {"uid": -5, "gid": 2**40}]
)
def test_names_and_numbers_that_are_free_have_no_holder(tmp_path: Path, numbers: dict[str, int]) -> None:
    params = {"account": "no-such-user", "group": None, **numbers}
    found = airflow_info.look_up_ids(params, str(tmp_path / "missing"))
    assert found == {"user": {}, "uid": "", "group": None, "gid": "", "home": {}}


@pytest.fixture
def port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_listening_service_answers(port: int) -> None:
    assert airflow_info.unanswered([{"name": "broker", "host": "127.0.0.1", "port": port}], 5) == []


def test_closed_port_is_named_with_what_was_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (failure,) = airflow_info.unanswered([{"name": "broker", "host": "127.0.0.1", "port": port}], 5)
    assert failure.startswith(f"broker: tried TCP 127.0.0.1:{port} for 5 s: ")
    assert "refused" in failure


def test_malformed_host_of_a_service_is_named() -> None:
    (failure,) = airflow_info.unanswered([{"name": "broker", "host": "redis..example.org", "port": 6379}], 5)
    assert failure.startswith("broker: tried TCP redis..example.org:6379 for 5 s: ")


@pytest.fixture
def greet() -> Iterator[Callable[[bytes], dict[str, Any]]]:
    """A server, as one of O(connect), that says this to whoever connects, and hangs up."""
    with contextlib.ExitStack() as stack:

        def start(greeting: bytes) -> dict[str, Any]:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def answer() -> None:
                connection, dummy = server.accept()
                with connection:
                    connection.sendall(greeting)

            thread = threading.Thread(target=answer)
            thread.start()
            stack.callback(thread.join)
            return {"name": "database", "host": "127.0.0.1", "port": server.getsockname()[1], "mysql": True}

        yield start


@pytest.mark.parametrize(
    ("greeting", "version"),
    [
        (b"J\0\0\0\n9.7.4\0" + b"x" * 70, "9.7.4"),
        (b"J\0\0\0\n5.5.5-10.11.19-MariaDB-0+deb12u1\0" + b"x" * 40, "5.5.5-10.11.19-MariaDB-0+deb12u1"),
    ],
)
def test_version_of_mysql_is_in_its_greeting(greet: Callable[[bytes], dict[str, Any]], greeting: bytes, version: str) -> None:
    service = greet(greeting)
    expected = {"host": "127.0.0.1", "port": service["port"], "version": version}
    assert airflow_info.mysql_servers([service], 5) == [expected]


@pytest.mark.parametrize("greeting", [b"", b"\x10\0\0\0\xffToo many connections", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_whoever_does_not_greet_as_mysql_is_left_out(greet: Callable[[bytes], dict[str, Any]], greeting: bytes) -> None:
    assert airflow_info.mysql_servers([greet(greeting)], 5) == []


def test_only_servers_that_should_be_mysql_are_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        service = {"name": "broker", "host": "127.0.0.1", "port": server.getsockname()[1], "mysql": False}
        server.settimeout(0)
        assert airflow_info.mysql_servers([service], 5) == []
        with pytest.raises(BlockingIOError):
            server.accept()
    assert airflow_info.mysql_servers([{**service, "mysql": True}], 5) == []


def test_names_without_an_address_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(name: str, service: None) -> list[Any]:
        if name != "web1":
            raise socket.gaierror("Name or service not known")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert airflow_info.unresolvable(["web1", "web2"]) == ["web2"]


def test_malformed_name_has_no_address() -> None:
    assert airflow_info.unresolvable(["web..example.org"]) == ["web..example.org"]


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([("worker1.example.org",)], "worker1.example.org"),
        ([("",), ("worker1.example.org",)], "worker1.example.org"),
        ([("",)], "worker1"),
        (socket.gaierror("Name or service not known"), "worker1"),
    ],
)
def test_host_goes_by_the_name_that_airflow_finds(monkeypatch: pytest.MonkeyPatch, rows: Any, name: str) -> None:
    def look_up(host: str, service: None, **hints: Any) -> list[Any]:
        assert (host, hints) == ("worker1", {"type": socket.SOCK_DGRAM, "flags": socket.AI_CANONNAME})
        if isinstance(rows, Exception):
            raise rows
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, *row, ("10.0.0.1", 0)) for row in rows]

    monkeypatch.setattr(socket, "gethostname", lambda: "worker1")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert host_health.airflow_hostname() == name


@pytest.mark.parametrize(
    ("text", "queues"),
    [
        (None, []),
        ("", []),
        ('AIRFIELD_WORKER_QUEUES=""\n', []),
        ('AIRFIELD_WORKER_QUEUES="canary.worker1"\n', ["canary.worker1"]),
        ('AIRFIELD_WORKER_QUEUES="canary.worker1,default"\n', ["canary.worker1", "default"]),
    ],
)
def test_queues_of_the_worker_are_read(tmp_path: Path, text: str | None, queues: list[str]) -> None:
    path = tmp_path / "worker-queues.env"
    if text is not None:
        path.write_text(text)
    assert airflow_info.worker_queues(str(path)) == queues


def test_report_of_backups_has_their_ages(tmp_path: Path) -> None:
    path = tmp_path / "backup.json"
    assert airflow_info.backup_report(8200.0, str(path)) == {}
    path.write_text('{"error": "x", "last": {"name": "b", "time": 1000}, "tested": {"name": "a", "time": 100}}')
    report = airflow_info.backup_report(8200.0, str(path))
    assert (report["error"], report["last"]["age_hours"], report["tested"]["age_hours"]) == ("x", 2.0, 2.25)


def test_delivered_revisions_are_those_with_a_mark(tmp_path: Path) -> None:
    for name in ("two", "one", "half"):
        (tmp_path / name).mkdir()
    (tmp_path / "one.complete").write_text('{"checked": [], "requirements": ["pandas==2.3.3"]}')
    (tmp_path / "two.complete").write_text('{"checked": [], "requirements": []}')
    (tmp_path / "current").symlink_to("one")
    assert airflow_info.delivered(str(tmp_path)) == {
        "current": "one",
        "revisions": ["one", "two"],
        "requirements": ["pandas==2.3.3"],
    }


def test_folder_that_is_filled_by_hand_is_no_revision(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    nothing: dict[str, Any] = {"current": "", "revisions": [], "requirements": []}
    assert airflow_info.delivered(str(tmp_path)) == airflow_info.delivered("/nonexistent") == nothing


def test_keys_of_each_holder_are_told_as_hashes(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("environments", "written", "running")}
    for folder in folders.values():
        folder.mkdir()
    for name, keys in {"cli": "a", "scheduler": "b, a", "triggerer": "b", "worker": None, "api-server": "b"}.items():
        text = "" if keys is None else f'AIRFLOW__CORE__FERNET_KEY="{keys}"\n'
        (folders["environments"] / f"{name}.env").write_text(f'A="1"\n{text}')
    for where, name, mark in (
        ("written", "scheduler", "1"),
        ("running", "scheduler", "1"),
        ("written", "triggerer", "2"),
        ("running", "triggerer", "1"),  # not restarted since
        ("written", "api-server", "1"),  # never started
    ):
        (folders[where] / f"airflow-{name}.fingerprint").write_text(mark)
    a, b = (hashlib.sha256(key.encode()).hexdigest() for key in "ab")
    found = airflow_info.fernet_keys(*map(str, folders.values()))
    assert found == {"cli": [a], "scheduler": [b, a], "triggerer": [], "api-server": []}


def test_host_without_components_has_no_keys(tmp_path: Path) -> None:
    assert airflow_info.fernet_keys(*[str(tmp_path / "none")] * 3) == {}


def test_host_is_described_and_nothing_changed(
    run_module: RunModule, commands: Any, tmp_path: Path, tree: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_health, "airflow_hostname", lambda: "worker1.example.org")
    monkeypatch.setattr(airflow_info, "worker_queues", lambda: ["default"])
    monkeypatch.setattr(airflow_info, "fernet_keys", lambda: {"cli": ["a hash"]})
    for release in ("3.3.2-b", "3.3.2-a"):
        (tmp_path / "releases" / release).mkdir(parents=True)
        (tmp_path / "releases" / release / ".complete").touch()
    (tmp_path / "releases/3.3.2-half").mkdir()
    (tmp_path / "current").symlink_to("releases/3.3.2-b")
    before = tree(tmp_path)
    links = [str(tmp_path / "current"), str(tmp_path / "missing")]
    results = [
        run_module(airflow_info, check=check, base=str(tmp_path), paths=[str(tmp_path)], links=links) for check in (False, True)
    ]
    for result in results:
        assert result["changed"] is False
        assert (result["current"], result["releases"]) == ("3.3.2-b", ["3.3.2-a", "3.3.2-b"])
        assert result["links"] == {links[0]: "releases/3.3.2-b", links[1]: ""}
        assert result["disks"][str(tmp_path)] > 0
        assert (result["account"], result["services"], result["unanswered"], result["unresolvable"]) == ({}, {}, [], [])
        assert (result["hostname"], result["worker_queues"]) == ("worker1.example.org", ["default"])
        assert result["fernet_keys"] == {"cli": ["a hash"]}
        assert result["cpus"] >= 1
        assert result["memory_mb"] > 100
        assert result["distribution"]["id"]
        assert "database" not in result
    assert tree(tmp_path) == before
    assert commands.lines == []


def test_everything_that_is_returned_is_documented(run_module: RunModule, tmp_path: Path, documented: set[str]) -> None:
    database = {"environment_file": str(tmp_path / "none"), "release": str(tmp_path)}
    result = run_module(airflow_info, base=str(tmp_path), database=database)
    # The clock is the action plugin's part, and who asks for the host's health gets nothing else.
    assert set(result) - {"changed", "invocation"} == documented - {"clock_offset", "health"}


def test_who_asks_for_health_gets_that_alone(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_health, "collect", lambda: {"units": {}})
    # A report that is damaged is told there, and ends nothing.
    monkeypatch.setattr(airflow_info, "backup_report", lambda now: 1 / 0)
    result = run_module(airflow_info, health=True)
    assert result.pop("health") == {"units": {}}
    assert set(result) == {"changed", "invocation"}


@pytest.fixture
def documented() -> set[str]:
    return {line[:-1] for line in airflow_info.RETURN.splitlines() if line and not line.startswith(" ")}


def test_state_of_each_loaded_service_is_reported(run_module: RunModule, commands: Any, tmp_path: Path) -> None:
    commands.answer = lambda words: (
        "airflow-worker.service    loaded    active   running Airflow worker\n"
        "airflow-scheduler.service loaded    failed   failed  Airflow scheduler of the cluster\n"
        "airflow-old.service       not-found inactive dead    airflow-old.service\n"
    )
    result = run_module(airflow_info, base=str(tmp_path), services=["airflow-*"])
    assert result["services"] == {"airflow-worker": "active", "airflow-scheduler": "failed"}
    assert commands.lines[0].endswith(" --type=service airflow-*")


class Database:
    """A release and an environment file, for the question to the metadata database."""

    def __init__(self, root: Path) -> None:
        self.release = root / "release"
        self.secrets = root / "cli.env"
        self.release.mkdir()
        (self.release / "airfield.json").write_text('{"heads": {"alembic_version": "abc"}}')
        self.secrets.write_text(f'AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="{URL}"\n')
        database = {"environment_file": str(self.secrets), "release": str(self.release)}
        self.task: dict[str, Any] = {"base": str(root), "database": database}


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


def test_database_is_asked_by_the_release_without_its_url_on_the_command_line(
    run_module: RunModule, commands: Any, database: Database
) -> None:
    state = {
        "error": "",
        "cluster": "",
        "revisions": {"alembic_version": "abc"},
        "users": 1,
        "running": {"worker1": 3},
        "mysql": {},
        "migrated": True,
    }
    commands.answer = lambda words: json.dumps(state)
    assert run_module(airflow_info, **database.task)["database"] == state
    assert commands.lines[0].startswith(f"{database.release}/bin/python -c ")
    assert "hunter2" not in commands.lines[0]
    assert commands.environments == [{"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": URL}]
    assert json.loads(commands.inputs[0]) == {"alembic_version": "abc"}


@pytest.mark.parametrize("missing", ["release", "secrets"])
def test_host_without_release_or_secrets_has_no_migrated_database(
    run_module: RunModule, commands: Any, database: Database, missing: str
) -> None:
    ((database.release / "airfield.json") if missing == "release" else database.secrets).unlink()
    result = run_module(airflow_info, **database.task)["database"]
    assert result == NOTHING
    assert commands.lines == []


@pytest.mark.parametrize(
    "answer",
    [
        (1, "", f"Traceback: bad URL {URL}"),
        json.dumps({**NOTHING, "error": f"bad URL {URL}"}),
    ],
    ids=["crash", "error"],
)
def test_error_of_the_database_is_told_without_its_url(
    run_module: RunModule, commands: Any, database: Database, answer: Any
) -> None:
    commands.answer = lambda words: answer
    result = run_module(airflow_info, **database.task)
    assert result["database"]["error"].endswith("bad URL ********")
    assert result["database"] == {**NOTHING, "error": result["database"]["error"]}
    assert "hunter2" not in json.dumps(result)


# What the release's Python runs ----------------------------------------------------------------------------------------


@pytest.fixture
def run_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run it with these parts of SQLAlchemy."""

    def run(heads: dict[str, str], **parts: Any) -> dict[str, Any]:
        sqlalchemy = ModuleType("sqlalchemy")
        vars(sqlalchemy).update(parts, text=str)
        monkeypatch.setitem(sys.modules, "sqlalchemy", sqlalchemy)
        monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", URL)
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(heads)))
        monkeypatch.setattr(sys, "stdout", output := io.StringIO())
        (tmp_path / "probe.py").write_text(airflow_info.DATABASE_PROBE)
        runpy.run_path(str(tmp_path / "probe.py"))
        result: dict[str, Any] = json.loads(output.getvalue())
        return result

    return run


@pytest.fixture
def probe(run_probe: Callable[..., dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """Ask a database that a script has filled, through as much of SQLAlchemy as the question needs."""

    def run(script: str) -> dict[str, Any]:
        connection = sqlite3.connect(":memory:")
        connection.executescript(script)
        tables = [name for (name,) in connection.execute("select name from sqlite_master")]
        return run_probe(
            {"alembic_version": "abc"},
            create_engine=lambda url: SimpleNamespace(
                connect=lambda: closing(connection), dialect=SimpleNamespace(name="postgresql")
            ),
            inspect=lambda engine: SimpleNamespace(get_table_names=lambda: tables),
        )

    return run


MIGRATED = "create table alembic_version (version_num); insert into alembic_version values ('abc');"


def test_running_tasks_are_counted_for_each_worker(probe: Callable[[str], dict[str, Any]]) -> None:
    script = """
        create table task_instance (hostname, state);
        insert into task_instance values
            ('worker1', 'running'), ('worker1', 'restarting'), ('worker2', 'running'),
            ('worker1', 'success'), ('worker3', 'queued'), ('worker3', null), ('', 'scheduled');
    """
    assert probe(MIGRATED + script) == {
        "error": "",
        "cluster": "",
        "revisions": {"alembic_version": "abc"},
        "users": 0,
        "queued": 1,
        "running": {"worker1": 2, "worker2": 1},
        "mysql": {},
        "migrated": True,
    }


def test_database_says_whose_it_is(probe: Callable[[str], dict[str, Any]]) -> None:
    empty = "create table airfield_cluster (name);"
    assert probe(empty)["cluster"] == ""
    marked = "create table airfield_cluster (name); insert into airfield_cluster values ('production');"
    assert probe(marked)["cluster"] == "production"


def test_empty_database_runs_nothing(probe: Callable[[str], dict[str, Any]]) -> None:
    assert probe("") == NOTHING


def test_table_that_cannot_be_read_is_an_error(probe: Callable[[str], dict[str, Any]]) -> None:
    assert probe(MIGRATED + "create table task_instance (state);")["error"] == "no such column: hostname"


@pytest.mark.parametrize("name", ["mysql", "mariadb"])
def test_mysql_is_described(name: str, run_probe: Callable[..., dict[str, Any]]) -> None:
    answers: list[Any] = [
        [("version", "9.7.4"), ("log_bin", "ON"), ("log_bin_trust_function_creators", "OFF")],
        SimpleNamespace(scalar=lambda: "utf8mb3"),
    ]
    asked: list[str] = []

    def execute(query: str) -> Any:
        asked.append(query)
        return answers[len(asked) - 1]

    engine = SimpleNamespace(
        dialect=SimpleNamespace(name=name),
        url=SimpleNamespace(host="db1", port=None),
        connect=lambda: contextlib.nullcontext(SimpleNamespace(execute=execute)),
    )
    found = run_probe({}, create_engine=lambda url: engine, inspect=lambda engine: SimpleNamespace(get_table_names=list))
    assert found["mysql"] == {
        "host": "db1",
        "port": 3306,
        "version": "9.7.4",
        "charset": "utf8mb3",
        "variables": {"log_bin": "ON", "log_bin_trust_function_creators": "OFF"},
    }
    assert "explicit_defaults_for_timestamp" in asked[0]


# What a power cut spoils ------------------------------------------------------------------------------------------------


def report_of(tmp_path: Path, now: float = 8200.0) -> dict[str, Any]:
    places = [str(tmp_path / name) for name in ("backup.json", "spare.json", "proc")]
    return airflow_info.backup_report(now, *places)


ANEW = "Remedy: `systemctl start airfield-backup` on this host, which makes it anew."


def test_spoilt_report_of_backups_is_an_error_with_its_remedy(tmp_path: Path, spoilt: bytes) -> None:
    path = tmp_path / "backup.json"
    path.write_bytes(spoilt)
    report = report_of(tmp_path)
    if spoilt.startswith((b"{}", b'{"')):
        assert "last" not in report
    else:
        assert report == {"error": f"{path} is broken. {ANEW}"}
    path.write_bytes(b'{"error": "", "last": ' + (spoilt if spoilt in (b"[]", b"null", b"5", b"{}") else b"0") + b"}")
    assert report_of(tmp_path) == {"error": f"{path} is broken. {ANEW}"}


def test_report_of_backups_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "backup.json").mkdir()
    assert report_of(tmp_path) == {"error": f"{tmp_path}/backup.json cannot be read (Is a directory). {ANEW}"}


def test_report_that_found_no_room_on_the_disk_is_read_from_memory(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text('{"error": "", "attempted": 100, "last": {"time": 100}}')
    (tmp_path / "spare.json").write_text('{"error": "No space left", "attempted": 200, "last": {"time": 100}}')
    assert report_of(tmp_path)["error"] == "No space left"
    (tmp_path / "backup.json").write_text('{"error": "", "attempted": 300, "last": {"time": 300}}')
    assert report_of(tmp_path)["error"] == ""


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (b"/opt/airflow/current/bin/python\0/usr/local/lib/airfield/airfield_backup.py\0create\0", ""),
        (
            b"nginx\0",
            "The backup that was begun 2.0 hours ago was killed before its end. Remedy: `systemctl start airfield-backup`",
        ),
        (None, "The backup that was begun 2.0 hours ago was killed before its end. Remedy: `systemctl start airfield-backup`"),
    ],
    ids=["it runs", "another has its number", "it is gone"],
)
def test_backup_that_was_killed_is_an_error(tmp_path: Path, command: bytes | None, error: str) -> None:
    begun = {"error": "", "attempted": 100, "last": {"time": 100}, "begun": {"time": 1000, "pid": 77}}
    (tmp_path / "backup.json").write_text(json.dumps(begun))
    if command is not None:
        (tmp_path / "proc/77").mkdir(parents=True)
        (tmp_path / "proc/77/cmdline").write_bytes(command)
    found = report_of(tmp_path)["error"]
    assert found.startswith(error)
    assert bool(found) == bool(error)


def test_spoilt_mark_is_no_revision(tmp_path: Path, spoilt: bytes) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one.complete").write_bytes(spoilt)
    (tmp_path / "current").symlink_to("one")
    assert airflow_info.delivered(str(tmp_path)) == {"current": "one", "revisions": [], "requirements": []}


def test_what_cannot_be_guessed_is_told_with_its_remedy(tmp_path: Path, spoilt: bytes) -> None:
    base, lib = tmp_path / "airflow", tmp_path / "lib"
    assert airflow_info.broken_records(str(base), str(lib)) == []
    for folder in (lib, base / "dags/one", base / "resources/two", base / "releases/three"):
        folder.mkdir(parents=True)
    for link, target in {"dags/current": "one", "resources/current": "two", "current": "releases/three"}.items():
        (base / link).symlink_to(target)
    assert airflow_info.broken_records(str(base), str(lib)) == []
    paths = [base / "current/airfield.json", lib / "upgrade.json", base / "dags/one.complete", base / "resources/two.complete"]
    for path in paths:
        path.write_bytes(spoilt)
    problems = airflow_info.broken_records(str(base), str(lib))
    assert [problem.partition(" is broken. ")[0] for problem in problems] == [str(path) for path in paths]
    assert all(" Remedy: " in problem for problem in problems)


def test_database_of_a_damaged_release_is_not_asked(
    run_module: RunModule, commands: Any, database: Database, spoilt: bytes
) -> None:
    (database.release / "airfield.json").write_bytes(spoilt)
    result = run_module(airflow_info, **database.task)["database"]
    assert "airfield.json is broken. Remedy: the release is damaged" in result["error"]
    assert commands.lines == []


def test_spoilt_record_of_the_account_gives_it_no_groups(tmp_path: Path, spoilt: bytes) -> None:
    path = tmp_path / "account.json"
    for content in (spoilt, b'{"groups": null}', b'{"groups": 5}', b'{"groups": [5]}'):
        path.write_bytes(content)
        assert airflow_info.groups_given(str(path)) == []
    path.write_text('{"groups": ["data"]}')
    assert airflow_info.groups_given(str(path)) == ["data"]


@pytest.mark.parametrize(("text", "name"), [(None, ""), ('{"name": "production"}', "production"), ("", ""), ('{"na', "")])
def test_host_says_whose_it_is(tmp_path: Path, text: str | None, name: str) -> None:
    path = tmp_path / "cluster.json"
    if text is not None:
        path.write_text(text)
    assert airflow_info.cluster_name(str(path)) == name


def test_databases_of_others_are_asked_for_as_the_administrator(make_module: Callable[..., Any], commands: Any) -> None:
    commands.answer = lambda words: "shop\nwiki\n"
    assert airflow_info.postgresql_databases(make_module()) == ["shop", "wiki"]
    commands.answer = lambda words: (1, "", "no server")
    assert airflow_info.postgresql_databases(make_module()) == []
