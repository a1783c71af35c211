"""Back up the metadata database with what a restore needs beside it, test backups, and restore one.

A timer starts `create` with the release's own Python. An archive is a tar file that age has encrypted for a public key; the
private key comes by standard input where a command needs it, and is on no disk of this host. A restore takes effect in one
step, and its test is the same thing for a scratch database without that step: what is half there is never seen by anybody.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

# Archives with another number are not ours to read.
FORMAT = 1
NAME = re.compile(r"airfield-\d{8}T\d{6}Z\.tar\.age")
STAMPED = "airfield-%Y%m%dT%H%M%SZ.tar.age"
MANIFEST, SECRETS, COMMAND_LINE, DUMP = "manifest.json", "secrets.age", "cli.env", "database.dump"
FERNET = re.compile(r'^AIRFLOW__CORE__FERNET_KEY="(.*)"$', re.MULTILINE)
DAY = 86400
# Seconds that a restore waits for a table that somebody holds, when Airflow is stopped already.
LOCK_SECONDS = 60
# Seconds after which a session is none that will be done by then: those of Airflow itself take less.
HELD_SECONDS = 300
# Seconds after which one of another account, of which nothing is known, is looked at again.
UNKNOWN_SECONDS = 5
BLOCK = 2**20
PROGRAM = "/opt/airflow/current/bin/python /usr/local/lib/airfield/airfield_backup.py"
# What Ansible sets.
SETTINGS = {
    *("directory", "recipients", "database_url", "scratch_url", "keep", "keep_days", "test_days", "include", "revision_tables"),
    *("airflow_version", "release", "s3"),
}


class BackupError(Exception):
    """What went wrong, and the remedy, for people."""


@dataclass(frozen=True)
class Backup:
    """What is known of an archive without its key: the file beside it, and the last one's in the report."""

    name: str
    # Seconds since 1970.
    time: float
    sha256: str
    bytes: int
    rows: int
    airflow_version: str
    revisions: dict[str, str]
    # Seconds that it took.
    seconds: float
    # Whether it was restored into the scratch database; None where nobody has tried.
    tested: bool | None = None

    @classmethod
    def read(cls, value: Any) -> Backup | None:
        """What a file says of a backup; None where it is not all there, or is something else."""
        if not isinstance(value, dict) or not KNOWN.keys() <= value.keys():
            return None
        # A later release may know more.
        known = {field.name: value.get(field.name) for field in fields(cls)}
        fit = all(isinstance(known[name], kind) and not isinstance(known[name], bool) for name, kind in KNOWN.items())
        return cls(**known) if fit and known["tested"] in (True, False, None) else None


# What is known of every backup.
KNOWN: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "time": (int, float),
    "sha256": str,
    "bytes": int,
    "rows": int,
    "airflow_version": str,
    "revisions": dict,
    "seconds": (int, float),
}


# Files that say what is -------------------------------------------------------------------------------------------------


