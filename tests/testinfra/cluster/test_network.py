"""Who listens where, and what an anonymous caller gets."""

from __future__ import annotations

import re

import pytest
import requests
import topology
from testinfra.host import Host

testinfra_hosts = topology.backends("all")

ANYWHERE = "0.0.0.0"  # noqa: S104 - what is looked for, not what is bound
LISTENERS = {
    "airflow_webserver": {f"{ANYWHERE}:8080"},
    "airflow_scheduler": {"127.0.0.1:8974", f"{ANYWHERE}:8794", "[::]:8794"},
    "airflow_worker": {f"{ANYWHERE}:8793", "[::]:8793"},
    "redis": {"{address}:6379"},
    "mysql": {"{address}:3306"},
    "postgresql": {"{address}:5432"},
    "seaweedfs": {"{address}:8333"} | {f"127.0.0.1:{port}" for port in (8333, 8380, 8888, 9333, 18333, 18380, 18888, 19333)},
}
SSH = {f"{ANYWHERE}:22", "[::]:22"}
# Health, version, and the way to the login; the rest of the API is for those who are logged in.
OPEN = {"/api/v2/monitor/health", "/api/v2/version", "/api/v2/auth/login", "/api/v2/auth/logout"}


def test_listeners_are_exactly_these(host: Host) -> None:
    name = host.check_output("hostname")
    expected = SSH | {
        listener.format(address=topology.address(name))
        for group, listeners in LISTENERS.items()
        if name in topology.members(group)
        for listener in listeners
    }
    found = {line.split()[3] for line in host.check_output("ss -Hltn").splitlines()}
    found = {listener for listener in found if not listener.startswith("127.0.0.11:")}  # Docker's name server
    assert found == expected


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://{topology.address(topology.members('airflow_webserver')[0])}:8080"


def test_api_is_closed_to_anonymous_callers(url: str, api: topology.Api) -> None:
    described = api.session.get(f"{url}/openapi.json", timeout=30).json()["paths"]
    assert len(described) > 60
    answered = {
        path
        for path, methods in described.items()
        for method in methods
        if method in ("get", "post", "put", "patch", "delete")
        and requests.request(
            method, url + re.sub(r"\{[^}]*\}", "x", path), json={}, timeout=30, allow_redirects=False
        ).status_code
        not in (401, 403)
    }
    assert answered == OPEN


@pytest.mark.parametrize(
    "path",
    [
        *("/docs", "/redoc", "/openapi.json", "/auth/docs", "/auth/redoc", "/auth/openapi.json", "/execution/docs"),
        *("/ui/config", "/ui/dags", "/auth/fab/v1/users", "/auth/fab/v1/roles", "/auth/users/list/", "/auth/roles/list/"),
    ],
)
def test_no_page_without_login(url: str, path: str) -> None:
    answer = requests.get(url + path, timeout=30, allow_redirects=False)
    assert answer.status_code in (302, 401, 403, 404)
    assert "login" in answer.headers.get("location", "login")


@pytest.mark.parametrize("path", ["/docs", "/auth/docs", "/execution/docs"])
def test_descriptions_are_there_after_login(url: str, api: topology.Api, path: str) -> None:
    answer = api.session.get(url + path, timeout=30)
    assert answer.status_code == 200
    assert "docs" in answer.text.lower()


def test_health_and_version_need_no_login(url: str) -> None:
    health = requests.get(f"{url}/api/v2/monitor/health", timeout=30).json()
    assert {part: state["status"] for part, state in health.items()} == dict.fromkeys(
        ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
    )
    assert requests.get(f"{url}/api/v2/version", timeout=30).json()["version"] == "3.3.2"


@pytest.mark.parametrize("login", [("admin", "admin"), ("airflow", "airflow"), ("admin", "wrong")])
def test_known_logins_are_refused(url: str, login: tuple[str, str]) -> None:
    body = {"username": login[0], "password": login[1]}
    assert requests.post(f"{url}/auth/token", json=body, timeout=30).status_code == 401


def test_logs_of_workers_need_a_token() -> None:
    for worker in topology.members("airflow_worker"):
        log = f"http://{topology.address(worker)}:8793/log/dag_id=x/run_id=y/task_id=z/attempt=1.log"
        assert requests.get(log, timeout=30).status_code == 403


def test_peers_resolve(host: Host) -> None:
    for name in topology.members("all"):
        assert host.addr(name).is_resolvable
