from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import service_account
from ansible_collections.airfield.metal.plugins.modules import airflow_reencrypt
from cryptography.fernet import Fernet, InvalidToken

RunModule = Callable[..., dict[str, Any]]
NEW = Fernet.generate_key().decode()
OLD = Fernet.generate_key().decode()
OTHER = Fernet.generate_key().decode()
URL = "postgresql://airflow:hunter2@db1/airflow"
SCHEMA = """
create table connection (id integer primary key, conn_id text, password text, is_encrypted boolean, extra text,
  is_extra_encrypted boolean);
create table variable (id integer primary key, "key" text, val text, is_encrypted boolean);
create table "trigger" (id integer primary key, classpath text, kwargs text);
create table connection_test_request (id text primary key, connection_id text, password text, is_encrypted boolean,
  extra text, is_extra_encrypted boolean);
"""


def encrypted(key: str, text: str) -> str:
    return Fernet(key).encrypt(text.encode()).decode()


class Database:
    """Stands in for the metadata database; `meanwhile` is done after the values were read for the first time."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.executescript(SCHEMA)
        self.meanwhile: list[tuple[str, dict[str, Any]]] = []
        self.options: dict[str, Any] = {}
        self.writes = 0
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.error = ""
        # Whatever the database has for names: SQLite takes these, too.
        self.quotes = "[]"
        self.dialect = SimpleNamespace(identifier_preparer=SimpleNamespace(quote_identifier=self.quote))

    def quote(self, name: str) -> str:
        return name.join(self.quotes)

    def add(self, table: str, **values: Any) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        self.connection.execute(f'insert into "{table}" ({names}) values ({marks})', tuple(values.values()))  # noqa: S608

    def everything(self) -> list[tuple[Any, ...]]:
        return [
            row
            for table in ("connection", "variable", "trigger", "connection_test_request")
            for row in self.connection.execute(f'select * from "{table}" order by id')  # noqa: S608
        ]

    # What the module uses of SQLAlchemy.

    def create_engine(self, url: str, **options: Any) -> Database:
        assert url == URL
        self.options = options
        return self

    def get_table_names(self) -> list[str]:
        return [name for (name,) in self.connection.execute("select name from sqlite_master where type = 'table'")]

    @contextmanager
    def connect(self) -> Iterator[Database]:
        yield self

    def execute(self, statement: str, values: dict[str, Any]) -> Any:
        # MySQL has strings in these.
        assert '"' not in statement
        if statement.startswith("update"):
            self.writes += 1
            while self.meanwhile:
                self.connection.execute(*self.meanwhile.pop())
        cursor = self.connection.execute(statement, values)
        return cursor if statement.startswith("update") else cursor.fetchall()

    def call_as(self, account: str, environment: dict[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
        self.calls.append((account, environment))
        if self.error:
            raise RuntimeError(self.error)
        return json.loads(json.dumps(function(*arguments)))


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    fake = Database()
    sqlalchemy = ModuleType("sqlalchemy")
    vars(sqlalchemy).update(create_engine=fake.create_engine, inspect=lambda engine: engine, text=str)
    monkeypatch.setitem(sys.modules, "sqlalchemy", sqlalchemy)
    monkeypatch.setattr(service_account, "call_as", fake.call_as)
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", URL)
    with closing(fake.connection):
        yield fake


@pytest.fixture
def run(run_module: RunModule, database: Database, tmp_path: Path) -> RunModule:
    (tmp_path / "cli.env").write_text(f'AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="{URL}"\n')

    def run(keys: str = f"{NEW},{OLD}", check: bool = False) -> dict[str, Any]:
        arguments = {"account": "somebody", "config": "/etc/a.cfg", "environment_file": str(tmp_path / "cli.env")}
        return run_module(airflow_reencrypt, check=check, keys=keys, **arguments)

    return run


def fill(database: Database, key: str) -> None:
    """Everything that Airflow encrypts, and next to each a value that it does not."""
    for number, table, name in ((1, "connection", "conn_id"), ("u1", "connection_test_request", "connection_id")):
        values = {"id": number, name: "both", "is_encrypted": True, "is_extra_encrypted": True}
        database.add(table, password=encrypted(key, "pass"), extra=encrypted(key, "{}"), **values)
    for number, flag, text in ((2, False, "plain"), (3, True, ""), (4, True, None)):
        database.add(
            "connection", id=number, conn_id="c", password=text, is_encrypted=flag, extra=text, is_extra_encrypted=flag
        )
    database.add("variable", id=1, key="v", val=encrypted(key, "value"), is_encrypted=True)
    database.add("variable", id=2, key="w", val="plain", is_encrypted=False)
    database.add("trigger", id=1, classpath="a.b", kwargs=encrypted(key, "{}"))
    database.add("trigger", id=2, classpath="a.b", kwargs='{"of": "a deferred task"}')


def decrypted(database: Database, key: str) -> list[list[Any]]:
    def decrypt(value: Any) -> Any:
        try:
            return Fernet(key).decrypt(value) if str(value).startswith("gAAAA") else value
        except InvalidToken:
            return "not decrypted"

    return [[decrypt(value) for value in row] for row in database.everything()]


ALL = {"connection": 2, "variable": 1, "trigger": 1, "connection_test_request": 2}


def test_what_the_old_key_has_encrypted_is_encrypted_with_the_first(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    before = decrypted(database, OLD)
    result = run()
    assert (result["changed"], result["values"]) == (True, ALL)
    assert decrypted(database, NEW) == before
    assert [cell for row in before for cell in row].count("not decrypted") == 0
    # No row stays locked while others are worked on.
    assert database.options == {"isolation_level": "AUTOCOMMIT"}


def test_second_run_changes_nothing(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    run()
    before, writes = database.everything(), database.writes
    result = run()
    assert (result["changed"], result["values"]) == (False, {})
    assert (database.everything(), database.writes) == (before, writes)


def test_run_that_was_killed_half_way_is_finished(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    database.add("variable", id=3, key="x", val=encrypted(NEW, "value"), is_encrypted=True)
    assert run()["values"] == ALL


def test_check_mode_counts_and_writes_nothing(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    before = database.everything()
    told = run(check=True)
    assert (database.everything(), database.writes) == (before, 0)
    done = run()
    assert (told["changed"], told["values"]) == (done["changed"], done["values"])


def test_change_of_a_users_is_not_lost(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    changed = encrypted(NEW, "changed meanwhile")
    database.meanwhile.append(("update variable set val = :val where id = 1", {"val": changed}))
    assert run()["values"] == {name: count for name, count in ALL.items() if name != "variable"}
    assert database.connection.execute("select val from variable where id = 1").fetchone() == (changed,)


def test_value_that_somebody_encrypts_with_the_old_key_meanwhile_is_found(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    late = {"val": encrypted(OLD, "late")}
    database.meanwhile.append(("insert into variable values (9, 'late', :val, true)", late))
    assert run()["values"] == {**ALL, "variable": 2}


def test_row_that_goes_meanwhile_is_no_failure(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    database.meanwhile.append(('delete from "trigger"', {}))
    assert run()["values"] == {name: count for name, count in ALL.items() if name != "trigger"}


@pytest.mark.parametrize("check", [False, True])
def test_value_that_no_key_decrypts_is_named_before_anything_is_written(
    run: RunModule, database: Database, check: bool
) -> None:
    fill(database, OLD)
    database.add("variable", id=3, key="lost", val=encrypted(OTHER, "value"), is_encrypted=True)
    database.add("connection", id=5, conn_id="gone", password="not even a token", is_encrypted=True, is_extra_encrypted=False)
    before = database.everything()
    result = run(check=check)
    assert result["failed"]
    assert result["msg"].startswith("No key of airflow_fernet_key decrypts connection gone, variable lost, so Airflow")
    assert "Remedy" in result["msg"]
    assert database.everything() == before


def test_endless_writing_with_an_old_key_fails(run: RunModule, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database, OLD)
    original = database.execute

    def execute(statement: str, values: dict[str, Any]) -> Any:
        if statement.startswith("update variable"):
            values = {**values, "after": encrypted(OLD, "again")}
        return original(statement, values)

    monkeypatch.setattr(database, "execute", execute)
    result = run()
    assert result["failed"]
    assert result["msg"].startswith("1 values are still encrypted with an old key after 10 rounds.")


def test_table_that_this_release_does_not_have_is_left_out(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    database.connection.execute("drop table connection_test_request")
    assert run()["values"] == {name: count for name, count in ALL.items() if name != "connection_test_request"}


def test_spaces_between_the_keys_do_not_count(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    assert run(f"{NEW} , {OLD}")["values"] == ALL


def test_service_account_does_it_with_the_command_lines_secrets(run: RunModule, database: Database) -> None:
    run()
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": URL,
        "AIRFLOW_CONFIG": "/etc/a.cfg",
        "AIRFLOW_HOME": "/var/lib/airflow",
    }
    assert database.calls == [("somebody", environment)]


def test_failure_is_told_without_secrets(run: RunModule, database: Database) -> None:
    database.error = f"no route to {URL} with {NEW}"
    result = run()
    assert result["failed"]
    assert result["msg"].startswith("Nothing or not all could be encrypted anew: no route to ******** with ********.")
    assert "hunter2" not in json.dumps(result)
    assert NEW not in json.dumps(result)


def test_no_key_is_in_the_result(run: RunModule, database: Database) -> None:
    fill(database, OLD)
    output = json.dumps(run())
    assert not any(key in output for key in (NEW, OLD))
