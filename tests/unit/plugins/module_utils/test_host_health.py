from __future__ import annotations

import grp
import json
import os
import pwd
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import environment_file, host_health, written

ME = f"{pwd.getpwuid(os.getuid()).pw_name}:{grp.getgrgid(os.getgid()).gr_name}"
SHOWN = """\
Type=exec
MainPID=0
Id=airflow-worker.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
UnitFileState=enabled
NeedDaemonReload=no
NRestarts=2
FragmentPath=/etc/systemd/system/airflow-worker.service
DropInPaths=/usr/lib/systemd/system/service.d/all.conf /etc/systemd/system/airflow-worker.service.d/mine.conf
ReadWritePaths=/srv/shared -/srv/other
ActiveEnterTimestampMonotonic=1000000
InactiveEnterTimestampMonotonic=0

NextElapseUSecRealtime=
NextElapseUSecMonotonic=infinity
LastTriggerUSec=Tue 2026-12-01 15:21:49 UTC
Id=airflow-logs.timer
LoadState=loaded
ActiveState=active
SubState=elapsed
UnitFileState=enabled
DropInPaths=
FragmentPath=/etc/systemd/system/airflow-logs.timer

Listen=10.0.0.1:8333 (Stream)
Id=seaweedfs-s3.socket
LoadState=loaded
ActiveState=active
FragmentPath=/etc/systemd/system/seaweedfs-s3.socket
"""


# Asking


def test_function_that_hangs_is_left_to_itself() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        host_health.within(0.05, time.sleep, 5)
    assert time.monotonic() - began < 2


def test_function_that_fails_fails_for_its_caller() -> None:
    with pytest.raises(FileNotFoundError):
        host_health.within(2, os.stat, "/nonexistent")


def test_program_that_hangs_is_ended() -> None:
    with pytest.raises(TimeoutError, match="sleep has not ended within"):
        host_health.ask("sleep", "60", seconds=0.1)


def test_program_that_fails_gives_its_reason() -> None:
    with pytest.raises(OSError, match="cannot access"):
        host_health.ask("ls", "/nonexistent")


@pytest.mark.parametrize("value", ["plain", "p@ss:w/o%rd$HOME#'\"~\\ x&y", "`a`"])
def test_environment_files_are_read_as_they_are_written(tmp_path: Path, value: str) -> None:
    (tmp_path / "x.env").write_text(environment_file.render({"A": value, "B": 1}))
    assert host_health.environment_of(str(tmp_path / "x.env")) == {"A": value, "B": "1"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"state": "done"}', {"state": "done"}),
        ("", {"unreadable": "{path} is empty"}),
        (" \n", {"unreadable": "{path} is empty"}),
        ("[1]", {"unreadable": "{path} holds no record"}),
    ],
)
def test_record(tmp_path: Path, text: str, found: dict[str, str]) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    assert host_health.report(str(path)) == {name: value.format(path=path) for name, value in found.items()}


@pytest.mark.parametrize("content", [b'{"state": "do', b"\x00\x00\x00", b"\xff\xfe{"])
def test_damaged_record_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    assert str(path) in host_health.report(str(path))["unreadable"]


def test_record_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert host_health.report(str(tmp_path / "none")) == {}


# Units


def test_units_are_those_that_say_they_are_ours(tmp_path: Path) -> None:
    for name in ("airflow-worker.service", "airflow-logs.timer", "seaweedfs-s3.socket"):
        (tmp_path / name).write_text("# Managed by Airfield.\n[Unit]\n")
    # An operator's own, whose names are like ours, and what no unit is.
    (tmp_path / "airflow-postgres.service").write_text("[Unit]\n")
    (tmp_path / "airflow.target").write_text("# Managed by Airfield.\n")
    (tmp_path / "redis-server.service.d").mkdir()
    (tmp_path / "redis-server.service.d/airfield.conf").write_text("")
    (tmp_path / "mysql.service.d").mkdir()
    (tmp_path / "mysql.service.d/mine.conf").write_text("")
    assert host_health.our_units(str(tmp_path)) == [
        "airflow-logs.timer",
        "airflow-worker.service",
        "redis-server.service",
        "seaweedfs-s3.socket",
    ]


