from __future__ import annotations

import argparse
import contextlib
import errno
import gzip
import importlib.util
import io
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

import pytest

SCRIPT = Path(__file__).parents[5] / "roles/airflow_backup/files/airfield_backup.py"
NOW = 1_800_000_000.0
DAY = 86400
KEY, OTHER = "AGE-SECRET-KEY-1MINE", "AGE-SECRET-KEY-1OTHER"
# Encrypts by turning every bit over, after a line that names the recipient; with that line wrong, or a byte 0, it complains.
AGE = f"""#!{sys.executable}
import sys
arguments = sys.argv[1:]
turn = bytes(range(255, -1, -1))
if "--encrypt" in arguments:
    sys.stdout.buffer.write(b"for MINE\\n" + sys.stdin.buffer.read().translate(turn) + b"end")
    sys.exit()
key = open(arguments[arguments.index("--identity") + 1]).read().strip()
head, _, body = sys.stdin.buffer.read().partition(b"\\n")
if not head.startswith(b"for "):
    sys.exit("age: error: failed to read header")
if not key.endswith(head[4:].decode()):
    sys.exit("age: error: no identity matched any of the recipients")
sys.stdout.buffer.write(body.removesuffix(b"end").translate(turn))
sys.stdout.buffer.flush()
if not body.endswith(b"end"):
    sys.exit("age: error: unexpected EOF")
"""
# Says what it was given, and stops where the text has an error, as with ON_ERROR_STOP.
PSQL = f"""#!{sys.executable}
import os, sys
with open(os.environ["PSQL_LOG"], "w") as log:
    for line in sys.stdin:
        log.write(line)
        if "broken" in line:
            sys.exit("psql:<stdin>:3: ERROR:  broken")
"""
PG_RESTORE = f"""#!{sys.executable}
import sys
text = sys.stdin.read()
sys.stdout.write(text)
if "truncated" in text:
    sys.exit("pg_restore: error: could not read from input file: end of file")
"""


@pytest.fixture(scope="module")
def backup() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("airfield_backup", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the programs that the script runs, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"age": AGE, "psql": PSQL, "pg_restore": PG_RESTORE}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PSQL_LOG", str(tmp_path / "psql.log"))
    return folder


class Database:
    """A database that is a text; its dump begins with what it is."""

    databases: dict[str, Database] = {}  # noqa: RUF012 - each test has its own

    def __init__(self, text: str = "") -> None:
        self.text, self.marked, self.error, self.name = text, "", "", "airflow"
        # Who holds its tables, and for how many seconds.
        self.held, self.since = "", 0

    def dump(self, stream: IO[bytes], tables: list[str]) -> tuple[dict[str, int], dict[str, str]]:
        if not self.text:
            raise self.failure("nothing to back up")
        stream.write(self.text.encode())
        stream.flush()
        return {"public.dag_run": len(self.text)}, {"alembic_version": "a1"}

    def tables(self) -> int:
        return len(self.text)

    def holders(self, seconds: int) -> str:
        return self.held if self.since >= seconds else ""

    def mark(self) -> str:
        return self.marked

    def restore(self, dump: IO[bytes], counts: Mapping[str, int], finish: Callable[[], None], mark: str) -> None:
        text = dump.read().decode()
        finish()
        if self.error or counts != {"public.dag_run": len(text)}:
            raise self.failure(self.error or "counts differ")
        if mark:
            self.text, self.marked = text, mark

    failure: Callable[[str], Exception] = RuntimeError


class Host:
    """A host with the script's settings and two databases."""

    def __init__(self, module: ModuleType, root: Path) -> None:
        self.module, self.root = module, root
        self.folder = root / "backups"
        (root / "secrets.age").write_bytes(
            b"for MINE\n" + b'{"airflow_jwt_secret": "j"}'.translate(bytes(range(255, -1, -1))) + b"end"
        )
        (root / "cli.env").write_text('A="1"\nAIRFLOW__CORE__FERNET_KEY="new,old"\n')
        self.settings: dict[str, Any] = {
            "directory": str(self.folder),
            "recipients": ["age1mine"],
            "database_url": "real",
            "scratch_url": "scratch",
            "keep": 3,
            "keep_days": 30,
            "test_days": 7,
            "include": {"cli.env": str(root / "cli.env"), "secrets.age": str(root / "secrets.age")},
            "revision_tables": ["alembic_version"],
            "airflow_version": "3.3.2",
            "release": "3.3.2-x",
            "s3": None,
        }
        self.real, self.scratch = Database("a database"), Database()
        Database.databases = {"real": self.real, "scratch": self.scratch}
        Database.failure = module.BackupError
        self.now = NOW

    def run(self, *words: str, key: str = KEY, settings: bytes | None = None) -> Any:
        """What a command of the script answers."""
        (self.root / "settings.json").write_bytes(json.dumps(self.settings).encode() if settings is None else settings)
        arguments = argparse.Namespace(
            command=words[0],
            archive=Path(words[1]) if len(words) > 1 else None,
            settings=self.root / "settings.json",
            report=self.root / "report.json",
            lock=self.root / "lock",
            test="--test" in words,
            replace="--replace" in words,
            dry_run="--dry-run" in words,
        )
        stdin, sys.stdin = sys.stdin, io.StringIO(f"# a comment\n{key}\n")
        try:
            return self.module.run(arguments)
        finally:
            sys.stdin = stdin

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.root / "report.json").read_text())
        return report

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def create(self, days: float = 0) -> Path:
        """A backup, so many days later."""
        self.now += days * DAY
        return self.folder / self.run("create")["name"]


