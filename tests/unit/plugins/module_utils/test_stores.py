from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import stores

NOTHING: dict[str, Any] = {"ours": False, "foreign": [], "clients": {}}
HBA = "/etc/postgresql/15/main/pg_hba.conf"
SHIPPED = """\
# Database administrative login by Unix domain socket
local   all             postgres                                peer
local   all             all                                     peer
host    all             all             127.0.0.1/32            scram-sha-256
host    all             all             ::1/128                 md5
local   replication     all                                     peer
host    replication     all             127.0.0.1/32            scram-sha-256
"""
OURS = """\
# Managed by Airfield.
local   all       postgres         peer
hostssl airflow airflow 10.0.0.1/32 scram-sha-256  # scheduler1
hostssl airflow airflow web1.example.org scram-sha-256  # web1
"""
Put = Callable[[str, str], None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file of the host."""

    def put(path: str, text: str) -> None:
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return put


def look(root: Path, service: str, databases: list[str] | None = None) -> dict[str, Any]:
    return stores.look([service], lambda: databases or [], str(root))[service]


@pytest.mark.parametrize("service", ["mysql", "postgresql", "redis", "seaweedfs"])
def test_bare_host_has_nothing(tmp_path: Path, service: str) -> None:
    assert look(tmp_path, service) == NOTHING


def test_rules_of_the_distribution_are_nobodys(tmp_path: Path, put: Put) -> None:
    put(HBA, SHIPPED)
    assert look(tmp_path, "postgresql") == NOTHING


def test_rule_and_database_of_another_application_are_told(tmp_path: Path, put: Put) -> None:
    put(HBA, SHIPPED + "host shop shop 10.1.0.0/16 scram-sha-256 # since 2019\n")
    assert look(tmp_path, "postgresql", ["shop"])["foreign"] == [
        f"{HBA} has the rule host shop shop 10.1.0.0/16 scram-sha-256",
        "there is the database shop",
    ]


def test_server_of_ours_tells_its_clients(tmp_path: Path, put: Put) -> None:
    put(HBA, OURS)
    clients = {"scheduler1": "10.0.0.1/32", "web1": "web1.example.org"}
    assert look(tmp_path, "postgresql", ["airflow"]) == {"ours": True, "foreign": [], "clients": clients}


def test_redis_as_the_package_has_it_is_nobodys(tmp_path: Path, put: Put) -> None:
    text = "bind 127.0.0.1\n"
    put("/etc/redis/redis.conf", text)
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    put("/var/lib/dpkg/status", f"Package: redis-server\nConffiles:\n /etc/redis/redis.conf {digest}\n")
    put("/var/lib/redis/dump.rdb", "x" * 90)
    assert look(tmp_path, "redis") == NOTHING
    put("/var/lib/redis/dump.rdb", "x" * 1000)
    assert look(tmp_path, "redis")["foreign"] == ["/var/lib/redis/dump.rdb holds data"]
    put("/etc/redis/redis.conf", text + "requirepass x\n")
    assert "/etc/redis/redis.conf is not as the package has it" in look(tmp_path, "redis")["foreign"]
    put("/etc/redis/redis.conf", "# Managed by Airfield.\n")
    assert look(tmp_path, "redis") == {**NOTHING, "ours": True}


def test_databases_of_mysql_are_told(tmp_path: Path, put: Put) -> None:
    for name in ("mysql", "sys", "performance_schema", "#innodb_temp", "shop"):
        put(f"/var/lib/mysql/{name}/x", "")
    assert look(tmp_path, "mysql")["foreign"] == ["there is the database shop"]
    put("/etc/mysql/mysql.conf.d/zz_airfield.cnf", "# Managed by Airfield.\n")
    assert look(tmp_path, "mysql") == {**NOTHING, "ours": True}


def test_object_store_of_others_is_told(tmp_path: Path, put: Put) -> None:
    put("/usr/lib/systemd/system/seaweedfs.service", "[Unit]\n")
    assert look(tmp_path, "seaweedfs")["foreign"] == ["/usr/lib/systemd/system/seaweedfs.service is not Airfield's"]


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("# Managed by Airfield.\n[Unit]\n", True),
        ("# Managed by Airfield: set options in the inventory.\n", True),
        ("#!/usr/bin/env bash\n# Managed by Airfield. Runs\n", True),
        ("[Unit]\n\n# Managed by Airfield.\n", False),
        ("", False),
        (None, False),
    ],
)
def test_mark_is_at_the_begin(text: str | None, marked: bool) -> None:
    assert stores.is_marked(text) == marked


def test_units_of_others_are_not_ours(tmp_path: Path, put: Put) -> None:
    put("airflow-worker.service", "# Managed by Airfield.\n[Unit]\n")
    for name in ("airflow-postgres.service", "airflow-worker@.service", "airflow-permissions.service"):
        put(name, "[Unit]\nDescription=Ours\n")
    (tmp_path / "airflow-masked.service").symlink_to("/dev/null")
    assert stores.units("airflow-*", str(tmp_path)) == ["airflow-worker"]


def test_files_of_others_are_found_at_our_places(tmp_path: Path, put: Put) -> None:
    put("ours", "# Managed by Airfield.\n")
    put("theirs", "x")
    (tmp_path / "masked").symlink_to("/dev/null")
    paths = [str(tmp_path / name) for name in ("ours", "theirs", "masked", "missing")]
    assert stores.unmarked(paths) == paths[1:3]
