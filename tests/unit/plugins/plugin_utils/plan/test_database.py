from __future__ import annotations

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import database
from ansible_collections.airfield.metal.plugins.plugin_utils.plan.database import (
    ARGUMENTS,
    ARGUMENTS_ASYNC,
    CONNECTION,
    CONNECTION_ASYNC,
)

OURS = {ARGUMENTS: "airfield_database.synchronous", ARGUMENTS_ASYNC: "airfield_database.asynchronous"}


@pytest.mark.parametrize(
    ("url", "more"),
    [
        pytest.param("postgresql+psycopg2://a:b%40c@h:5432/d", {}, id="nothing of libpq"),
        pytest.param(
            "postgresql+psycopg2://a:b%40c@h/d?sslmode=verify-full&sslrootcert=%2Fx&connect_timeout=3",
            {CONNECTION_ASYNC: "postgresql+asyncpg://a:b%40c@h/d"},
            id="what asyncpg refuses",
        ),
        pytest.param(
            "postgresql://a@/d?host=h1:5432&host=h2:5432&target_session_attrs=read-write",
            {CONNECTION_ASYNC: "postgresql+asyncpg://a@/d?host=h1%3A5432&host=h2%3A5432"},
            id="several hosts",
        ),
        pytest.param("mysql+mysqldb://a:b@h/d?charset=utf8mb4", {}, id="MySQL without encryption"),
        pytest.param(
            "mysql://a:b@h/d?ssl_mode=REQUIRED&charset=utf8mb4",
            {CONNECTION_ASYNC: "mysql+aiomysql://a:b@h/d?&charset=utf8mb4", ARGUMENTS_ASYNC: "airfield_mysql.tls"},
            id="MySQL with encryption",
        ),
    ],
)
def test_environment_has_what_each_driver_needs(url: str, more: dict[str, str]) -> None:
    assert database.environment(url, {}) == {CONNECTION: url, **OURS, **more}


@pytest.mark.parametrize(
    ("option", "left"),
    [
        ("sql_alchemy_connect_args", {ARGUMENTS_ASYNC}),
        ("sql_alchemy_connect_args_async", {ARGUMENTS}),
        ("sql_alchemy_conn_async", {ARGUMENTS}),
    ],
)
def test_environment_leaves_what_the_operator_has_said(option: str, left: set[str]) -> None:
    url = "postgresql://a@h/d"
    assert set(database.environment(url, {option: "x"})) == {CONNECTION, *left}


def test_environment_adds_nothing_to_another_kind() -> None:
    assert database.environment("sqlite:////x", {}) == {CONNECTION: "sqlite:////x"}
