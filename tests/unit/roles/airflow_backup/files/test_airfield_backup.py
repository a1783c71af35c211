from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
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

    def dump(self, stream: IO[bytes], tables: list[str]) -> tuple[dict[str, int], dict[str, str]]:
        if not self.text:
            raise self.failure("nothing to back up")
        stream.write(self.text.encode())
        stream.flush()
        return {"public.dag_run": len(self.text)}, {"alembic_version": "a1"}

    def tables(self) -> int:
        return len(self.text)

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

    def run(self, *words: str, key: str = KEY) -> Any:
        """What a command of the script answers."""
        (self.root / "settings.json").write_text(json.dumps(self.settings))
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
    return database


def said(tmp_path: Path) -> str:
    return (tmp_path / "psql.log").read_text()


def test_restore_is_one_transaction_that_counts_before_it_ends(postgresql: Any, tmp_path: Path) -> None:
    ends: list[str] = []
    postgresql.restore(io.BytesIO(b"create the tables;\n"), {"public.x": 3}, lambda: ends.append("finished"), "a mark")
    text = said(tmp_path)
    assert ends == ["finished"]
    order = ["begin;", "drop %s if exists", "create the tables;", "from public.x", "is 'a mark'", "commit;"]
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
    with pytest.raises(backup.BackupError, match="no backup of databases of kind mysql"):
        backup.engine("mysql+mysqldb://a@b/c")