def test_units_as_systemd_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def ask(*command: str) -> str:
        asked.append(command)
        return SHOWN

    monkeypatch.setattr(host_health, "ask", ask)
    found = host_health.units(["airflow-worker.service", "airflow-logs.timer", "seaweedfs-s3.socket"])
    assert len(asked) == 1
    worker, timer, listener = found.values()
    assert (worker["active"], worker["restarts"], worker["ours"], worker["reload"]) == ("active", 2, True, False)
    # Not what a package brings for all services.
    assert worker["drop_ins"] == ["/etc/systemd/system/airflow-worker.service.d/mine.conf"]
    assert worker["writes"] == ["/srv/shared", "/srv/other"]
    assert worker["active_seconds"] == pytest.approx(time.monotonic() - 1, abs=5)
    assert worker["inactive_seconds"] is None
    assert (timer["sub"], timer["has_next_run"], timer["last_trigger"]) == ("elapsed", False, 1796138509)
    assert listener["listen"] == "10.0.0.1:8333"


@pytest.mark.parametrize(
    ("realtime", "monotonic", "next_run"),
    [("Tue 2026-12-01 15:31:51 UTC", "0", True), ("", "22min 39s", True), ("", "infinity", False), ("", "0", False)],
)
def test_next_run_of_a_timer(realtime: str, monotonic: str, next_run: bool) -> None:
    shown = {"Id": "a.timer", "NextElapseUSecRealtime": realtime, "NextElapseUSecMonotonic": monotonic}
    assert host_health.describe_unit(shown)["has_next_run"] is next_run


def test_process_that_was_stopped_by_a_signal() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            os.kill(process.pid, 19)
            deadline = time.monotonic() + 5
            while host_health.process_state(str(process.pid)) != "T":
                assert time.monotonic() < deadline
        finally:
            process.kill()
    assert host_health.process_state("999999999") == ""