def read_file(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON file of ours, and what is wrong with it; empty and nothing where there is none."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"{path} cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        value = None
    return (value, "") if isinstance(value, dict) else ({}, f"{path} is broken")


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a file its name, and be sure of both: a power cut leaves the old one or the new one, whole."""
    handle = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, value: Any, mode: int = 0o644) -> None:
    """Put a JSON file in place in one step."""
    temporary = path.with_name(f".{path.name}")
    try:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
        temporary.chmod(mode)
        put_in_place(temporary, path)
    except OSError:
        # What a full disk has taken of it.
        temporary.unlink(missing_ok=True)
        raise


# Databases ---------------------------------------------------------------------------------------------------------------


class PostgreSQL:
    """A database, by its URL as Airflow has it. Another kind of database is another class of this shape, in `ENGINES`."""

    # Tables, by their quoted name, that belong to whoever connects.
    TABLES = """
        select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
          and pg_get_userbyid(c.relowner) = current_user order by 1
    """
    # `drop owned` would do the same, and also take away what the account was granted.
    CLEAR = """
        do $clear$ declare thing record; begin
          for thing in
            select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind,
                   format('%I.%I', n.nspname, c.relname) as name
            from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'p', 'v', 'S') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
              and pg_get_userbyid(c.relowner) = current_user
          loop execute format('drop %s if exists %s cascade', thing.kind, thing.name); end loop;
          for thing in
            select format('%I.%I', n.nspname, t.typname) as name from pg_type t join pg_namespace n on n.oid = t.typnamespace
            where t.typtype = 'e' and pg_get_userbyid(t.typowner) = current_user
          loop execute format('drop type if exists %s cascade', thing.name); end loop;
        end $clear$;
    """
    # Sessions of others that hold our tables, the longest transaction first. The server's own have no user, and give way.
    HOLDERS = """
        select distinct a.pid, a.usename, coalesce(host(a.client_addr), 'this host'), a.application_name, a.state,
               extract(epoch from now() - a.xact_start)::bigint as seconds
        from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace
        join pg_stat_activity a on a.pid = l.pid
        where l.granted and l.pid <> pg_backend_pid() and a.usename is not null
          and l.database = (select oid from pg_database where datname = current_database())
          and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        order by seconds desc nulls last limit 5
    """
    CHECK = """
        do $check$ declare found bigint; begin
          select count(*) into found from {table};
          if found <> {rows} then
            raise exception 'table % has % rows, and % were dumped', '{label}', found, {rows};
          end if;
        end $check$;
    """

    def __init__(self, url: str) -> None:
        import psycopg2.extensions
        from sqlalchemy.engine import make_url

        parts = make_url(url)
        self.name = parts.database or ""
        # Without the password, which is not for command lines.
        self.dsn = psycopg2.extensions.make_dsn(
            host=parts.host,
            port=parts.port,
            user=parts.username,
            dbname=parts.database,
            **{"connect_timeout": 10, **parts.query},
        )
        self.environment = {**os.environ, "PGPASSWORD": parts.password or "", "PGAPPNAME": "airfield-backup"}
        self.password = parts.password or ""

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        import psycopg2

        try:
            connection = psycopg2.connect(self.dsn, password=self.password, application_name="airfield-backup")
        except psycopg2.OperationalError as error:
            raise BackupError(f"The database {self.name} does not let us in: {str(error).strip()}") from None
        try:
            yield connection
        finally:
            connection.close()

    @staticmethod
    def rows(connection: Any, query: str) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def see_that_the_client_will_do(self, connection: Any) -> None:
        """An older pg_dump refuses a newer server, after a while and with a message that names no remedy."""
        server = connection.server_version // 10000
        try:
            shown = subprocess.run(["pg_dump", "--version"], check=True, capture_output=True, text=True).stdout
        except FileNotFoundError:
            raise BackupError("pg_dump is not installed. Remedy: install postgresql-client, or run site.yml.") from None
        client = int((re.findall(r"\) (\d+)", shown) or [0])[0])
        if client < server:
            raise BackupError(
                f"pg_dump is of version {client}, and the server of version {server}, which it cannot dump. "
                f"Remedy: install postgresql-client-{server} on this host; airflow_backup_packages names it."
            )

    def dump(self, stream: IO[bytes], revision_tables: Iterable[str]) -> tuple[dict[str, int], dict[str, str]]:
        """Write a dump; returns the rows of each table and the schema's revisions, all of the same moment."""
        with self.connect() as connection:
            self.see_that_the_client_will_do(connection)
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            ((snapshot,),) = self.rows(connection, "select pg_export_snapshot()")
            tables = [name for (name,) in self.rows(connection, self.TABLES)]
            counts = {name: self.rows(connection, f"select count(*) from {name}")[0][0] for name in tables}  # noqa: S608 - quoted by the database
            names = [name for name in revision_tables if f"public.{name}" in counts]
            found = {name: self.rows(connection, f"select version_num from {name}") for name in names}  # noqa: S608 - ours
            if not any(found.values()):
                raise BackupError(f"The database {self.name} has no schema of Airflow's yet, so there is nothing to back up.")
            command = ["pg_dump", "--format=custom", "--lock-wait-timeout=60s", f"--snapshot={snapshot}", "--dbname", self.dsn]
            with tempfile.TemporaryFile() as said:
                if subprocess.run(command, env=self.environment, stdout=stream, stderr=said, check=False).returncode:
                    raise BackupError(f"pg_dump failed: {last_words(said)}")
        return counts, {name: rows[0][0] for name, rows in found.items() if rows}

    def tables(self) -> int:
        """How many tables there are."""
        with self.connect() as connection:
            return len(self.rows(connection, self.TABLES))

    def holders(self, seconds: int) -> str:
        """Sessions that hold our tables for at least so many seconds, each with how to end it; empty where there is none."""
        with self.connect() as connection:
            found = self.rows(connection, self.HOLDERS)
            # Only its own account and a superuser may know since when a session holds something: one that is there again
            # may do so for ever.
            if seconds and any(row[-1] is None for row in found):
                time.sleep(UNKNOWN_SECONDS)
                again = {row[0] for row in self.rows(connection, self.HOLDERS)}
                found = [row for row in found if row[-1] is not None or row[0] in again]
        return "; ".join(
            f"process {pid} ({user} from {address}, {application or 'without a name'}, {state or 'unknown to us'}, for "
            f"{'an unknown time' if age is None else f'{age} s'}), which `select pg_terminate_backend({pid})` ends"
            for pid, user, address, application, state, age in found
            if age is None or age >= seconds
        )

    def mark(self) -> str:
        """What the last restore has left in the database to be known by."""
        query = "select obj_description(to_regclass('public.alembic_version'), 'pg_class')"
        with self.connect() as connection:
            return self.rows(connection, query)[0][0] or ""

    def restore(self, dump: IO[bytes], counts: Mapping[str, int], finish: Callable[[], None], mark: str) -> None:
        """Put a dump in the place of all that is there, and count; without a mark, undo it in the end.

        All in one transaction, which only the last line ends: whatever dies before, nothing has changed.

        :arg finish: fails where the dump has come to an end too early.
        """
        command = ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-", "--dbname", self.dsn]
        end = f"comment on table public.alembic_version is '{mark}';\ncommit;\n" if mark else "rollback;\n"
        problem = None
        with tempfile.TemporaryFile() as said:
            psql: Any = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
            )
            try:
                self.say(psql.stdin, f"begin;\nset local lock_timeout = '{LOCK_SECONDS}s';\n" + self.CLEAR)
                self.feed(dump, psql.stdin)
                finish()
                for table, rows in sorted(counts.items()):
                    label = table.replace("'", "''")
                    self.say(psql.stdin, self.CHECK.format(table=table, rows=int(rows), label=label))
                self.say(psql.stdin, end)
            except BrokenPipeError:
                pass  # psql has ended, and has said why
            except BackupError as error:
                problem = error
            finally:
                # Without `commit` this is a rollback, too.
                with contextlib.suppress(BrokenPipeError):
                    psql.stdin.close()
                psql.wait()
            if psql.returncode:
                problem = BackupError(f"The database {self.name} did not take the dump, and is as it was: {last_words(said)}")
                with contextlib.suppress(BackupError):
                    held = self.holders(0)
                    problem = BackupError(f"{problem} Its tables are held by {held}.") if held else problem
            if problem:
                raise problem

    @staticmethod
    def say(stream: IO[bytes], text: str) -> None:
        stream.write(text.encode())
        stream.flush()

    def feed(self, dump: IO[bytes], psql: IO[bytes]) -> None:
        """Turn a dump into the SQL that it stands for."""
        command = ["pg_restore", "--no-owner", "--no-privileges", "--file=-"]
        with tempfile.TemporaryFile() as said:
            pg_restore: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=psql, stderr=said)
            try:
                shutil.copyfileobj(dump, pg_restore.stdin, BLOCK)
            except BrokenPipeError:
                pass  # it has ended, and has said why
            finally:
                with contextlib.suppress(BrokenPipeError):
                    pg_restore.stdin.close()
                pg_restore.wait()
            if pg_restore.returncode:
                raise BackupError(f"pg_restore did not come to the end of the dump: {last_words(said)}")


