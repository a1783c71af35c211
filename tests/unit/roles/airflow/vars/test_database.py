"""What the variables make of an inventory with PostgreSQL, and of one with MySQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROLE = Path(__file__).parents[5] / "roles/airflow"
PASSWORDS = {"airflow_database_password": "p@s s", "airflow_result_backend_password": "r/s"}
HOSTS = {"airflow": ["s1"], "airflow_scheduler": ["s1"], "airflow_webserver": ["s1"], "airflow_worker": ["w1"]}
ASYNC, ARGUMENTS = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS_ASYNC"
MYSQL_QUERY = "charset=utf8mb4&ssl_mode=REQUIRED"


@pytest.fixture
def ask(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """The value of a variable of the role, with these groups and the operator's variables."""

    def ask(name: str, groups: dict[str, list[str]], host: str = "s1", **variables: Any) -> Any:
        groups = {**HOSTS, **groups}
        everyone = {member for members in groups.values() for member in members}
        known = {
            **PASSWORDS,
            "groups": groups,
            "hostvars": {member: {"inventory_hostname": member} for member in everyone},
            "group_names": [group for group, members in groups.items() if host in members],
            "inventory_hostname": host,
            "__airflow_login_type": "database",
            **variables,
        }
        return evaluate(name, [ROLE / "defaults/main.yml", *sorted((ROLE / "vars/main").glob("*.yml"))], known)

    return ask


def test_postgresql_is_as_it_always_was(ask: Callable[..., Any]) -> None:
    groups = {"postgresql": ["d1"]}
    assert ask("__airflow_database_url", groups) == "postgresql+psycopg2://airflow:p%40s%20s@d1:5432/airflow"
    results = "db+postgresql+psycopg2://airflow_results:r%2Fs@d1:5432/airflow_results"
    assert ask("__airflow_result_backend_url", groups) == results
    assert ASYNC not in ask("__airflow_database_variables", groups)
    assert ask("__airflow_extras", groups) == ["amazon", "celery", "fab", "postgres", "slack"]
    assert ask("__airflow_build_packages", groups) == ["python3-pip-whl"]
    assert ask("__airflow_group_packages", groups)["airflow"] == ["tzdata"]
    assert ask("__airflow_backup_wanted_packages", groups) == ["age", "postgresql-client"]
    assert ask("__airflow_looks_at_database", groups) is False


def test_group_mysql_is_enough_for_mysql(ask: Callable[..., Any]) -> None:
    groups = {"mysql": ["d1"]}
    assert ask("__airflow_database_url", groups) == f"mysql+mysqldb://airflow:p%40s%20s@d1:3306/airflow?{MYSQL_QUERY}"
    results = f"db+mysql+mysqldb://airflow_results:r%2Fs@d1:3306/airflow_results?{MYSQL_QUERY}"
    assert ask("__airflow_result_backend_url", groups) == results
    variables = ask("__airflow_database_variables", groups)
    assert variables[ASYNC] == "mysql+aiomysql://airflow:p%40s%20s@d1:3306/airflow?charset=utf8mb4"
    assert variables[ARGUMENTS] == "airfield_mysql.tls"
    assert "mysql" in ask("__airflow_extras", groups)
    assert {"gcc", "libmariadb-dev"} < set(ask("__airflow_build_packages", groups))
    assert ask("__airflow_group_packages", groups)["airflow"] == ["tzdata", "libmariadb3"]
    assert ask("__airflow_backup_wanted_packages", groups) == ["age", "default-mysql-client"]
    # Those would take the server away.
    assert ask("__airflow_backup_wanted_packages", {"mysql": ["s1"]}) == ["age"]
    assert ask("__airflow_backup_wanted_packages", {"mysql": ["s1"]}, airflow_backup_packages=["x"]) == ["age", "x"]
    assert ask("__airflow_own_database", groups) == "d1"
    generated = ask("__airflow_secrets_generated", groups)
    assert {*PASSWORDS, "airflow_backup_test_password"} < set(generated)
    # Only the host that can ask it.
    assert ask("__airflow_looks_at_database", groups) is True
    assert ask("__airflow_looks_at_database", groups, host="w1") is False