# Files


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A file that a run has written, with its record in the same folder."""
    path = tmp_path / "airflow.cfg"
    path.write_text("[core]\n")
    path.chmod(0o640)
    owner, dummy, group = ME.partition(":")
    entry = written.record(
        str(tmp_path / "airflow-config.written.json"),
        [{"path": str(path), "content": "[core]\n", "mode": "0640", "owner": owner, "group": group}],
    )
    Path(entry["path"]).write_text(entry["content"])
    return path


def append(path: Path) -> None:
    path.write_text(path.read_text() + "# mine\n")


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "content": (append, "has another content"),
    "mode": (lambda path: path.chmod(0o600), "has mode 0600 instead of 0640"),
    "gone": (lambda path: path.unlink(), "is missing"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_file_that_was_changed_since(recorded: Path, change: str) -> None:
    assert host_health.drift(str(recorded.parent)) == []
    CHANGES[change][0](recorded)
    assert host_health.drift(str(recorded.parent)) == [
        {"path": str(recorded), "unit": "airflow-config", "how": CHANGES[change][1]}
    ]


def test_file_that_belongs_to_somebody_else(recorded: Path) -> None:
    record = recorded.parent / "airflow-config.written.json"
    record.write_text(record.read_text().replace(ME, "nobody:nogroup"))
    (row,) = host_health.drift(str(recorded.parent))
    assert "instead of nobody:nogroup" in row["how"]
    # A group may be given by its number.
    record.write_text(record.read_text().replace("nobody:nogroup", f"{os.getuid()}:{os.getgid()}"))
    assert host_health.drift(str(recorded.parent)) == []


def test_record_of_files_that_is_damaged_is_itself_told(recorded: Path) -> None:
    record = recorded.parent / "airflow-config.written.json"
    record.write_text("")
    assert host_health.drift(str(recorded.parent)) == [{"path": str(record), "unit": "", "how": "cannot be read"}]


@pytest.mark.parametrize(("running", "pending"), [("new\n", []), ("old\n", ["airflow-worker"]), (None, [])])
def test_service_that_was_started_from_something_else(tmp_path: Path, running: str | None, pending: list[str]) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "lib/airflow-worker.fingerprint").write_text("new\n")
    if running:
        (tmp_path / "run/airflow-worker.fingerprint").write_text(running)
    assert host_health.pending(str(tmp_path / "lib"), str(tmp_path / "run")) == pending


def test_disks_are_told_once_each(tmp_path: Path) -> None:
    (row,) = host_health.disks([str(tmp_path), str(tmp_path / "none"), str(tmp_path)])
    assert row["path"] == str(tmp_path)
    assert 0 <= row["percent"] <= 100
    assert row["free_mb"] > 0
    assert row["read_only"] is False


def test_disk_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_health, "DISK_PATIENCE", 0.05)
    monkeypatch.setattr(os, "statvfs", lambda path: time.sleep(3))
    assert host_health.disks([str(tmp_path)]) == [{"path": str(tmp_path), "error": "no answer within 0.05 s"}]


@pytest.mark.parametrize(
    ("name", "text", "limited"),
    [
        ("journald.conf", "[Journal]\n#SystemMaxUse=\n", False),
        ("journald.conf", "[Journal]\nSystemMaxUse=\n", False),
        ("journald.conf", "[Journal]\nSystemMaxUse=1G\n", True),
        ("journald.conf.d/airfield.conf", "[Journal]\nSystemMaxUse=1024M\n", True),
    ],
)
def test_limit_of_the_journal(tmp_path: Path, name: str, text: str, limited: bool) -> None:
    (tmp_path / "journald.conf.d").mkdir()
    (tmp_path / name).write_text(text)
    assert host_health.journal_limit([str(tmp_path), str(tmp_path / "journald.conf.d")]) is limited


@pytest.mark.parametrize(("text", "who"), [('{"who": "ann@laptop", "playbook": "site.yml"}', "ann@laptop"), ("", "somebody")])
def test_lock_of_a_run(tmp_path: Path, text: str, who: str) -> None:
    path = tmp_path / "run.lock"
    assert host_health.lock(time.time(), str(path)) == {}
    path.write_text(text)
    found = host_health.lock(time.time() + 100, str(path))
    assert (found["who"], found["idle"]) == (who, 100)


def test_backups_have_their_ages_and_their_folder(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text(json.dumps({"error": "", "last": {"time": 1000.0}}))
    (tmp_path / "settings.json").write_text(json.dumps({"test_days": 7, "scratch_url": "x", "directory": "/b"}))
    found = host_health.backups(1000.0 + 7200, str(tmp_path), str(tmp_path / "settings.json"))
    assert (found["last"]["age_hours"], found["test_days"], found["directory"]) == (2.0, 7, "/b")


def look_at_backups(folder: Path) -> dict[str, Any]:
    return host_health.backups(0, *(str(folder / name) for name in ("", "none", "spare.json", "proc")))


def test_spoilt_report_of_backups_is_told(tmp_path: Path, spoilt: bytes) -> None:
    (tmp_path / "backup.json").write_bytes(spoilt)
    found = look_at_backups(tmp_path)
    assert ("unreadable" in found) != spoilt.startswith((b"{}", b'{"'))
    assert (found["broken"], "last" in found) == ({}, False)


def test_report_of_backups_that_found_no_room_is_in_memory(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text('{"error": "", "attempted": 1}')
    (tmp_path / "spare.json").write_text('{"error": "No space left", "attempted": 2}')
    assert look_at_backups(tmp_path)["error"] == "No space left"
    (tmp_path / "backup.json").write_text('{"error": "", "attempted": 3}')
    assert look_at_backups(tmp_path)["error"] == ""


def test_backup_that_was_killed_has_failed(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text('{"error": "", "attempted": 1, "begun": {"time": 2, "pid": 77}}')
    assert look_at_backups(tmp_path)["error"] == "it was killed before its end"
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/cmdline").write_text("nginx")
    assert look_at_backups(tmp_path)["error"] == "it was killed before its end"
    (tmp_path / "proc/77/cmdline").write_text("python\0/usr/local/lib/airfield/airfield_backup.py\0create\0")
    assert look_at_backups(tmp_path)["error"] == ""


@pytest.mark.parametrize("last", [{}, None, "x", {"time": "soon"}])
def test_backup_report_of_another_form_is_told(tmp_path: Path, last: Any) -> None:
    (tmp_path / "backup.json").write_text(json.dumps({"error": "", "last": last}))
    found = host_health.backups(0, str(tmp_path), str(tmp_path / "none"))
    assert "unreadable" in found
    assert "last" not in found


def test_worker_has_its_queues_and_slots(tmp_path: Path) -> None:
    (tmp_path / "queues.env").write_text('AIRFIELD_WORKER_QUEUES="canary.worker1,default"\n')
    assert host_health.worker_queues(str(tmp_path / "queues.env"))["queues"] == ["canary.worker1", "default"]
    assert host_health.worker_queues(str(tmp_path / "none")) == {}


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("[celery]\nworker_concurrency = 4\n", 4),
        ("[celery]\nworker_concurrency = 4\nworker_autoscale = 12,2\n", 12),
        ("", 0),
        ("no configuration", 0),
        ("[celery]\nworker_concurrency = 50%\n", 0),
    ],
)
def test_slots_of_a_worker(tmp_path: Path, text: str, slots: int) -> None:
    (tmp_path / "airflow.cfg").write_text(text)
    assert host_health.slots(host_health.airflow_options(str(tmp_path / "airflow.cfg"))) == slots


def test_certificate_of_the_web_server(tmp_path: Path) -> None:
    path = tmp_path / "web.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "10", "-subj", "/CN=web1"]
    subprocess.run([*command, "-keyout", str(tmp_path / "key.pem"), "-out", str(path)], check=True, capture_output=True)
    (tmp_path / "airflow.cfg").write_text(f"[api]\nssl_cert = {path}\n[webserver]\nweb_server_ssl_cert = {tmp_path}/none\n")
    good, missing = host_health.certificates(host_health.airflow_options(str(tmp_path / "airflow.cfg")))
    assert good["days"] == pytest.approx(10, abs=0.2)
    assert missing["error"]


# Services


class Handler(socketserver.StreamRequestHandler):
    """As much of Redis as the client needs, and of a web server."""

    answers: dict[str, bytes]
    words: list[str]

    def handle(self) -> None:
        while True:
            line = self.rfile.readline()
            if not line:
                return
            if line.startswith(b"GET "):
                self.wfile.write(self.answers["GET " + line.split()[1].decode()])
                return
            words = []
            for _dummy in range(int(line[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2].decode())
            self.server.words.append(" ".join(words))  # type: ignore[attr-defined]
            self.wfile.write(self.answers[words[0]])


@pytest.fixture
def server() -> Iterator[Any]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.words = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def test_redis_says_how_it_is(server: Any) -> None:
    info = "# Memory\r\nused_memory:7\r\nmaxmemory:100\r\nrole:master\r\naof_last_write_status:ok\r\nother:1\r\n"
    Handler.answers = {"AUTH": b"+OK\r\n", "SELECT": b"+OK\r\n", "INFO": f"${len(info)}\r\n{info}\r\n".encode()}
    found = host_health.redis_facts(f"redis://airflow:p%40s%2Fs@127.0.0.1:{server.server_address[1]}/2")
    assert found == {"error": "", "used_memory": 7, "maxmemory": 100, "role": "master", "aof_last_write_status": "ok"}
    assert server.words == ["AUTH airflow p@s/s", "SELECT 2", "INFO"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"-WRONGPASS invalid username-password pair\r\n", "WRONGPASS"),
        (b"-ERR no such hunter2\r\n", "no such ********"),
        (b"", "closed"),
    ],
)
def test_redis_that_refuses_is_told_without_the_password(server: Any, answer: bytes, error: str) -> None:
    Handler.answers = {"AUTH": answer}
    if not answer:
        Handler.answers = {"AUTH": b"+OK\r\n", "INFO": b"cut off"}
        server.RequestHandlerClass = type("Short", (Handler,), {"handle": lambda self: self.rfile.readline()})
    found = host_health.redis_facts(f"redis://airflow:hunter2@127.0.0.1:{server.server_address[1]}/0")
    assert error in found["error"]
    assert "hunter2" not in found["error"]


def test_redis_that_is_away() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert "refused" in host_health.redis_facts(f"redis://127.0.0.1:{bound.getsockname()[1]}/0")["error"]


def test_redis_that_hangs_does_not_hang_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_health.Redis.__init__, "__defaults__", (0.1,))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        began = time.monotonic()
        assert "timed out" in host_health.redis_facts(f"redis://:x@127.0.0.1:{bound.getsockname()[1]}/0")["error"]
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nfine", ""),
        (b"HTTP/1.0 500 Broken\r\n\r\n", "status 500"),
        (b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "status 302"),
        (b"", "closed connection"),
    ],
)
def test_page_of_a_service(server: Any, answer: bytes, fault: str) -> None:
    Handler.answers = {"GET /health": answer}
    told = host_health.http(f"http://127.0.0.1:{server.server_address[1]}/health")
    assert fault in told
    assert bool(told) is bool(fault)


def test_page_behind_a_prefix_counts_too(server: Any) -> None:
    Handler.answers = {"GET /a": b"HTTP/1.0 404 No\r\n\r\n", "GET /b": b"HTTP/1.0 200 OK\r\n\r\n"}
    base = f"http://127.0.0.1:{server.server_address[1]}"
    assert host_health.ask_pages([f"{base}/a", f"{base}/b"]) == ""
    assert "/a: status 404" in host_health.ask_pages([f"{base}/a"])


def test_pages_are_those_of_the_services_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "cfg").write_text("[api]\nport = 9000\nbase_url = https://example.org/team/\n")
    options = host_health.airflow_options(str(tmp_path / "cfg"))
    known = {"airflow-api-server.service": {}, "seaweedfs-s3.socket": {"listen": "0.0.0.0:8333"}}
    assert host_health.addresses(known, options) == {
        "airflow-api-server.service": [
            "http://127.0.0.1:9000/api/v2/version",
            "http://127.0.0.1:9000/team/api/v2/version",
        ],
        "seaweedfs-s3.socket": ["http://127.0.0.1:8333/healthz"],
    }
    assert host_health.addresses({}, options) == {}


def test_peers_are_those_of_the_components_that_are_there(tmp_path: Path) -> None:
    connection = {"conn_type": "aws", "extra": {"endpoint_url": "http://store1:8333"}}
    variables = {
        "AIRFLOW__CELERY__BROKER_URL": "redis://airflow:p%3A%40@store1:6380/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": "db+postgresql+psycopg2://a:b@db1/results",
        "AIRFLOW_CONN_AIRFLOW_LOGS": json.dumps(connection),
    }
    (tmp_path / "worker.env").write_text(environment_file.render(variables))
    (tmp_path / "cli.env").write_text(environment_file.render({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://"}))
    (tmp_path / "cfg").write_text("[core]\nexecution_api_server_url = http://web1:8080/execution/\n")
    options = host_health.airflow_options(str(tmp_path / "cfg"))
    assert host_health.peers(options, str(tmp_path)) == {
        "API server": ("web1", 8080),
        "broker": ("store1", 6380),
        "result backend": ("db1", 5432),
        "object store": ("store1", 8333),
    }


# As much of SQLAlchemy as the probe needs, which is in releases and not here.
SQLALCHEMY = """
import sqlite3
from types import SimpleNamespace