@pytest.fixture
def host(backup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(backup, tmp_path)
    monkeypatch.setattr(backup, "engine", lambda url: Database.databases[url])
    monkeypatch.setattr(backup.time, "time", lambda: host.now)
    return host


# Making them -----------------------------------------------------------------------------------------------------------


def test_backup_is_complete_encrypted_and_for_root_alone(host: Host) -> None:
    path = host.create()
    assert host.names() == ["airfield-20270115T080000Z.json", "airfield-20270115T080000Z.tar.age"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.folder.stat().st_mode) == 0o700
    assert b"a database" not in path.read_bytes()
    found = host.run("inspect", str(path))
    assert found["manifest"]["rows"] == {"public.dag_run": 10}
    # The keys are those of the dump's moment, not those that the last run has sealed.
    assert found["secrets"] == {"airflow_jwt_secret": "j", "airflow_fernet_key": "new,old"}
    report = host.report()
    assert report["error"] == ""
    assert report["last"]["rows"] == 10
    assert stat.S_IMODE((host.root / "report.json").stat().st_mode) == 0o644


def test_backup_is_tested_when_that_is_due(host: Host) -> None:
    first = host.create()
    assert host.report()["tested"]["name"] == first.name
    second = host.create(days=6)
    assert host.report()["last"]["tested"] is None
    assert host.report()["tested"]["name"] == first.name
    # Some minutes early, as the timer may be.
    third = host.create(days=0.99)
    assert host.report()["tested"]["name"] == third.name
    assert [backup["tested"] for backup in host.run("list")] == [True, None, True]
    assert second.exists()
    host.settings["test_days"] = 0
    host.create(days=20)
    assert host.report()["last"]["tested"] is None
    assert host.scratch.text == ""


def test_backup_that_fails_its_test_is_kept_and_told(host: Host, backup: ModuleType) -> None:
    host.scratch.error = "table dag_run has 9 rows"
    with pytest.raises(backup.BackupError, match=r"failed its test: table dag_run has 9 rows"):
        host.create()
    assert host.report()["last"]["tested"] is False
    assert "table dag_run has 9 rows" in host.report()["error"]
    assert "tested" not in host.report()
    assert len(host.names()) == 2
    host.scratch.error = ""
    host.create(days=1)
    assert (host.report()["error"], host.report()["last"]["tested"]) == ("", True)


def test_failure_leaves_the_last_one_and_says_why(host: Host, backup: ModuleType) -> None:
    path = host.create()
    before = host.names()
    host.real.text = ""
    with pytest.raises(backup.BackupError, match="nothing to back up"):
        host.create(days=1)
    assert host.names() == before
    assert host.report()["error"] == "nothing to back up"
    assert host.report()["last"]["name"] == path.name


def test_failing_encryption_leaves_nothing(host: Host, backup: ModuleType, programs: Path) -> None:
    (programs / "age").write_text("#!/bin/sh\necho age: error: malformed recipient >&2; exit 1\n")
    with pytest.raises(backup.BackupError, match="could not encrypt: age: error: malformed recipient"):
        host.create()
    assert host.names() == []
    (programs / "age").unlink()
    with pytest.raises(backup.BackupError, match="age is not installed"):
        host.create(days=1)


def test_what_a_killed_backup_has_left_is_no_backup_and_goes(host: Host) -> None:
    host.create()
    before = host.names()
    (host.folder / ".airfield-20270116T080000Z.tar.age").write_bytes(b"half")
    (host.folder / "airfield-20270117T080000Z.json").write_text("{}")
    (host.folder / "airfield-20270118T080000Z.tar.age").write_bytes(b"a copy of somebody's")
    assert len(host.run("list")) == 1
    host.create(days=9)
    assert set(host.names()) - set(before) == {
        "airfield-20270118T080000Z.tar.age",
        "airfield-20270124T080000Z.json",
        "airfield-20270124T080000Z.tar.age",
    }


def test_two_at_a_time_are_one_too_many(host: Host, backup: ModuleType) -> None:
    with backup.alone(host.root / "lock", wait=False), pytest.raises(backup.BackupError, match="Another backup or restore"):
        host.create()
    host.create()


# What a power cut spoils, and a full disk -------------------------------------------------------------------------------

SPOILT = [b"", b"{", b"[]", b"null", b"5", b"[" * 99_999, bytes(range(256)), b"{}"]


def in_short(content: bytes) -> str:
    return repr(content[:20])


def sidecar(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".tar.age") + ".json")


@pytest.mark.parametrize("content", [*SPOILT, b'{"last": {}, "tested": []}', b'{"last": {"name": 5}}'], ids=in_short)
def test_spoilt_report_is_told_and_made_anew(host: Host, backup: ModuleType, content: bytes, capsys: Any) -> None:
    first = host.create()
    (host.root / "report.json").write_bytes(content)
    # Of the last test nothing is lost: another one is not due.
    second = host.create(days=1)
    report = host.report()
    assert (report["error"], report["last"]["name"], report["tested"]["name"]) == ("", second.name, first.name)
    assert ("report.json is broken. It is made anew" in capsys.readouterr().err) == (not content.startswith((b'{"', b"{}")))
    (host.root / "report.json").write_bytes(content)
    host.real.text = ""
    with pytest.raises(backup.BackupError, match="nothing to back up"):
        host.create(days=1)
    report = host.report()
    assert (report["error"], report["last"]["name"]) == ("nothing to back up", second.name)


@pytest.mark.parametrize("content", [*SPOILT, b'{"name": "other"}'], ids=in_short)
def test_archive_with_a_spoilt_sidecar_is_shown_and_counts_as_none(host: Host, content: bytes) -> None:
    good, spoilt = host.create(), host.create(days=1)
    sidecar(spoilt).write_bytes(content)
    found, broken = host.run("list")
    assert found["name"] == good.name
    assert broken["name"] == spoilt.name
    assert re.fullmatch(
        rf".*{sidecar(spoilt).name} is broken, .* `.* test {spoilt}`, which makes it anew, .*", broken["problem"]
    )
    # Later ones work, and tell it.
    host.settings["keep"] = 1
    last = host.create(days=1)
    assert list(host.report()["broken"]) == [spoilt.name]
    # It goes when its time has come; the one that was tested stays.
    assert [backup["name"] for backup in host.run("list")] == [last.name, good.name]
    assert not spoilt.exists()


