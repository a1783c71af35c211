"""MySQL as this collection sets it up."""

from __future__ import annotations

import pytest
import topology

pytestmark = pytest.mark.where("mysql")


def test_databases_are_for_every_character(connect: topology.Connect) -> None:
    query = (
        "select schema_name, default_character_set_name from information_schema.schemata "
        "where schema_name like 'airflow%' order by 1"
    )
    # Nothing of a restore, or of its test, is beside them.
    expected = [f"{name}|utf8mb4" for name in ("airflow", "airflow_restore_test", "airflow_results")]
    assert topology.ask_database(connect, query).splitlines() == expected


def test_database_lets_in_only_whom_it_knows_and_encrypted(connect: topology.Connect) -> None:
    query = "select user, host, plugin, ssl_type, super_priv from mysql.user where host <> 'localhost'"
    control = [topology.address(name) for name in topology.members(*topology.this_series().database_clients)]
    workers = [topology.address(name) for name in topology.members("airflow_scheduler", "airflow_worker")]
    assert sorted(topology.ask_database(connect, query).splitlines()) == sorted(
        f"{user}|{address}|caching_sha2_password|ANY|N"
        for user, addresses in {
            "airflow": control,
            "airflow_results": workers,
            "airflow_restore_test": control[:1],
        }.items()
        for address in addresses
    )


def test_accounts_have_rights_in_their_own_databases_alone(connect: topology.Connect) -> None:
    query = "select host, user, db from mysql.db where host <> 'localhost'"
    found = [line.split("|") for line in topology.ask_database(connect, query).splitlines()]
    assert all(database.split("_airfield_")[0] == user for dummy, user, database in found)
    worker = topology.address(topology.members("airflow_worker")[0])
    mine = {"airflow_results"} | ({"airflow"} if "airflow_worker" in topology.this_series().database_clients else set())
    assert {row[2] for row in found if row[0] == worker} == mine


def test_every_connection_is_encrypted(connect: topology.Connect) -> None:
    """Those of Airflow's asynchronous driver, too, which cannot be told by its URL."""
    query = "select distinct connection_type from performance_schema.threads where processlist_user like 'airflow%'"
    assert topology.ask_database(connect, query).splitlines() == ["SSL/TLS"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("explicit_defaults_for_timestamp", "1"),
        ("log_bin_trust_function_creators", "1"),
        ("require_secure_transport", "1"),
        ("collation_server", "utf8mb4_unicode_ci"),
    ],
)
def test_server_has_what_airflow_needs(connect: topology.Connect, variable: str, value: str) -> None:
    assert topology.ask_database(connect, f"select @@global.{variable}") == value