def make_url(text):
    return SimpleNamespace(path=text.removeprefix("sqlite:///"), get_backend_name=lambda: "sqlite")

class Connection:
    def __init__(self, path): self.base = sqlite3.connect(path)
    def __enter__(self): return self
    def __exit__(self, *dummy): self.base.close()
    def execute(self, query, values=()): return self.base.execute(query, values)

engine = SimpleNamespace(make_url=make_url)
text = str
def create_engine(url, connect_args): return SimpleNamespace(connect=lambda: Connection(url.path))
def inspect(engine):
    rows = engine.connect().execute("select name from sqlite_master")
    return SimpleNamespace(get_table_names=lambda: [name for (name,) in rows])
"""


def test_database_tells_of_jobs_queues_and_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sqlalchemy.py").write_text(SQLALCHEMY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    base = tmp_path / "airflow.db"
    with closing(sqlite3.connect(base)) as connection:
        connection.executescript(
            """
            create table job (job_type, hostname, state, latest_heartbeat);
            insert into job values ('SchedulerJob', 'scheduler1', 'running', '2020-01-01 00:00:00');
            insert into job values ('LocalTaskJob', 'worker1', 'running', '2020-01-01 00:00:00');
            create table import_error (filename, stacktrace);
            insert into import_error values ('broken.py', 'Traceback' || char(10) || 'NameError: x' || char(10));
            create table dag (dag_id, is_paused);
            insert into dag values ('etl', 0);
            create table dag_warning (dag_id, warning_type, message);
            insert into dag_warning values ('etl', 'non-existent pool', 'no pool');
            create table slot_pool (pool, slots);
            insert into slot_pool values ('default_pool', 128);
            create table task_instance (queue, state, queued_dttm, hostname, pool, pool_slots);
            insert into task_instance values ('gpu', 'queued', '2020-01-01 00:00:00', '', 'default_pool', 2);
            insert into task_instance values ('gpu', 'scheduled', null, '', 'lost', 1);
            insert into task_instance values ('default', 'running', null, 'worker1', 'default_pool', 1);
            """
        )
        connection.commit()
    found = host_health.database(f"sqlite:///{base}", sys.executable)
    assert found["error"] == ""
    (job,) = found["jobs"]
    assert (job["job"], job["hostname"]) == ("SchedulerJob", "scheduler1")
    assert job["age"] > 1e8
    assert found["import_errors"] == [{"file": "broken.py", "error": "NameError: x"}]
    assert found["warnings"] == [{"dag": "etl", "kind": "non-existent pool", "message": "no pool"}]
    assert [(row["queue"], row["tasks"]) for row in found["queued"]] == [("gpu", 1)]
    assert found["running"] == {"worker1": 1}
    assert found["pools"] == {
        "default_pool": {"slots": 128, "used": 3, "waiting": 0},
        "lost": {"slots": None, "used": 0, "waiting": 1},
    }


def test_database_that_cannot_be_asked_is_told_without_its_password() -> None:
    found = host_health.database("postgresql://airflow:hunter2@db1/airflow", "/nonexistent/python")
    assert found["error"]
    assert "hunter2" not in json.dumps(found)


def test_answer_of_a_probe_is_read_and_kept_clean(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("""#!/bin/sh\ncat > /dev/null\necho '{"error": "cannot reach x:hunter2@db1"}'\n""")
    program.chmod(0o755)
    found = host_health.database("postgresql://x:hunter2@db1/a", str(program))
    assert found["error"] == "cannot reach x:********@db1"


