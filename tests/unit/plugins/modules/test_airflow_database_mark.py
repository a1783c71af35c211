from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.modules import airflow_database_mark

URL = "postgresql://airflow:hunter2@db1/airflow"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """A database behind as much of SQLAlchemy as the module needs."""
    (tmp_path / "cli.env").write_text(f'AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="{URL}"\n')
    with closing(sqlite3.connect(":memory:")) as connection:

        @contextmanager
        def begin() -> Iterator[sqlite3.Connection]:
            with connection:
                yield connection

        def create_engine(url: str) -> SimpleNamespace:
            assert url == URL
            return SimpleNamespace(begin=begin)

        def tables() -> list[str]:
            return [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]

        fake = SimpleNamespace(
            create_engine=create_engine, inspect=lambda engine: SimpleNamespace(get_table_names=tables), text=str
        )
        monkeypatch.setattr(airflow_database_mark, "sqlalchemy", fake, raising=False)
        monkeypatch.setattr(airflow_database_mark, "SQLALCHEMY_ERROR", None)
        yield connection


def test_database_says_whose_it_is(
    run_module: Callable[..., dict[str, Any]], database: sqlite3.Connection, tmp_path: Path
) -> None:
    def run(cluster: str, check: bool = False) -> tuple[bool, str]:
        arguments = {"cluster": cluster, "environment_file": str(tmp_path / "cli.env")}
        result = run_module(airflow_database_mark, check=check, **arguments)
        return result["changed"], result["before"]

    names = "select name from airfield_cluster"
    assert run("production", check=True) == (True, "")
    assert run("production") == (True, "")
    assert run("production") == (False, "production")
    assert run("staging", check=True) == (True, "production")
    assert database.execute(names).fetchall() == [("production",)]
    assert run("staging") == (True, "production")
    assert database.execute(names).fetchall() == [("staging",)]


def test_python_without_drivers_is_told(run_module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_database_mark, "SQLALCHEMY_ERROR", "no module")
    assert "sqlalchemy" in run_module(airflow_database_mark, cluster="x")["msg"]