def test_spoilt_sidecar_is_in_the_report_and_made_anew_by_a_test(host: Host) -> None:
    path = host.create()
    before = json.loads(sidecar(path).read_text())
    sidecar(path).write_bytes(b"")
    host.create(days=1)
    assert list(host.report()["broken"]) == [path.name]
    # Nothing else is lost with it.
    assert host.run("inspect", str(path))["manifest"]["rows"] == {"public.dag_run": 10}
    for spoil in (lambda: sidecar(path).write_bytes(b"{"), sidecar(path).unlink):
        spoil()
        assert host.run("test", str(path)) == {**before, "seconds": 0, "tested": True}
        assert json.loads(sidecar(path).read_text()) == {**before, "seconds": 0, "tested": True}
        assert host.report()["broken"] == {}


def test_archive_that_was_cut_off_counts_as_none(host: Host) -> None:
    path = host.create()
    path.write_bytes(path.read_bytes()[:-7])
    (broken,) = host.run("list")
    assert re.search(r"is damaged: it has \d+ bytes, and was written with \d+\. Remedy: remove it", broken["problem"])
    assert host.create(days=1).name == host.run("list")[0]["name"]


@pytest.mark.parametrize("content", SPOILT, ids=in_short)
def test_spoilt_settings_are_told_in_the_report_too(host: Host, backup: ModuleType, content: bytes) -> None:
    last = host.create()
    broken = r"settings.json (is broken|lacks airflow_version, .*)\. Remedy: run site.yml, which writes it anew"
    for command in ("create", "list", "test", "restore"):
        with pytest.raises(backup.BackupError, match=broken):
            host.run(command, str(last), settings=content)
    assert re.search(broken, host.report()["error"])
    assert host.report()["last"]["name"] == last.name


def test_backup_that_is_killed_has_said_that_it_began(host: Host, backup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*dummy: Any) -> None:
        raise KeyboardInterrupt  # as nothing here catches a kill

    host.create()
    assert "begun" not in host.report()
    with monkeypatch.context() as patch:
        patch.setattr(host.real, "dump", die)
        with pytest.raises(KeyboardInterrupt):
            host.create(days=1)
    assert host.report()["begun"] == {"time": NOW + DAY, "pid": os.getpid()}
    host.create(days=1)
    assert "begun" not in host.report()