# All of it


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host on which nothing was installed."""
    for name in ("UNITS", "STATE", "RUNNING", "CONFIGURATION"):
        monkeypatch.setattr(host_health, name, str(tmp_path / name))
    for name in ("our_units", "drift", "pending", "peers", "airflow_options", "lock", "backups", "worker_queues"):
        function = getattr(host_health, name)
        count = len(function.__defaults__ or ())
        monkeypatch.setattr(function, "__defaults__", (str(tmp_path / "none"),) * count)


@pytest.mark.usefixtures("bare")
def test_host_without_systemd_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*command: str, **more: Any) -> str:
        raise FileNotFoundError("systemctl")

    monkeypatch.setattr(host_health, "ask", refuse)
    monkeypatch.setattr(host_health, "our_units", lambda: ["airflow-worker.service"])
    found = host_health.collect()
    assert found["error"] == "systemd does not answer: systemctl"
    assert found["disks"]
    json.dumps(found)


@pytest.mark.usefixtures("bare")
def test_timer_asks_the_database_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(host_health, "our_units", lambda: ["airflow-scheduler.service"])
    monkeypatch.setattr(host_health, "units", lambda names: {name: {"active": "active", "writes": []} for name in names})
    monkeypatch.setattr(host_health, "secret", lambda name: "sqlite://" if "SQL" in name else "")

    def database(url: str) -> dict[str, Any]:
        asked.append(url)
        return {"error": "", "time": time.time()}

    monkeypatch.setattr(host_health, "database", database)
    first = host_health.collect()
    assert host_health.collect(first)["database"] == first["database"]
    assert len(asked) == 1
    first["database"]["time"] -= host_health.DATABASE_PAUSE
    host_health.collect(first)
    host_health.collect({"database": {"error": "away", "time": time.time()}})
    assert len(asked) == 3


def test_program_leaves_and_publishes_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    Handler.answers = {"AUTH": b"+OK\r\n", "SET": b"+OK\r\n"}
    monkeypatch.setattr(host_health, "collect", lambda before: {"before": before.get("number", 0), "number": 1})
    monkeypatch.setenv("AIRFIELD_SLACK_BROKER_URL", f"redis://alerts:x@127.0.0.1:{server.server_address[1]}/0")
    monkeypatch.setattr(sys, "argv", ["host_health.py", "store1", "--state", str(tmp_path / "health.json")])
    host_health.main()
    host_health.main()
    assert json.loads((tmp_path / "health.json").read_text()) == {"before": 1, "number": 1}
    assert (tmp_path / "health.json").stat().st_mode & 0o777 == 0o600
    assert server.words[-1] == 'SET airfield:health:store1 {"before": 1, "number": 1} EX 300'


def test_program_publishes_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Handler.answers = {"AUTH": b"+OK\r\n", "SET": b"+OK\r\n"}
    monkeypatch.setattr(host_health, "collect", lambda before: {"number": 1})
    monkeypatch.setenv("AIRFIELD_SLACK_BROKER_URL", f"redis://alerts:x@127.0.0.1:{server.server_address[1]}/0")
    monkeypatch.setattr(sys, "argv", ["host_health.py", "store1", "--state", str(tmp_path / "none/health.json")])
    host_health.main()
    assert server.words[-1].startswith("SET airfield:health:store1 ")
    assert "cannot be written" in capsys.readouterr().err


def test_program_needs_nothing_but_python() -> None:
    program = Path(host_health.__file__)
    done = subprocess.run([sys.executable, "-I", str(program), "--help"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
