from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import ownership

NOTHING: dict[str, Any] = {"ours": False, "foreign": [], "clients": {}}
ALL = {"mysql": ["db1"], "postgresql": ["db1"], "redis": ["db1"], "seaweedfs": ["db1"]}


@pytest.mark.parametrize(
    ("present", "wanted", "taken", "refused"),
    [
        ("", "", [], False),
        # Installed by a version that did not say whose a host is.
        ("", "production", [], False),
        ("production", "production", [], False),
        ("production", "staging", [], True),
        ("production", "", [], True),
        ("production", "staging", ["cluster"], False),
    ],
)
def test_host_of_another_cluster_is_refused_by_its_name(present: str, wanted: str, taken: list[str], refused: bool) -> None:
    problems = ownership.foreign_cluster(present, wanted, taken)
    assert len(problems) == refused
    assert len(ownership.foreign_database(present, wanted, taken)) == refused
    problems += ownership.foreign_database(present, wanted, taken)
    assert all("belongs to the Airfield cluster production" in problem for problem in problems)
    assert all("""-e '{"airflow_take_over": ["cluster"]}'""" in problem for problem in problems)


def test_file_of_others_at_our_place_is_refused_by_name() -> None:
    paths = ["/etc/systemd/system/airflow-worker.service", "/etc/airflow/airflow.cfg"]
    (problem,) = ownership.foreign_files(paths, [paths[1]])
    assert problem.startswith(f"{paths[0]} is there and is not Airfield's")
    assert f'"airflow_take_over": ["{paths[0]}"]' in problem


def test_our_places_are_those_of_the_hosts_components() -> None:
    paths = ownership.own_paths(["worker", "logs"], ["airfield-backup"])
    assert "/etc/systemd/system/airflow-worker.service" in paths
    assert "/usr/lib/systemd/system/airfield-backup.service" in paths
    assert "/etc/airflow/airflow.cfg" in paths
    assert "/usr/local/bin/airflow" not in paths
    assert "/usr/local/bin/airflow" in ownership.own_paths(["scheduler"], [])
    assert ownership.own_paths([], []) == []


@pytest.mark.parametrize(
    ("clients", "addresses", "identified", "taken", "refused"),
    [
        ({"scheduler1": "10.0.0.1/32"}, {"scheduler1": "10.9.0.1"}, False, [], True),
        # The same names on other machines.
        ({"scheduler1": "10.0.0.1/32", "web1": "10.0.0.2/32"}, {"scheduler1": "10.9.0.1", "web1": "10.9.0.2"}, False, [], True),
        (
            {"scheduler1": "10.0.0.1/32", "web1": "10.0.0.2/32"},
            {"scheduler1": "10.9.0.1", "web1": "10.0.0.2"},
            False,
            [],
            False,
        ),
        ({"scheduler1": "10.0.0.1/32"}, {"scheduler1": "10.9.0.1"}, True, [], False),
        ({"scheduler1": "10.0.0.1/32"}, {"scheduler1": "10.9.0.1"}, False, ["cluster"], False),
        ({"scheduler1": "10.0.0.1/32"}, {}, False, [], False),
        ({}, {"scheduler1": "10.9.0.1"}, False, [], False),
    ],
)
def test_database_server_of_other_hosts_is_refused(
    clients: dict[str, str], addresses: dict[str, str], identified: bool, taken: list[str], refused: bool
) -> None:
    problems = ownership.foreign_clients({**NOTHING, "clients": clients}, addresses, identified, taken)
    assert len(problems) == refused
    assert all("scheduler1 (10.0.0.1)" in problem for problem in problems)


@pytest.mark.parametrize(
    ("store", "unused", "same", "taken", "told"),
    [
        (NOTHING, [], False, [], []),
        (NOTHING, ["mysql"], False, [], ["nothing of this cluster uses MySQL there"]),
        (
            {**NOTHING, "foreign": ["there is the database shop"]},
            [],
            False,
            [],
            ["serves somebody else: there is the database shop"],
        ),
        ({**NOTHING, "ours": True}, ["mysql"], False, [], []),
        ({**NOTHING, "foreign": ["x"]}, ["mysql"], True, [], []),
        ({**NOTHING, "foreign": ["x"]}, ["mysql"], False, ["mysql"], []),
    ],
)
def test_server_of_others_is_refused(
    store: dict[str, Any], unused: list[str], same: bool, taken: list[str], told: list[str]
) -> None:
    problems = ownership.foreign_stores({"mysql": store}, unused, same, taken)
    assert len(problems) == len(told)
    for problem, words in zip(problems, told, strict=True):
        assert words in problem
        assert '"airflow_take_over": ["mysql"]' in problem


@pytest.mark.parametrize(
    ("values", "groups", "unused"),
    [
        ({}, {"postgresql": ["db1"], "redis": ["db1"], "seaweedfs": ["db1"]}, []),
        ({}, {"mysql": ["db1"]}, []),
        # Of two kinds it is PostgreSQL, unless the inventory says otherwise.
        ({}, ALL, ["mysql"]),
        ({"airflow_database": {"backend": "mysql"}}, ALL, ["postgresql"]),
        ({"airflow_database_url": "mysql+mysqldb://u:p@db1/a"}, ALL, ["postgresql"]),
        ({"airflow_result_backend_url": "db+mysql://u:p@db1/a"}, ALL, []),
        ({"airflow_database": {"host": "pg.example.org"}}, {"postgresql": ["db1"]}, ["postgresql"]),
        (
            {"airflow_database": {"host": "pg.example.org"}, "airflow_result_backend": {"host": "db1"}},
            {"postgresql": ["db1"]},
            [],
        ),
        ({"airflow_database": {"host": "10.0.0.5"}}, {"postgresql": ["db1"]}, []),
        ({"airflow_broker_url": "redis://:p@redis.example.org/0"}, {"redis": ["db1"]}, ["redis"]),
        ({"airflow_broker": {"host": "redis.example.org"}}, {"redis": ["db1"], "airflow_slack": ["web1"]}, []),
        ({"airflow_broker": {"host": "redis.example.org"}}, {}, []),
        ({"airflow_logs": {"endpoint_url": "http://s3.example.org"}}, {"seaweedfs": ["db1"]}, ["seaweedfs"]),
        ({"airflow_logs": {"endpoint_url": "http://db1:8333"}}, {"seaweedfs": ["db1"]}, []),
        (
            {"airflow_logs": {"endpoint_url": "http://s3.x"}, "airflow_backup_s3": {"endpoint_url": "http://db1:8333"}},
            {"seaweedfs": ["db1"]},
            [],
        ),
        ({"airflow_database_url": "postgresql://u:p@[x"}, {"postgresql": ["db1"]}, []),
    ],
)
def test_group_that_the_cluster_does_not_use_is_found(
    values: dict[str, Any], groups: dict[str, list[str]], unused: list[str]
) -> None:
    assert ownership.unused_services(values, groups, {"db1", "10.0.0.5"}) == unused