def test_everything_is_on_the_disk_before_it_has_its_name(
    host: Host, backup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    replace, fsync = Path.replace, os.fsync

    def note_name(path: Path, to: Path) -> Path:
        done.append(("named", to.name))
        return replace(path, to)

    def note_sync(handle: int) -> None:
        done.append(("synced", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    monkeypatch.setattr(Path, "replace", note_name)
    monkeypatch.setattr(backup.os, "fsync", note_sync)
    path = host.create()
    for name, folder in {path.name: "backups", sidecar(path).name: "backups", "report.json": host.root.name}.items():
        place = done.index(("named", name))
        assert done[place - 1 : place + 2] == [("synced", f".{name}"), ("named", name), ("synced", folder)]


def test_report_that_finds_no_room_is_told_where_there_is_some(
    host: Host, backup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = host.create()
    write = backup.write_file

    def full(path: Path, value: Any, mode: int = 0o644) -> None:
        if path.name == "report.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, value, mode)

    unwritten = r"report.json could not be written: No space left on device\. Remedy: make room"
    with monkeypatch.context() as patch:
        patch.setattr(backup, "write_file", full)
        # The backup itself finds room, or does not.
        with pytest.raises(backup.BackupError, match=rf"Z.tar.age is made\. .*{unwritten}"):
            host.create(days=1)
        host.real.text = ""
        with pytest.raises(backup.BackupError, match=rf"nothing to back up\. .*{unwritten}"):
            host.create(days=1)
    spare = json.loads((host.root / "backup-report.json").read_text())
    assert re.search(rf"nothing to back up.*{unwritten}", spare["error"])
    assert spare["last"]["name"] > first.name
    assert host.report()["last"]["name"] == first.name
    # Then all is as it was, and nothing of it is forgotten.
    assert host.module.Report(host.root / "report.json", host.root / "backup-report.json").read() == spare
    host.real.text = "a database"
    host.create(days=1)
    assert host.report()["error"] == ""
    assert not (host.root / "backup-report.json").exists()


def test_full_disk_leaves_the_last_report_and_no_rubbish(
    backup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    backup.write_file(tmp_path / "report.json", {"error": ""})
    monkeypatch.setattr(backup.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        backup.write_file(tmp_path / "report.json", {"error": "x"})
    assert json.loads((tmp_path / "report.json").read_text()) == {"error": ""}
    assert not (tmp_path / ".report.json").exists()


# Keeping them ----------------------------------------------------------------------------------------------------------


def test_oldest_go_first(host: Host) -> None:
    made = [host.create(days=1).name for dummy in range(5)]
    assert [backup["name"] for backup in host.run("list")] == [made[4], made[3], made[2], made[0]]
    # The first is the only one that was tested; when another one was, it may go.
    host.settings["test_days"] = 1
    made.append(host.create(days=1).name)
    assert [backup["name"] for backup in host.run("list")] == [made[5], made[4], made[3]]
    assert len(host.names()) == 6


def test_age_counts_too_and_the_last_good_one_stays(host: Host, backup: ModuleType) -> None:
    first, second = host.create().name, host.create(days=1).name
    host.scratch.error = "broken"
    with pytest.raises(backup.BackupError):
        host.create(days=100)
    # What failed its test is newest; of the two old ones each is the last of its kind.
    assert [found["name"] for found in host.run("list")][1:] == [second, first]
    host.scratch.error = ""
    third = host.create(days=1).name
    assert [found["name"] for found in host.run("list")] == [third, "airfield-20270426T080000Z.tar.age"]


@pytest.mark.parametrize(
    ("keep", "days", "good", "left"),
    [(9, 99, [], "5431"), (2, 99, [], "54"), (9, 2.5, [], "543"), (0, 0, [], "5"), (0, 0, ["1"], "51"), (1, 99, ["3"], "53")],
)
def test_surplus(backup: ModuleType, keep: int, days: float, good: list[str], left: str) -> None:
    def name(day: str) -> str:
        return f"airfield-2027010{day}T000000Z.tar.age"

    now = backup.moment(name("6"))
    names = [name(day) for day in "1345"]
    gone = backup.surplus([*names, "airfield-20270101T000000Z.json", "x"], now, keep, days + 0.5, [name(day) for day in good])
    assert sorted(set(names) - set(gone)) == sorted(name(day) for day in left)


# Reading and restoring them --------------------------------------------------------------------------------------------


def test_session_that_holds_tables_is_named_before_airflow_is_stopped(host: Host, backup: ModuleType) -> None:
    path = str(host.create())
    host.real.held, host.real.since = "process 7", 301
    with pytest.raises(
        backup.BackupError, match=r"held for longer than 300 s, and nothing was changed: by process 7\. .*Remedy"
    ):
        host.run("restore", path, "--replace", "--dry-run")
    host.real.since = 299
    assert host.run("restore", path, "--replace", "--dry-run") == {"due": True}
    # Airflow is stopped by now, and the restore's own time-out counts.
    host.real.since = 301
    assert host.run("restore", path, "--replace") == {"due": True}


def test_archive_comes_back_to_the_letter_and_once(host: Host, backup: ModuleType) -> None:
    path = str(host.create())
    host.real.text = "something else"
    with pytest.raises(backup.BackupError, match="is not empty, and nothing was changed"):
        host.run("restore", path)
    assert host.real.text == "something else"
    assert host.run("restore", path, "--replace", "--dry-run") == {"due": True}
    assert host.real.text == "something else"
    assert host.run("restore", path, "--replace") == {"due": True}
    assert host.real.text == "a database"
    # Interrupted after that, another run has nothing to do, and needs no permission to lose anything.
    assert host.run("restore", path) == {"due": False}
    assert host.run("restore", path, "--replace") == {"due": True}


def test_empty_database_needs_no_permission(host: Host) -> None:
    path = str(host.create())
    host.real.text = ""
    assert host.run("restore", path) == {"due": True}
    assert host.real.text == "a database"


@pytest.mark.parametrize("command", ["inspect", "test", "restore"])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("spoiled", ["cut", "changed", "empty", "foreign"])
def test_damaged_archive_is_refused_and_changes_nothing(
    host: Host, backup: ModuleType, command: str, alone: bool, spoiled: str
) -> None:
    path = host.create()
    content = path.read_bytes()
    turn = bytes(range(255, -1, -1))
    path.write_bytes(
        {
            "cut": content[:-2000],
            "changed": b"x" + content[1:],
            "empty": b"",
            "foreign": b"for MINE\n" + b"no tar file at all, but of some length".translate(turn) + b"end",
        }[spoiled]
    )
    if alone:
        path.with_name("airfield-20270115T080000Z.json").unlink()
    host.real.text = ""
    with pytest.raises(backup.BackupError, match=r"damaged|not one of our archives" if alone else "its SHA-256 is not that of"):
        host.run(command, str(path))
    assert (host.real.text, host.real.marked) == ("", "")


@pytest.mark.parametrize("command", ["inspect", "test", "restore"])
def test_wrong_key_is_told(host: Host, backup: ModuleType, command: str) -> None:
    path = str(host.create())
    host.real.text = ""
    with pytest.raises(backup.BackupError, match="The private key is not the one of this archive"):
        host.run(command, path, key=OTHER)
    assert host.real.text == ""


def test_archive_of_another_format_is_refused(host: Host, backup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "FORMAT", 2)
    path = str(host.create())
    monkeypatch.setattr(backup, "FORMAT", 1)
    with pytest.raises(backup.BackupError, match="The archive has format 2, and this release reads 1"):
        host.run("inspect", path)


def test_test_of_an_archive_is_remembered(host: Host, backup: ModuleType) -> None:
    host.settings["test_days"] = 0
    path = str(host.create())
    assert host.run("test", path)["tested"]
    assert host.run("list")[0]["tested"]
    assert host.report()["tested"]["name"] == Path(path).name
    host.settings["scratch_url"] = ""
    with pytest.raises(backup.BackupError, match="airflow_backup_test_url"):
        host.run("test", path)


# The transaction -------------------------------------------------------------------------------------------------------


@pytest.fixture
def postgresql(backup: ModuleType) -> Any:
    database = object.__new__(backup.PostgreSQL)
    database.name, database.dsn, database.environment = "airflow", "dbname=airflow", dict(os.environ)
    database.holders = lambda seconds: ""
    return database


def said(tmp_path: Path) -> str:
    return (tmp_path / "psql.log").read_text()


def test_restore_is_one_transaction_that_counts_before_it_ends(postgresql: Any, tmp_path: Path) -> None:
    ends: list[str] = []
    postgresql.restore(io.BytesIO(b"create the tables;\n"), {"public.x": 3}, lambda: ends.append("finished"), "a mark")
    text = said(tmp_path)
    assert ends == ["finished"]
    order = [
        "begin;",
        "set local lock_timeout = '60s';",
        "drop %s if exists",
        "create the tables;",
        "from public.x",
        "is 'a mark'",
        "commit;",
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert text.count("commit") == 1


def test_test_of_a_restore_is_undone(postgresql: Any, tmp_path: Path) -> None:
    postgresql.restore(io.BytesIO(b"create the tables;\n"), {"public.x": 3}, lambda: None, "")
    assert "commit" not in said(tmp_path)
    assert said(tmp_path).endswith("rollback;\n")


@pytest.mark.parametrize("dump", [b"broken sql;\n", b"broken sql;\n" + b"much more;\n" * 100_000])
def test_error_of_the_server_is_told_and_nothing_committed(
    postgresql: Any, backup: ModuleType, tmp_path: Path, dump: bytes
) -> None:
    with pytest.raises(backup.BackupError, match="did not take the dump, and is as it was: psql:<stdin>:3: ERROR:  broken"):
        postgresql.restore(io.BytesIO(dump), {"public.x": 3}, lambda: None, "a mark")
    assert "commit" not in said(tmp_path)


def test_restore_that_waited_in_vain_names_who_holds_the_tables(postgresql: Any, backup: ModuleType) -> None:
    postgresql.holders = lambda seconds: "process 7 (ada from 10.0.0.5)"
    with pytest.raises(backup.BackupError, match=r"ERROR:  broken Its tables are held by process 7 \(ada from 10.0.0.5\)\.$"):
        postgresql.restore(io.BytesIO(b"broken sql;\n"), {"public.x": 3}, lambda: None, "a mark")

    def away(seconds: int) -> str:
        raise backup.BackupError("The database does not let us in")

    postgresql.holders = away
    with pytest.raises(backup.BackupError, match=r"is as it was: psql:<stdin>:3: ERROR:  broken$"):
        postgresql.restore(io.BytesIO(b"broken sql;\n"), {"public.x": 3}, lambda: None, "a mark")


def test_sessions_that_hold_tables_are_named_with_how_to_end_them(backup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    database = object.__new__(backup.PostgreSQL)
    rows = [
        (7, "ada", "10.0.0.5", "psql", "idle in transaction", 4000),
        (8, "airflow", "10.0.0.6", "", "active", 3),
        (9, "root", "this host", "", None, None),
    ]
    monkeypatch.setattr(database, "connect", contextlib.nullcontext)
    monkeypatch.setattr(database, "rows", lambda connection, query: rows)
    monkeypatch.setattr(backup, "UNKNOWN_SECONDS", 0)
    assert database.holders(300) == (
        "process 7 (ada from 10.0.0.5, psql, idle in transaction, for 4000 s), which `select pg_terminate_backend(7)` ends; "
        "process 9 (root from this host, without a name, unknown to us, for an unknown time), which "
        "`select pg_terminate_backend(9)` ends"
    )
    assert "process 8 (airflow from 10.0.0.6, without a name, active, for 3 s)" in database.holders(0)
    looks = iter([rows, rows[:1]])
    monkeypatch.setattr(database, "rows", lambda connection, query: next(looks))
    assert "process 9" not in database.holders(300)


def test_dump_that_ends_early_is_not_committed(postgresql: Any, backup: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(backup.BackupError, match="end of file"):
        postgresql.restore(io.BytesIO(b"truncated;\n"), {}, lambda: None, "a mark")
    assert "commit" not in said(tmp_path)

    def fail() -> None:
        raise backup.BackupError("The archive is damaged")

    with pytest.raises(backup.BackupError, match="The archive is damaged"):
        postgresql.restore(io.BytesIO(b"all of it;\n"), {}, fail, "a mark")
    assert "commit" not in said(tmp_path)


@pytest.mark.parametrize(
    ("shown", "error"), [("14.3", "of version 14, and the server of version 15"), ("15.20", ""), ("17.1", "")]
)
def test_client_that_is_too_old_is_named(backup: ModuleType, programs: Path, shown: str, error: str) -> None:
    (programs / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {shown} (Debian {shown}-0)'\n")
    (programs / "pg_dump").chmod(0o755)
    database = object.__new__(backup.PostgreSQL)
    connection = argparse.Namespace(server_version=150020)
    if error:
        with pytest.raises(backup.BackupError, match=error + r".*postgresql-client-15"):
            database.see_that_the_client_will_do(connection)
    else:
        database.see_that_the_client_will_do(connection)


def test_database_of_another_kind_is_refused(backup: ModuleType) -> None:
    with pytest.raises(backup.BackupError, match="no backup of databases of kind sqlite, only of postgresql, postgres, mysql"):
        backup.engine("sqlite:///a")


# MySQL -----------------------------------------------------------------------------------------------------------------

MYSQL_DUMP = b"""\
-- MySQL dump 10.13  Distrib 9.7.4, for Linux (x86_64)
CREATE TABLE `alembic_version` (
  `version_num` varchar(32) NOT NULL
);
INSERT INTO `alembic_version` VALUES ('d2f4e1b3c5a7');
CREATE TABLE `dag_run` (
  `id` int NOT NULL COMMENT 'CREATE TABLE `no` ('
);
INSERT INTO `dag_run` VALUES (1,'one; two),(three);\\n');
INSERT INTO `dag_run` VALUES (2,'INSERT INTO `x` VALUES (1);');
INSERT INTO `dag_run` (`id`, `text`) VALUES (3,NULL);
CREATE TABLE `empty` (
  `id` int
);
-- Dump completed on 2026-11-28 21:00:00
"""
JOINED = b"""\
INSERT INTO `dag_run` VALUES (1,'one; two),(three);\\n'),
(2,'INSERT INTO `x` VALUES (1);');
INSERT INTO `dag_run` (`id`, `text`) VALUES (3,NULL);
"""
COUNTS = {"`alembic_version`": 1, "`dag_run`": 3, "`empty`": 0}
# Keeps its command line, the login that it was given, and what it was to load; has a version.
MYSQL = f"""#!{sys.executable}
import json, os, sys
if "--version" in sys.argv:
    sys.exit(print(os.environ["MYSQL_VERSION"]))
path = sys.argv[1].removeprefix("--defaults-file=")
mode = os.stat(path).st_mode & 0o777
call = dict(argv=sys.argv, options=open(path).read(), mode=mode, environment=dict(os.environ), again=open(path).read())
with open(os.environ["MYSQL_LOG"] + "." + os.path.basename(sys.argv[0]), "w") as log:
    json.dump(call, log)
if "mysqldump" in sys.argv[0]:
    sys.stdout.buffer.write(open(os.environ["MYSQL_LOG"] + ".dump", "rb").read())
    sys.stdout.flush()
    sys.exit(os.environ.get("MYSQL_FAILS"))
for line in sys.stdin.buffer:
    if b"broken" in line:
        sys.exit("ERROR 1064 (42000) at line 3: broken")
    open(os.environ["MYSQL_LOG"] + ".loaded", "ab").write(line)
"""


class DriverError(Exception):
    """What a driver raises: a number, and words."""


class Server:
    """As much of MySQL as the script tells it to do; `refused` begins statements that it refuses, with the error."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.databases: dict[str, list[str]] = {"airflow": ["alembic_version", "old"]}
        self.rows = dict(COUNTS)
        self.comment = ""
        self.version = "9.7.4"
        self.statements: list[str] = []
        self.refused: dict[str, tuple[int, str]] = {}
        self.answer: list[Any] = []

    # What the script uses of a driver.
    Error = DriverError

    def connect(self, **options: Any) -> Server:
        assert options == {"password": "hunter2"}
        self.refuse("connect")
        return self

    def cursor(self) -> Server:
        return self

    def close(self) -> None:
        pass

    def fetchall(self) -> list[Any]:
        return self.answer

    def refuse(self, statement: str) -> None:
        for begin, error in self.refused.items():
            if statement.startswith(begin):
                raise DriverError(*error)

    def execute(self, query: str) -> None:
        self.statements.append(query)
        self.refuse(query)
        self.answer = []
        names = re.findall("`([^`]+)`", query)
        if query.startswith("drop database if exists"):
            self.databases.pop(names[0], None)
        elif query.startswith("create database"):
            assert names[0] not in self.databases
            self.databases[names[0]] = []
        elif query.startswith("select count(*)"):
            assert names[0] == "airflow_airfield_restored"
            self.answer = [(self.rows[f"`{names[1]}`"],)]
        elif query.startswith("select table_name"):
            database = query.split("'")[-2]
            if database == "airflow_airfield_restored":
                self.databases[database] = ["alembic_version", "dag_run", "empty"]
            self.answer = [(name,) for name in self.databases[database]]
        elif query.startswith("select table_comment"):
            self.answer = [(self.comment,)] if "alembic_version" in self.databases["airflow"] else []
        elif query.startswith("select version"):
            self.answer = [(self.version,)]
        elif query.startswith("select id, user"):
            self.answer = [(7, "ada", "h", "Sleep", 400)]
        elif query.startswith("rename table"):
            # As a whole or not at all.
            after = {name: list(tables) for name, tables in self.databases.items()}
            for source, table, target in re.findall("`([^`]*)`.`([^`]*)` to `([^`]*)`", query):
                after[source].remove(table)
                assert table not in after[target]
                after[target].append(table)
            self.databases = after
        elif query.startswith("alter table"):
            self.comment = query.split("'")[1]
        else:
            assert query.startswith("set autocommit = 1")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "mysql")


@pytest.fixture
def mysql(backup: ModuleType, server: Server, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("mysql", "mysqldump"):
        (programs / name).write_text(MYSQL)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("MYSQL_LOG", str(server.log))
    monkeypatch.setenv("MYSQL_VERSION", "mysqldump  Ver 9.7.4 for Linux on x86_64 (MySQL Community Server - GPL)")
    server.log.with_name("mysql.dump").write_bytes(MYSQL_DUMP)
    # What SQLAlchemy makes of a URL is its own affair.
    database = object.__new__(backup.MySQL)
    database.name, database.restored, database.replaced = "airflow", "airflow_airfield_restored", "airflow_airfield_replaced"
    database.driver, database.options = server, {"password": "hunter2"}
    database.login = {"host": "db1", "port": None, "user": "airflow", "password": "p\"a\\s#s'w\to rd"}
    database.query = {"charset": "utf8mb4", "ssl_mode": "REQUIRED"}
    return database


def call(server: Server, name: str) -> dict[str, Any]:
    """How a program was called."""
    found: dict[str, Any] = json.loads(server.log.with_name(f"mysql.{name}").read_text())
    return found


def packed(text: bytes = b"create the tables;\n") -> IO[bytes]:
    return io.BytesIO(gzip.compress(text))


def test_dump_is_counted_row_by_row_and_packed(mysql: Any, server: Server) -> None:
    stream = io.BytesIO()
    counts, revisions = mysql.dump(stream, ["alembic_version", "alembic_version_fab"])
    assert (counts, revisions) == (COUNTS, {"alembic_version": "d2f4e1b3c5a7"})
    text = gzip.decompress(stream.getvalue())
    assert JOINED in text
    # As many statements as tables with rows, and forms of these; otherwise it is what mysqldump has said.
    assert text.replace(b",\n(2,", b";\nINSERT INTO `dag_run` VALUES (2,") == MYSQL_DUMP
    words = call(server, "mysqldump")["argv"]
    assert {"--single-transaction", "--skip-extended-insert", "--hex-blob", "airflow"} < set(words)


def test_statements_do_not_grow_without_end(mysql: Any, backup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup.MySQL, "STATEMENT", 15)
    output = io.BytesIO()
    lines = [b"INSERT INTO `a` VALUES (%d,'12345');\n" % number for number in range(6)]
    counts, dummy, complete = mysql.pack([*lines, b"-- Dump completed\n", b"\n"], output, set())
    assert (counts, complete) == ({"`a`": 6}, True)
    assert output.getvalue().count(b"INSERT") == 3
    assert output.getvalue().count(b"12345") == 6


@pytest.mark.parametrize("sign", [b"M!", b"!"])
def test_command_for_the_client_is_not_kept(mysql: Any, sign: bytes) -> None:
    output = io.BytesIO()
    command = b"/*" + sign + b"999999\\- enable the sandbox mode */ \n"
    assert mysql.pack([command, b"/*!40101 SET NAMES utf8mb4 */;\n"], output, set()) == ({}, {}, False)
    assert output.getvalue() == b"/*!40101 SET NAMES utf8mb4 */;\n"


@pytest.mark.parametrize("end", [b"", b"-- Dump completed on 2026-11-28 21:00:00\nmore\n"])
def test_dump_without_its_end_is_none(mysql: Any, backup: ModuleType, server: Server, end: bytes) -> None:
    server.log.with_name("mysql.dump").write_bytes(MYSQL_DUMP.rpartition(b"-- Dump")[0] + end)
    with pytest.raises(backup.BackupError, match="mysqldump failed: without a message"):
        mysql.dump(io.BytesIO(), ["alembic_version"])


def test_failing_mysqldump_is_told(mysql: Any, backup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_FAILS", "mysqldump: Got error: 1045")
    with pytest.raises(backup.BackupError, match="mysqldump failed: mysqldump: Got error: 1045"):
        mysql.dump(io.BytesIO(), ["alembic_version"])


def test_database_without_a_schema_is_not_backed_up(mysql: Any, backup: ModuleType, server: Server) -> None:
    server.log.with_name("mysql.dump").write_bytes(b"-- Dump completed on 2026-11-28 21:00:00\n")
    with pytest.raises(backup.BackupError, match="has no schema of Airflow's yet"):
        mysql.dump(io.BytesIO(), ["alembic_version"])


def test_password_is_in_no_command_line_and_no_environment(mysql: Any, server: Server) -> None:
    mysql.dump(io.BytesIO(), ["alembic_version"])
    found = call(server, "mysqldump")
    assert found["options"].splitlines() == [
        "[client]",
        'host="db1"',
        'user="airflow"',
        'password="p\\"a\\\\s#s\'w\\to rd"',
        "ssl-mode=REQUIRED",
    ]
    # It can be read as often as a program likes, and others than its owner may not write to it.
    assert (found["again"], found["mode"]) == (found["options"], 0o600)
    assert "s#s" not in shlex.join(found["argv"]) + json.dumps(found["environment"])


@pytest.mark.parametrize(
    ("mode", "lines"),
    [
        ("", []),
        ("PREFERRED", []),
        ("REQUIRED", ["ssl", "ssl-verify-server-cert=0"]),
        ("VERIFY_IDENTITY", ["ssl", "ssl-verify-server-cert=1"]),
    ],
)
def test_programs_of_mariadb_encrypt_in_their_own_words(
    mysql: Any, server: Server, monkeypatch: pytest.MonkeyPatch, mode: str, lines: list[str]
) -> None:
    monkeypatch.setenv("MYSQL_VERSION", "mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)")
    mysql.query = {"ssl_mode": mode, "ssl_ca": "/etc/ssl/ca.pem"} if mode else {"unix_socket": "/run/s"}
    mysql.dump(io.BytesIO(), ["alembic_version"])
    given = call(server, "mysqldump")["options"].splitlines()[4:]
    assert given == (['ssl-ca="/etc/ssl/ca.pem"', *lines] if mode else ['socket="/run/s"'])


def test_mysqls_own_programs_are_told_nothing_that_the_url_does_not_say(mysql: Any, server: Server) -> None:
    mysql.query = {}
    mysql.dump(io.BytesIO(), ["alembic_version"])
    assert "ssl" not in call(server, "mysqldump")["options"]


@pytest.mark.parametrize(
    ("shown", "error"),
    [
        ("mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)", "of version 5, and the server of version 9"),
        (
            "mysqldump  Ver 8.4.6 for Linux on x86_64 (MySQL Community Server - GPL)",
            "of version 8, and the server of version 9",
        ),
        ("mysqldump  Ver 9.7.4 for Linux on x86_64 (MySQL Community Server - GPL)", ""),
        ("mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)", ""),
        ("mysqldump from 11.8.2-MariaDB, client 10.19 for debian-linux-gnu (x86_64)", ""),
    ],
)
def test_mysqldump_that_is_too_old_is_named(
    mysql: Any, backup: ModuleType, server: Server, monkeypatch: pytest.MonkeyPatch, shown: str, error: str
) -> None:
    monkeypatch.setenv("MYSQL_VERSION", shown)
    if error:
        with pytest.raises(backup.BackupError, match=error + r".*airflow_backup_packages names it"):
            mysql.see_that_the_client_will_do(server)
    else:
        mysql.see_that_the_client_will_do(server)


def test_numbers_of_mariadb_are_not_mysqls(mysql: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_VERSION", "mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)")
    server.version = "12.4.0"
    mysql.see_that_the_client_will_do(server)


def test_missing_mysqldump_is_named(mysql: Any, backup: ModuleType, server: Server, programs: Path) -> None:
    (programs / "mysqldump").unlink()
    with pytest.raises(backup.BackupError, match=r"mysqldump is not installed\. Remedy: install default-mysql-client"):
        mysql.dump(io.BytesIO(), ["alembic_version"])


def test_restore_on_mysql_takes_effect_in_one_statement(mysql: Any, server: Server) -> None:
    before: list[dict[str, list[str]]] = []
    mysql.restore(packed(), COUNTS, lambda: before.append(dict(server.databases)), "a mark")
    assert before[0]["airflow"] == ["alembic_version", "old"]
    assert server.log.with_name("mysql.loaded").read_bytes() == b"create the tables;\n"
    assert call(server, "mysql")["argv"][-1] == "airflow_airfield_restored"
    # The new tables with the mark, and nothing beside them.
    assert server.databases == {"airflow": ["alembic_version", "dag_run", "empty"]}
    assert server.comment == "a mark"
    changes = [text for text in server.statements if "`airflow`" in text]
    assert [text.split()[0] for text in changes] == ["rename"]
    # Counted, and marked, before.
    kinds = [re.split(r"[ (]", text)[0] for text in server.statements[server.statements.index(changes[0]) - 7 :]]
    assert kinds.index("alter") < kinds.index("rename")
    assert not [text for text in server.statements[server.statements.index(changes[0]) :] if "count(*)" in text]


def test_test_of_a_restore_on_mysql_leaves_nothing(mysql: Any, server: Server) -> None:
    mysql.restore(packed(), COUNTS, lambda: None, "")
    assert server.databases == {"airflow": ["alembic_version", "old"]}
    assert not [text for text in server.statements if text.startswith(("rename", "alter"))]


@pytest.mark.parametrize("dump", [b"broken sql;\n", b"broken sql;\n" + os.urandom(2**20).hex().encode() + b"\n"])
def test_error_of_mysql_is_told_and_nothing_changed(mysql: Any, backup: ModuleType, server: Server, dump: bytes) -> None:
    with pytest.raises(backup.BackupError, match=r"did not take the dump, and is as it was: ERROR 1064 .* broken"):
        mysql.restore(packed(dump), COUNTS, lambda: None, "a mark")
    assert server.databases == {"airflow": ["alembic_version", "old"]}


def test_rows_that_are_missing_are_told_and_nothing_changed(mysql: Any, backup: ModuleType, server: Server) -> None:
    server.rows["`dag_run`"] = 2
    with pytest.raises(backup.BackupError, match="is as it was: table `dag_run` has 2 rows, and 3 were dumped"):
        mysql.restore(packed(), COUNTS, lambda: None, "a mark")
    assert server.databases == {"airflow": ["alembic_version", "old"]}


def test_archive_that_ends_early_changes_nothing_on_mysql(mysql: Any, backup: ModuleType, server: Server) -> None:
    def fail() -> None:
        raise backup.BackupError("The archive is damaged")

    with pytest.raises(backup.BackupError, match="The archive is damaged"):
        mysql.restore(packed(), COUNTS, fail, "a mark")
    with pytest.raises(EOFError):
        mysql.restore(io.BytesIO(packed().read()[:-12]), COUNTS, lambda: None, "a mark")
    with pytest.raises(backup.BackupError, match="is none of MySQL's"):
        mysql.restore(io.BytesIO(b"PGDMP and more"), COUNTS, lambda: None, "a mark")
    assert server.databases == {"airflow": ["alembic_version", "old"]}


def test_refused_exchange_changes_nothing(mysql: Any, backup: ModuleType, server: Server) -> None:
    server.refused = {"rename": (1205, "Lock wait timeout exceeded")}
    with pytest.raises(
        backup.BackupError, match=r"Lock wait timeout.*held by one of session 7 \(ada from h, Sleep, for 400 s\)"
    ):
        mysql.restore(packed(), COUNTS, lambda: None, "a mark")
    server.refused = {"rename": (1205, "Lock wait timeout exceeded"), "select id, user": (2006, "Server has gone away")}
    with pytest.raises(backup.BackupError, match=r"refused something, and is as it was: .*Lock wait timeout"):
        mysql.restore(packed(), COUNTS, lambda: None, "a mark")
    assert any("lock_wait_timeout = 60" in statement for statement in server.statements)
    assert server.databases == {"airflow": ["alembic_version", "old"]}


def test_what_a_killed_restore_has_left_is_no_hindrance(mysql: Any, server: Server) -> None:
    server.databases |= {"airflow_airfield_restored": ["half"], "airflow_airfield_replaced": ["old"]}
    mysql.restore(packed(), COUNTS, lambda: None, "a mark")
    assert server.databases == {"airflow": ["alembic_version", "dag_run", "empty"]}


@pytest.mark.parametrize("statement", ["drop database", "create database"])
def test_missing_right_is_named_with_the_grant(mysql: Any, backup: ModuleType, server: Server, statement: str) -> None:
    server.refused = {statement: (1044, "Access denied for user 'airflow'@'db1'")}
    with pytest.raises(backup.BackupError, match=r"Access denied.* GRANT ALL ON `airflow_airfield_restored`\.\*, and on"):
        mysql.restore(packed(), COUNTS, lambda: None, "a mark")
    server.refused = {statement: (2006, "Server has gone away")}
    with pytest.raises(backup.BackupError, match="refused something"):
        mysql.restore(packed(), COUNTS, lambda: None, "a mark")


def test_server_that_goes_away_in_the_end_is_told_as_what_it_is(mysql: Any, backup: ModuleType, server: Server) -> None:
    def go() -> None:
        server.refused = {"": (2006, "Server has gone away")}

    with pytest.raises(backup.BackupError, match="Server has gone away"):
        mysql.restore(packed(), COUNTS, go, "a mark")


def test_mysql_tells_its_tables_and_its_mark(mysql: Any, backup: ModuleType, server: Server) -> None:
    server.comment = "restored by Airfield from x"
    assert (mysql.tables(), mysql.mark()) == (2, "restored by Airfield from x")
    server.databases = {"airflow": []}
    assert (mysql.tables(), mysql.mark()) == (0, "")
    server.refused = {"connect": (1045, "Access denied")}
    with pytest.raises(backup.BackupError, match=r"The database airflow does not let us in: .*Access denied"):
        mysql.tables()


def test_url_of_mysql_is_read_by_sqlalchemy(backup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    url = SimpleNamespace(
        database="airflow", query={"ssl_mode": "REQUIRED"}, host="db1", port=3306, username="airflow", password="p"
    )
    dialect = SimpleNamespace(dbapi="the driver", create_connect_args=lambda given: ([], {"db": given.database}))
    sqlalchemy = ModuleType("sqlalchemy")
    vars(sqlalchemy).update(create_engine=lambda given: SimpleNamespace(dialect=dialect, url=url))
    monkeypatch.setitem(sys.modules, "sqlalchemy", sqlalchemy)
    database = backup.engine("mysql+mysqldb://airflow:p@db1:3306/airflow?ssl_mode=REQUIRED")
    assert (database.name, database.query, database.driver) == ("airflow", {"ssl_mode": "REQUIRED"}, "the driver")
    assert database.options == {"connect_timeout": 10, "db": "airflow"}
    assert database.login == {"host": "db1", "port": 3306, "user": "airflow", "password": "p"}
    assert (database.restored, database.replaced) == ("airflow_airfield_restored", "airflow_airfield_replaced")