class MySQL:
    """The same for MySQL, where no transaction can hold the creation of a table.

    A dump is loaded into a database beside the real one, and counted there; then one statement puts its tables in the place
    of the real ones (RENAME TABLE, which MySQL since 8.0 does as a whole or not at all). Whatever dies before, nothing has
    changed; whatever dies afterwards, all of it has. The account needs all rights in two databases more, and these need as
    much room again.
    """

    CREATE = re.compile(rb"CREATE TABLE (`(?:[^`]|``)+`) \(")
    # mysqldump escapes ends of lines, so with one row in a statement there is one in a line.
    ROW = re.compile(rb"(INSERT +INTO (`(?:[^`]|``)+`)(?: \((?:`(?:[^`]|``)+`(?:, )?)+\))? VALUES )(\(.*\));\n", re.DOTALL)
    # A command of MariaDB's own client, which it does not know with --binary-mode, and no other client at all.
    SANDBOX = (b"/*M!999999\\-", b"/*!999999\\-")
    # Bytes of rows after which a statement ends: one for each row takes ten times as long.
    STATEMENT = 2**20
    DENIED = (1044, 1142)
    WAITED = 1205

    def __init__(self, url: str) -> None:
        from sqlalchemy import create_engine

        dialect, parts = (made := create_engine(url)).dialect, made.url
        self.name, self.query = parts.database or "", dict(parts.query)
        self.driver, self.options = dialect.dbapi, {"connect_timeout": 10, **dialect.create_connect_args(parts)[1]}
        self.login = {"host": parts.host, "port": parts.port, "user": parts.username, "password": parts.password}
        self.restored, self.replaced = f"{self.name}_airfield_restored", f"{self.name}_airfield_replaced"

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        try:
            connection = self.driver.connect(**self.options)
        except self.driver.Error as error:
            raise BackupError(f"The database {self.name} does not let us in: {error}") from None
        try:
            # Each statement sees what is there, and nobody waits for ever, neither we nor others for us.
            self.rows(connection, f"set autocommit = 1, lock_wait_timeout = {LOCK_SECONDS}")
            yield connection
        except self.driver.Error as error:
            held = ""
            if error.args[0] == self.WAITED:
                with contextlib.suppress(self.driver.Error):
                    held = f" Its tables are held by one of {self.sessions(connection) or 'another account'}."
            raise BackupError(f"The database {self.name} refused something, and is as it was: {error}.{held}") from None
        finally:
            connection.close()

    @staticmethod
    def rows(connection: Any, query: str) -> list[Any]:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def sessions(self, connection: Any) -> str:
        """Other sessions of our account in the database, each with how to end it. Those of others it may not see."""
        query = (
            "select id, user, host, command, time from information_schema.processlist "
            "where db = database() and id <> connection_id() order by time desc limit 5"
        )
        return "; ".join(
            f"session {number} ({user} from {host}, {command}, for {seconds} s), which `KILL {number}` ends"
            for number, user, host, command, seconds in self.rows(connection, query)
        )

    @staticmethod
    def holders(seconds: int) -> str:
        """Our account may not know who holds a table before it waits for it."""
        return ""

    @staticmethod
    def quote(name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    @staticmethod
    def client() -> tuple[bool, int]:
        """Whether the programs are MariaDB's, and their version."""
        try:
            shown = subprocess.run(["mysqldump", "--version"], check=True, capture_output=True, text=True).stdout
        except FileNotFoundError:
            raise BackupError("mysqldump is not installed. Remedy: install default-mysql-client, or run site.yml.") from None
        return "MariaDB" in shown, int((re.findall(r"(?:Distrib|Ver|from) (\d+)", shown) or [0])[-1])

    def see_that_the_client_will_do(self, connection: Any) -> None:
        """An older mysqldump of MySQL's may not know what a newer server has; MariaDB's asks for what any has."""
        server = int(re.findall(r"\d+", self.rows(connection, "select version()")[0][0])[0])
        mariadb, version = self.client()
        if not mariadb and version < server:
            raise BackupError(
                f"mysqldump is of version {version}, and the server of version {server}. Remedy: install MySQL's client of "
                f"version {server} on this host, or MariaDB's (default-mysql-client); airflow_backup_packages names it."
            )

    @contextlib.contextmanager
    def program(self, *command: str, **streams: Any) -> Iterator[Any]:
        """A run of one of MySQL's programs, which is not there any more when the block is left.

        What it needs to log in it reads from a file in memory: command lines and environments are no place for that.
        """
        lines = ["[client]", *(f"{name}={self.option(value)}" for name, value in self.login.items() if value is not None)]
        lines += [f"{name}={self.option(self.query[key])}" for key, name in OPTIONS_OF_PROGRAMS.items() if key in self.query]
        mode = self.query.get("ssl_mode", "")
        if not self.client()[0]:
            lines += [f"ssl-mode={mode}"] if mode else []
        elif mode in ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"):
            lines += ["ssl", f"ssl-verify-server-cert={int(mode != 'REQUIRED')}"]
        with os.fdopen(os.memfd_create("client"), "w") as options:
            # One that others may write to would be ignored.
            os.fchmod(options.fileno(), 0o600)
            options.write("\n".join(lines) + "\n")
            options.flush()
            process = subprocess.Popen(
                [command[0], f"--defaults-file=/dev/fd/{options.fileno()}", *command[1:]],
                # Else root's own login would win.
                env={**os.environ, "MYSQL_TEST_LOGIN_FILE": "/nonexistent"},
                pass_fds=[options.fileno()],
                **streams,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()
                if process.stdin:
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.close()

    @staticmethod
    def option(value: Any) -> str:
        """A value as an option file has it."""
        return '"' + re.sub(r'["\\]', r"\\\g<0>", str(value)).replace("\n", r"\n").replace("\t", r"\t") + '"'

    def dump(self, stream: IO[bytes], revision_tables: Iterable[str]) -> tuple[dict[str, int], dict[str, str]]:
        """Write a dump; returns the rows of each table and the schema's revisions, both of the dump itself."""
        with self.connect() as connection:
            self.see_that_the_client_will_do(connection)
        command = ["mysqldump", "--single-transaction", "--no-tablespaces", "--skip-add-locks", "--skip-extended-insert"]
        command += ["--hex-blob", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"]
        # What only MySQL's has, and needs a right for.
        command += ["--loose-set-gtid-purged=OFF", self.name]
        with tempfile.TemporaryFile() as said, self.program(*command, stdout=subprocess.PIPE, stderr=said) as process:
            with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=6) as packed:
                counts, revisions, complete = self.pack(process.stdout, packed, {f"`{name}`" for name in revision_tables})
            if process.wait() or not complete:
                raise BackupError(f"mysqldump failed: {last_words(said)}")
        if not revisions:
            raise BackupError(f"The database {self.name} has no schema of Airflow's yet, so there is nothing to back up.")
        return counts, revisions

    def pack(
        self, lines: Iterable[bytes], packed: IO[bytes] | gzip.GzipFile, revision_tables: set[str]
    ) -> tuple[dict[str, int], dict[str, str], bool]:
        """Join rows to larger statements; returns the rows of each table, the revisions, and whether the end is there."""
        counts: dict[str, int] = {}
        revisions: dict[str, str] = {}
        head, size, complete = b"", 0, False
        for line in lines:
            row = self.ROW.fullmatch(line)
            if head and (row is None or row[1] != head or size > self.STATEMENT):
                packed.write(b";\n")
                head = b""
            if row:
                table = row[2].decode()
                counts[table] = counts.get(table, 0) + 1
                if table in revision_tables:
                    revisions[table.strip("`")] = row[3].decode().strip("()'")
                packed.write(b",\n" + row[3] if head else row[1] + row[3])
                head, size = row[1], size + len(row[3]) if head else len(row[3])
                continue
            if not line.startswith(self.SANDBOX):
                packed.write(line)
            created = self.CREATE.match(line)
            if created:
                counts[created[1].decode()] = 0
            complete = line.startswith(b"-- Dump completed") or (complete and not line.strip())
        return counts, revisions, complete

    def names(self, connection: Any, database: str) -> list[str]:
        """Tables of a database, by their quoted names."""
        query = "select table_name from information_schema.tables where table_type = 'BASE TABLE' and table_schema = '{}'"
        return sorted(self.quote(name) for (name,) in self.rows(connection, query.format(database.replace("'", "''"))))

    def tables(self) -> int:
        """How many tables there are."""
        with self.connect() as connection:
            return len(self.names(connection, self.name))

    def mark(self) -> str:
        """What the last restore has left in the database to be known by."""
        query = (
            "select table_comment from information_schema.tables "
            "where table_schema = database() and table_name = 'alembic_version'"
        )
        with self.connect() as connection:
            return next((comment for (comment,) in self.rows(connection, query)), "") or ""

    def restore(self, dump: IO[bytes], counts: Mapping[str, int], finish: Callable[[], None], mark: str) -> None:
        """Put a dump in the place of all that is there, and count; without a mark, leave that as it is in the end.

        :arg finish: fails where the dump has come to an end too early.
        """
        with self.connect() as connection:
            self.prepare(connection)
            try:
                self.load(dump)
                finish()
                for table, rows in sorted(counts.items()):
                    ((found,),) = self.rows(connection, f"select count(*) from {self.quote(self.restored)}.{table}")  # noqa: S608 - quoted by mysqldump
                    if found != rows:
                        raise BackupError(
                            f"The database {self.name} did not take the dump, and is as it was: table {table} has {found} "
                            f"rows, and {rows} were dumped"
                        )
                if mark:
                    self.exchange(connection, mark)
            finally:
                # Where the server is away, the next restore does it.
                with contextlib.suppress(self.driver.Error):
                    self.remove_beside(connection)

    def prepare(self, connection: Any) -> None:
        """Make the databases beside the real one anew, whatever a restore that was killed has left in them."""
        try:
            self.remove_beside(connection)
            for name in (self.restored, self.replaced):
                self.rows(connection, f"create database {self.quote(name)} character set utf8mb4")
        except self.driver.Error as error:
            if error.args[0] not in self.DENIED:
                raise
            raise BackupError(
                f"A restore is prepared beside the database {self.name}, and nothing was changed: {error.args[1]}. Remedy: "
                f"GRANT ALL ON {self.quote(self.restored)}.*, and on {self.quote(self.replaced)}.*, to the account."
            ) from None

    def remove_beside(self, connection: Any) -> None:
        for name in (self.restored, self.replaced):
            self.rows(connection, f"drop database if exists {self.quote(name)}")

    def load(self, dump: IO[bytes]) -> None:
        command = ["mysql", "--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=1G", self.restored]
        with tempfile.TemporaryFile() as said:
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": said}
            with self.program(*command, **streams) as process:
                try:
                    shutil.copyfileobj(gzip.GzipFile(fileobj=dump), process.stdin, BLOCK)
                    process.stdin.close()
                except BrokenPipeError:
                    pass  # it has ended, and has said why
                except (gzip.BadGzipFile, zlib.error):
                    raise BackupError("The dump in the archive is none of MySQL's.") from None
                if process.wait():
                    raise BackupError(f"The database {self.name} did not take the dump, and is as it was: {last_words(said)}")

    def exchange(self, connection: Any, mark: str) -> None:
        real, restored, replaced = map(self.quote, (self.name, self.restored, self.replaced))
        self.rows(connection, f"alter table {restored}.`alembic_version` comment = '{mark}'")
        moves = [f"{real}.{table} to {replaced}.{table}" for table in self.names(connection, self.name)]
        moves += [f"{restored}.{table} to {real}.{table}" for table in self.names(connection, self.restored)]
        self.rows(connection, f"rename table {', '.join(moves)}")


# Of a URL's query, and as MySQL's and MariaDB's programs call it.
OPTIONS_OF_PROGRAMS = {"unix_socket": "socket", "ssl_ca": "ssl-ca", "ssl_cert": "ssl-cert", "ssl_key": "ssl-key"}
ENGINES: dict[str, type[PostgreSQL] | type[MySQL]] = {"postgresql": PostgreSQL, "postgres": PostgreSQL, "mysql": MySQL}


def engine(url: str) -> PostgreSQL | MySQL:
    kind = re.split(r"[+:]", url)[0]
    if kind not in ENGINES:
        raise BackupError(f"There is no backup of databases of kind {kind}, only of {', '.join(ENGINES)}.")
    return ENGINES[kind](url)


def last_words(said: IO[bytes]) -> str:
    """The end of what a program has said."""
    said.seek(0)
    return " ".join(said.read().decode(errors="replace").split("\n")[-6:]).strip() or "without a message"


# Archives ----------------------------------------------------------------------------------------------------------------


def checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def age(arguments: list[str], stdin: int | IO[bytes], stdout: int | IO[bytes], key: str = "") -> Iterator[Any]:
    """A run of age, which has ended well when the block is left; the private key goes to it by a pipe of its own."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(key.encode() + b"\n")
    identity = ["--identity", f"/dev/fd/{reading}"] if key else []
    try:
        with tempfile.TemporaryFile() as said:
            try:
                command = ["age", *arguments, *identity]
                process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=said, pass_fds=[reading])
            except FileNotFoundError:
                raise BackupError("age is not installed. Remedy: install Debian's package age, or run site.yml.") from None

            def ended() -> None:
                if process.wait():
                    raise BackupError(reason(last_words(said)) if key else f"age could not encrypt: {last_words(said)}")

            try:
                yield process, ended
                ended()
            finally:
                process.kill()
                process.wait()
    finally:
        os.close(reading)


def reason(words: str) -> str:
    """What age's message means here."""
    if "no identity matched" in words:
        return "The private key is not the one of this archive. Remedy: use the airflow_backup_private_key of its time."
    if "identity file" in words or "malformed secret key" in words or "unknown identity" in words:
        return "The private key is not one of age's (AGE-SECRET-KEY-1...). Remedy: set airflow_backup_private_key to it."
    words = words.partition(" age: report unexpected")[0]
    return f"The archive is damaged ({words}). Remedy: take another one, or another copy of it."


def add(tar: tarfile.TarFile, name: str, content: bytes | IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.mtime, member.mode = int(time.time()), 0o600
    if isinstance(content, bytes):
        member.size, content = len(content), io.BytesIO(content)
    else:
        member.size = content.seek(0, os.SEEK_END)
        content.seek(0)
    tar.addfile(member, content)


def write_archive(path: Path, recipients: list[str], parts: Mapping[str, bytes | IO[bytes]]) -> None:
    """Encrypt the parts into a file that is on the disk when this returns."""
    arguments = ["--encrypt", *(f"--recipient={recipient}" for recipient in recipients)]
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        with age(arguments, subprocess.PIPE, stream) as (process, ended):
            try:
                with tarfile.open(fileobj=process.stdin, mode="w|") as tar:
                    for name, content in parts.items():
                        add(tar, name, content)
                process.stdin.close()
            except BrokenPipeError:
                ended()
        os.fsync(stream.fileno())


class Archive:
    """An archive that is open for reading, from its beginning to its end."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key, self.sha256 = path, key, checksum(path)
        known = read_sidecar(path)[0]
        if known and known.sha256 != self.sha256:
            raise BackupError(
                f"{path} is damaged: its SHA-256 is not that of {sidecar(path).name}. Remedy: take another one, or another "
                f"copy of it."
            )

    @contextlib.contextmanager
    def parts(self) -> Iterator[tuple[dict[str, Any], dict[str, bytes], IO[bytes], Callable[[], None]]]:
        """The manifest, what else is before the dump, the dump, and what fails where the archive ends too early."""
        with self.path.open("rb") as source, age(["--decrypt"], source, subprocess.PIPE, self.key) as (process, ended):
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                    head: dict[str, bytes] = {}
                    for member in tar:
                        content: Any = tar.extractfile(member)
                        if member.name == DUMP:
                            break
                        head[member.name] = content.read()
                    manifest = json.loads(head[MANIFEST])
                    if manifest["format"] != FORMAT:
                        raise BackupError(
                            f"The archive has format {manifest['format']}, and this release reads {FORMAT}. Remedy: use a "
                            f"newer release of Airfield."
                        )

                    def finish() -> None:
                        # What is left of the tar file, or else age would wait for a reader.
                        while process.stdout.read(BLOCK):
                            pass
                        ended()

                    yield manifest, head, content, finish
                    finish()
            except (tarfile.TarError, KeyError, TypeError, ValueError, EOFError) as error:
                # Mostly that age has ended early, and then it says why.
                process.stdout.close()
                ended()
                raise BackupError(f"{self.path} is not one of our archives: {error}") from None

    def secrets(self, head: Mapping[str, bytes]) -> dict[str, str]:
        """The secrets of the inventory, which the controller has sealed, with the Fernet keys of the dump's time.

        The sealed ones are those of the last run; in the middle of a rotation there are more.
        """
        with tempfile.TemporaryFile() as source:
            source.write(head[SECRETS])
            source.seek(0)
            with age(["--decrypt"], source, subprocess.PIPE, self.key) as (process, dummy):
                secrets = dict(json.loads(process.stdout.read()))
        (keys,) = FERNET.findall(head[COMMAND_LINE].decode())
        return {**secrets, "airflow_fernet_key": keys}


# The backups of a cluster ------------------------------------------------------------------------------------------------


def sidecar(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".tar.age") + ".json")


def read_sidecar(path: Path) -> tuple[Backup | None, str]:
    """What is known of an archive, and what is wrong with that; None and nothing where there is no such file."""
    value, problem = read_file(sidecar(path))
    backup = Backup.read(value)
    if not problem and sidecar(path).exists() and (backup is None or backup.name != path.name):
        backup, problem = None, f"{sidecar(path)} is broken"
    remedy = f"Remedy: give the private key to `{PROGRAM} test {path}`, which makes it anew, or remove the archive."
    return backup, f"{problem}, and nothing is known of the archive. {remedy}" if problem else ""


def moment(name: str) -> float:
    """When an archive was made, by its name."""
    return datetime.strptime(name, STAMPED).replace(tzinfo=UTC).timestamp()


def surplus(names: Iterable[str], now: float, keep: int, keep_days: int, good: Iterable[str]) -> list[str]:
    """Archives to remove: beyond a number or an age, but never the newest one, nor one of the good ones."""
    ordered = sorted(filter(NAME.fullmatch, names), reverse=True)
    needed = {*ordered[:1], *good}
    return [
        name
        for place, name in enumerate(ordered)
        if name not in needed and (place >= keep or now - moment(name) > keep_days * DAY)
    ]


class Folder:
    """Where the archives are on this host."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def look(self) -> tuple[list[Backup], dict[str, str]]:
        """All archives that are complete, newest first; and what is wrong with others of ours, by name."""
        good, broken = [], {}
        for path in sorted(self.path.glob("airfield-*.tar.age"), reverse=True):
            backup, problem = read_sidecar(path)
            if backup and backup.bytes != (size := path.stat().st_size):
                problem = f"{path} is damaged: it has {size} bytes, and was written with {backup.bytes}. Remedy: remove it."
            if problem:
                broken[path.name] = problem
            elif backup:
                good.append(backup)
        return good, broken

    def backups(self) -> list[Backup]:
        """All archives that are complete, newest first."""
        return self.look()[0]

    def broken(self) -> dict[str, str]:
        """What is wrong with archives that count as none, by name."""
        return self.look()[1]

    def clean(self) -> None:
        """Remove what a backup that was killed has left."""
        for path in [*self.path.glob(".airfield-*"), *self.path.glob("airfield-*.json")]:
            if path.name.startswith(".") or not path.with_name(path.stem + ".tar.age").exists():
                path.unlink()

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            # The archive first: without it the file beside it is a leftover.
            (self.path / name).unlink()
            sidecar(self.path / name).unlink(missing_ok=True)

    def good(self) -> list[str]:
        """The newest archive that has not failed its test, and the newest that has passed one."""
        backups = self.backups()
        unfailed = [backup.name for backup in backups if backup.tested is not False]
        passed = [backup.name for backup in backups if backup.tested]
        return unfailed[:1] + passed[:1]


class Bucket:
    """Copies of the archives, in S3."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        import boto3

        self.bucket, self.prefix = settings["bucket"], settings["prefix"]
        self.client = boto3.client(
            "s3",
            endpoint_url=settings["endpoint_url"] or None,
            region_name=settings["region"],
            aws_access_key_id=settings["access_key"] or None,
            aws_secret_access_key=settings["secret_key"] or None,
        )

    def key(self, name: str) -> str:
        return "/".join(filter(None, (self.prefix.strip("/"), name)))

    def put(self, path: Path) -> None:
        """Copy an archive, and the file beside it, and read it back."""
        self.client.upload_file(str(path), self.bucket, self.key(path.name))
        digest = hashlib.sha256()
        body = self.client.get_object(Bucket=self.bucket, Key=self.key(path.name))["Body"]
        for block in body.iter_chunks(BLOCK):
            digest.update(block)
        if digest.hexdigest() != checksum(path):
            raise BackupError(f"The copy of {path.name} in the bucket {self.bucket} differs from it.")
        self.client.upload_file(str(sidecar(path)), self.bucket, self.key(sidecar(path).name))

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.key("airfield-"))
        return [entry["Key"].rpartition("/")[2] for page in pages for entry in page.get("Contents", [])]

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            for key in (name, sidecar(Path(name)).name):
                self.client.delete_object(Bucket=self.bucket, Key=self.key(key))


class Report:
    """What the cluster knows of its backups without looking at them."""

    def __init__(self, path: Path, spare: Path, folder: Folder | None = None) -> None:
        self.path, self.spare, self.folder = path, spare, folder

    def read(self) -> dict[str, Any]:
        """The report; what of it a power cut has spoilt comes from the archives."""
        report: dict[str, Any] = {}
        for path in (self.spare, self.path):
            found, problem = read_file(path)
            if problem:
                print(f"{problem}. It is made anew from what is known of the archives.", file=sys.stderr)
            report = found if self.moment(found) >= self.moment(report) else report
        report = {name: value for name, value in report.items() if name not in ("last", "tested") or Backup.read(value)}
        backups = self.folder.backups() if self.folder else []
        for name, chosen in {"last": backups, "tested": [backup for backup in backups if backup.tested]}.items():
            if name not in report and chosen:
                report[name] = asdict(chosen[0])
        return report

    @staticmethod
    def moment(report: Mapping[str, Any]) -> float:
        """When it was written."""
        begun = report.get("begun")
        times = [report.get("attempted"), begun.get("time") if isinstance(begun, dict) else 0]
        return max((float(moment) for moment in times if isinstance(moment, (int, float))), default=0.0)

    def begin(self) -> None:
        """Note that a backup is under way: one that is killed cannot say that it has failed."""
        self.save({**self.read(), "begun": {"time": time.time(), "pid": os.getpid()}})

    def write(self, error: str, backup: Backup | None = None) -> str:
        """Note how a backup or a test has ended; returns why that could not be noted."""
        report = {
            **self.read(),
            "error": error,
            "attempted": time.time(),
            "broken": self.folder.broken() if self.folder else {},
        }
        report.pop("begun", None)
        if backup:
            report["last"] = asdict(backup)
            if backup.tested:
                report["tested"] = asdict(backup)
        return self.save(report)

    def save(self, report: dict[str, Any]) -> str:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.path, report)
        except OSError as error:
            problem = (
                f"The report {self.path} could not be written: {error.strerror}. Remedy: make room on its file system, then "
                "`systemctl start airfield-backup`."
            )
            # In memory there is room for it.
            with contextlib.suppress(OSError):
                failure = str(report.get("error", "")).rstrip(".")
                write_file(self.spare, {**report, "error": f"{failure}. {problem}" if failure else problem})
            return problem
        self.spare.unlink(missing_ok=True)
        return ""


@contextlib.contextmanager
def alone(path: Path, wait: bool) -> Iterator[None]:
    """Keep others from backing up or restoring meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BackupError("Another backup or restore is running on this host. Remedy: wait for its end.") from None
        yield


class Cluster:
    """The commands, with the settings of this host."""

    def __init__(self, settings: Mapping[str, Any], report: Report) -> None:
        self.settings, self.report = settings, report
        self.folder = report.folder = Folder(Path(settings["directory"]))

    def create(self, test: bool) -> Backup:
        """Make a backup, test it where that is due, and remove what is too old."""
        began, now = time.monotonic(), time.time()
        self.folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.clean()
        name = datetime.fromtimestamp(now, UTC).strftime(STAMPED)
        path = self.folder.path / name
        failure = ""
        # Before the dump: all in it is encrypted with keys of this moment, since a new one is made known before its use.
        parts = {member: Path(source).read_bytes() for member, source in self.settings["include"].items()}
        # Without a name: whatever ends this, the dump goes with it.
        with tempfile.TemporaryFile(dir=self.folder.path) as dump:
            counts, revisions = engine(self.settings["database_url"]).dump(dump, self.settings["revision_tables"])
            tested = None
            if self.settings["scratch_url"] and (test or self.test_is_due(now)):
                try:
                    dump.seek(0)
                    engine(self.settings["scratch_url"]).restore(dump, counts, lambda: None, "")
                    tested = True
                except BackupError as error:
                    # It is better than none, and the unit fails in the end.
                    tested, failure = False, f"{name} failed its test: {error}"
            manifest = {
                "format": FORMAT,
                "time": now,
                "airflow_version": self.settings["airflow_version"],
                "release": self.settings["release"],
                "revisions": revisions,
                "rows": counts,
            }
            temporary = path.with_name(f".{name}")
            try:
                parts = {MANIFEST: json.dumps(manifest).encode(), **parts}
                write_archive(temporary, self.settings["recipients"], {**parts, DUMP: dump})
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        digest = checksum(temporary)
        backup = Backup(
            name=name,
            time=now,
            sha256=digest,
            bytes=temporary.stat().st_size,
            rows=sum(counts.values()),
            airflow_version=self.settings["airflow_version"],
            revisions=revisions,
            seconds=round(time.monotonic() - began, 1),
            tested=tested,
        )
        write_file(sidecar(path), asdict(backup))
        # With this name it is complete.
        put_in_place(temporary, path)
        unwritten = self.report.write(failure, backup)
        self.store(path, now)
        if failure or unwritten:
            raise BackupError(failure or f"{name} is made. {unwritten}")
        return backup

    def store(self, path: Path, now: float) -> None:
        """Copy an archive to the bucket, and remove what is too old, there and here."""
        keep = self.settings["keep"], self.settings["keep_days"], self.folder.good()
        backups, broken = self.folder.look()
        self.folder.remove(surplus([*(backup.name for backup in backups), *broken], now, *keep))
        if self.settings["s3"]:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError

            try:
                bucket = Bucket(self.settings["s3"])
                bucket.put(path)
                bucket.remove(surplus(bucket.names(), now, *keep))
            except (Boto3Error, BotoCoreError, ClientError) as error:
                raise BackupError(f"{path.name} is on this host, but did not get into the bucket: {error}") from None

    def test_is_due(self, now: float) -> bool:
        days = self.settings["test_days"]
        tested = self.report.read().get("tested", {}).get("time", 0)
        # An hour less: the timer is not that exact.
        return bool(days) and now - tested > days * DAY - 3600

    def test(self, path: Path, key: str) -> Backup:
        """Restore an archive, as it is, into the scratch database."""
        if not self.settings["scratch_url"]:
            raise BackupError("There is no scratch database. Remedy: set airflow_backup_test_url to one for this alone.")
        known, archive = read_sidecar(path)[0], Archive(path, key)
        with archive.parts() as (manifest, head, dump, finish):
            archive.secrets(head)
            engine(self.settings["scratch_url"]).restore(dump, manifest["rows"], finish, "")
        if known is None:
            known = Backup(
                name=path.name,
                time=manifest["time"],
                sha256=archive.sha256,
                bytes=path.stat().st_size,
                rows=sum(manifest["rows"].values()),
                airflow_version=manifest["airflow_version"],
                revisions=manifest["revisions"],
                seconds=0,
            )
        tested = replace(known, tested=True)
        write_file(sidecar(path), asdict(tested))
        known_now = self.report.read()
        if known_now.get("last", {}).get("name") == tested.name:
            unwritten = self.report.write("", tested)
        else:
            unwritten = self.report.save({**known_now, "broken": self.folder.broken()})
        if unwritten:
            raise BackupError(f"{path.name} can be restored. {unwritten}")
        return tested

    def restore(self, path: Path, key: str, replacing: bool, dry: bool) -> bool:
        """Put an archive in the place of the metadata database; returns whether that was (or is) still to do."""
        database, archive = engine(self.settings["database_url"]), Archive(path, key)
        mark = f"restored by Airfield from {archive.sha256}"
        if not replacing and database.mark() == mark:
            return False
        if database.tables() and not replacing:
            raise BackupError(
                f"The database {database.name} is not empty, and nothing was changed. Remedy: to lose what is in it, "
                f"run this again with -e airflow_restore_replace=true."
            )
        held = database.holders(HELD_SECONDS) if dry else ""
        if held:
            raise BackupError(
                f"Tables of the database {database.name} are held for longer than {HELD_SECONDS} s, and nothing was changed: "
                f"by {held}. A restore would wait for them with Airflow stopped. Remedy: let them end, or end them, and run "
                f"this again."
            )
        if not dry:
            with archive.parts() as (manifest, dummy, dump, finish):
                database.restore(dump, manifest["rows"], finish, mark)
        return True


def inspect(path: Path, key: str) -> dict[str, Any]:
    """What an archive says of itself, and the inventory's secrets in it. Needs nothing but age, as on a bare host."""
    archive = Archive(path, key)
    with archive.parts() as (manifest, head, dump, finish):
        secrets = archive.secrets(head)
        while dump.read(BLOCK):
            pass
        finish()
    return {"manifest": manifest, "secrets": secrets, "sha256": archive.sha256}


def read_key() -> str:
    # The rest of what age-keygen writes into a file with it does no harm, and no good.
    return next((line.strip() for line in sys.stdin if line.strip() and not line.startswith("#")), "")


def read_settings(path: Path) -> dict[str, Any]:
    settings, problem = read_file(path)
    missing = ", ".join(sorted(SETTINGS - settings.keys()))
    if missing:
        raise BackupError(f"{problem or f'{path} lacks {missing}'}. Remedy: run site.yml, which writes it anew.")
    return settings


def run(arguments: argparse.Namespace) -> dict[str, Any] | list[Any]:
    """Do what the command line asks for; returns what to say of it."""
    if arguments.command == "inspect":
        return inspect(arguments.archive, read_key())
    report = Report(arguments.report, arguments.lock.with_name("backup-report.json"))
    if arguments.command == "create":
        return asdict(create(arguments, report))
    cluster = Cluster(read_settings(arguments.settings), report)
    if arguments.command == "list":
        backups, broken = cluster.folder.look()
        return [*map(asdict, backups), *({"name": name, "problem": problem} for name, problem in broken.items())]
    # A restore whose run was killed may still be at work, and the next run finds it done.
    with alone(arguments.lock, wait=True):
        if arguments.command == "test":
            return asdict(cluster.test(arguments.archive, read_key()))
        return {"due": cluster.restore(arguments.archive, read_key(), arguments.replace, arguments.dry_run)}


def create(arguments: argparse.Namespace, report: Report) -> Backup:
    """Make a backup, and note in any case how it went."""
    with alone(arguments.lock, wait=False):
        try:
            cluster = Cluster(read_settings(arguments.settings), report)
            report.begin()
            return cluster.create(arguments.test)
        except (BackupError, OSError) as error:
            unwritten = report.write(str(error))
            if unwritten and unwritten not in str(error):
                raise BackupError(f"{error}. {unwritten}") from None
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--settings", type=Path, default=Path("/etc/airflow/backup.json"), help="what Ansible has set")
    parser.add_argument("--report", type=Path, default=Path("/var/lib/airfield/backup.json"), help="what is known of the last")
    parser.add_argument("--lock", type=Path, default=Path("/run/airfield/backup.lock"), help="held by who works")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a backup")
    create.add_argument("--test", action="store_true", help="test it, whether that is due or not")
    commands.add_parser("list", help="show the backups on this host")
    by_input = "; the private key comes by standard input"
    test = commands.add_parser("test", help="restore an archive into the scratch database" + by_input)
    inspection = commands.add_parser("inspect", help="show what is in an archive, its secrets among it" + by_input)
    restoration = commands.add_parser("restore", help="put an archive in the place of the metadata database" + by_input)
    restoration.add_argument("--replace", action="store_true", help="also where the database is not empty")
    restoration.add_argument("--dry-run", action="store_true", help="only say whether it may and must be done")
    for command in (test, inspection, restoration):
        command.add_argument("archive", type=Path)
    try:
        result = run(parser.parse_args())
    except BackupError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{error}. Nothing is half done: run it again when that is corrected.")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