def test_port_of_our_mysql_is_the_inventorys(ask: Callable[..., Any]) -> None:
    groups = {**HOSTS, "mysql": ["d1"]}
    hostvars = {name: {"inventory_hostname": name} for name in ("s1", "w1")} | {"d1": {"mysql_port": 3307, "airflow_host": "a"}}
    assert "@a:3307/" in ask("__airflow_database_url", groups, hostvars=hostvars)


def test_mysql_of_the_operator(ask: Callable[..., Any]) -> None:
    database = {"backend": "mysql", "host": "rds", "name": "meta"}
    url = ask("__airflow_database_url", {}, airflow_database=database)
    assert url == f"mysql+mysqldb://airflow:p%40s%20s@rds:3306/meta?{MYSQL_QUERY}"
    assert "@rds:3306/airflow_results?" in ask("__airflow_result_backend_url", {}, airflow_database=database)
    assert ask("__airflow_own_database", {}, airflow_database=database) == ""
    endpoint = ask("__airflow_endpoints", {}, airflow_database=database)["database"]
    assert (endpoint["mysql"], endpoint["host"], endpoint["port"]) == (True, "rds", 3306)


def test_url_of_the_operator_is_used_as_it_is(ask: Callable[..., Any]) -> None:
    url = "postgresql://a:b@h/d?sslmode=verify-full"
    variables = ask("__airflow_database_variables", {}, airflow_database_url=url)
    assert variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == url
    assert variables[ASYNC] == "postgresql+asyncpg://a:b@h/d"


def test_asynchronous_url_of_the_operator_is_the_last_word(ask: Callable[..., Any]) -> None:
    config = {"database": {"sql_alchemy_conn_async": "mysql+aiomysql://x"}}
    assert ASYNC not in ask("__airflow_database_variables", {"mysql": ["d1"]}, airflow_config=config)


def test_results_alone_may_be_on_mysql(ask: Callable[..., Any]) -> None:
    url, groups = "db+mysql+mysqldb://a:b@h/r", {"postgresql": ["d1"]}
    assert ask("__airflow_database_url", groups, airflow_result_backend_url=url).startswith("postgresql+psycopg2://")
    assert "mysql" in ask("__airflow_extras", groups, airflow_result_backend_url=url)
    endpoint = ask("__airflow_endpoints", groups, airflow_result_backend_url=url)["result_backend"]
    assert (endpoint["mysql"], endpoint["host"], endpoint["port"]) == (True, "h", 3306)


@pytest.mark.parametrize(
    ("groups", "backend"),
    [
        ({"mysql": ["d1"], "postgresql": ["d2"]}, "postgresql"),
        ({"mysql": [], "postgresql": []}, "postgresql"),
        ({"mysql": ["d1"], "postgresql": []}, "mysql"),
    ],
)
def test_kind_of_database_where_nobody_says_it(ask: Callable[..., Any], groups: dict[str, list[str]], backend: str) -> None:
    assert ask("__airflow_database_backend", groups) == backend
    assert ask("__airflow_database_backend", groups, airflow_database={"backend": "mysql"}) == "mysql"


def test_only_a_host_of_mysql_alone_may_have_another_system(ask: Callable[..., Any]) -> None:
    groups = {"mysql": ["d1", "s1"]}
    assert [system["version"] for system in ask("__airflow_platforms", groups, host="d1")] == ["12", "13"]
    for host in ("s1", "w1"):
        groups["airflow"] = ["s1", "w1"]
        assert [system["version"] for system in ask("__airflow_platforms", groups, host=host)] == ["12"]


@pytest.mark.parametrize(
    ("host", "packages", "count"), [("d1", ["mariadb-server"], 1), ("d1", ["mysql-server"], 0), ("s1", ["mariadb-server"], 0)]
)
def test_mariadb_is_not_taken_away_by_mysql(ask: Callable[..., Any], host: str, packages: list[str], count: int) -> None:
    facts = {"packages": packages, "current": ""}
    rules = ask(
        "__airflow_rules", {"mysql": ["d1"]}, host=host, __airflow_host=facts, airflow_version="3.3.2", inventory_dir="/i"
    )
    assert [rule["broken"] for rule in rules if "this host has MariaDB" in rule["problem"]] == [bool(count)]
    (missing,) = (rule for rule in rules if rule["problem"].startswith("there is no metadata database"))
    assert missing["broken"] is False
    assert "group mysql, or" in missing["problem"]
