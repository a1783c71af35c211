from __future__ import annotations

import runpy
import ssl
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/airfield_database.py"


@pytest.fixture(scope="module")
def module() -> dict[str, Any]:
    return runpy.run_path(str(FILE))


@pytest.mark.parametrize(
    ("url", "left_out"),
    [
        ("postgresql+psycopg2://u:p@h/d", ()),
        ("postgresql://u:p@h/d?sslmode=require", ()),
        ("postgresql://u:p@h/d?connect_timeout=3&keepalives_count=9", ("connect_timeout", "keepalives_count")),
    ],
)
def test_libpq_gets_what_the_url_does_not_say(module: dict[str, Any], url: str, left_out: tuple[str, ...]) -> None:
    expected = {name: value for name, value in module["POSTGRESQL"].items() if name not in left_out}
    assert module["synchronous_arguments"](url) == expected


def test_others_get_no_more_than_they_know(module: dict[str, Any]) -> None:
    assert module["synchronous_arguments"]("mysql+mysqldb://h/d?charset=utf8mb4") == {"connect_timeout": 10}
    assert module["asynchronous_arguments"]("mysql+mysqldb://h/d") == {"connect_timeout": 10}
    assert module["synchronous_arguments"]("sqlite://") == module["asynchronous_arguments"]("sqlite://") == {}


def test_asyncpg_gets_time_outs_of_its_own(module: dict[str, Any]) -> None:
    assert module["asynchronous_arguments"]("postgresql://h/d") == {"timeout": 10, "command_timeout": 60}
    assert module["asynchronous_arguments"]("postgresql://h/d?connect_timeout=3&tcp_user_timeout=5")["timeout"] == 3


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_asyncpg_knows_modes_without_a_check(module: dict[str, Any], mode: str) -> None:
    assert module["asynchronous_arguments"](f"postgresql://h/d?sslmode={mode}")["ssl"] == mode


@pytest.mark.parametrize(
    ("mode", "verifies", "host"),
    [
        ("require", ssl.CERT_NONE, False),
        ("require&sslrootcert=system", ssl.CERT_REQUIRED, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_asyncpg_checks_as_libpq_does(module: dict[str, Any], mode: str, verifies: int, host: bool) -> None:
    context = module["asynchronous_arguments"](f"postgresql://h/d?sslmode={mode}")["ssl"]
    assert (context.verify_mode, context.check_hostname) == (verifies, host)


def test_root_certificate_that_is_missing_is_told(module: dict[str, Any]) -> None:
    with pytest.raises(FileNotFoundError):
        module["asynchronous_arguments"]("postgresql://h/d?sslmode=verify-full&sslrootcert=/nowhere.pem")


def test_airflow_finds_the_arguments_by_name(module: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = ModuleType("airflow.configuration")
    vars(configuration)["conf"] = SimpleNamespace(get=lambda section, option: "postgresql://h/d")
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.configuration", configuration)
    assert module["__getattr__"]("synchronous") == module["POSTGRESQL"]
    assert module["__getattr__"]("asynchronous") == module["ASYNCPG"]
    with pytest.raises(AttributeError):
        module["__getattr__"]("other")
