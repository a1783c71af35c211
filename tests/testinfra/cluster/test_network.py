"""Who listens where, and what an anonymous caller gets."""

from __future__ import annotations

import re

import pytest
import requests
import topology
import yaml
from testinfra.host import Host

testinfra_hosts = topology.backends("all")

ANYWHERE = "0.0.0.0"  # noqa: S104 - what is looked for, not what is bound
SERIES = topology.this_series()
LISTENERS = {
    "airflow_webserver": {f"{ANYWHERE}:8080"},
    "airflow_scheduler": {"127.0.0.1:8974", *SERIES.listeners["airflow_scheduler"]},
    "airflow_worker": SERIES.listeners["airflow_worker"],
    "airflow_flower": {"127.0.0.1:5555"},
    "redis": {"{address}:6379"},
    "mysql": {"{address}:3306"},
    "postgresql": {"{address}:5432"},
    "seaweedfs": {"{address}:8333"} | {f"127.0.0.1:{port}" for port in (8333, 8380, 8888, 9333, 18333, 18380, 18888, 19333)},
}
SSH = {f"{ANYWHERE}:22", "[::]:22"}


def listening(host: Host) -> set[str]:
    found = {line.split()[3] for line in host.check_output("ss -Hltn").splitlines()}
    return {listener for listener in found if not listener.startswith("127.0.0.11:")}  # Docker's name server


def test_listeners_are_exactly_these(host: Host) -> None:
    name = host.check_output("hostname")
    expected = SSH | {
        listener.format(address=topology.address(name))
        for group, listeners in LISTENERS.items()
        if name in topology.members(group)
        for listener in listeners
    }
    # A host that has just been started is still at it.
    topology.wait_for(f"{sorted(expected)} on {name}", lambda: expected <= listening(host), 60)
    assert listening(host) == expected


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://{topology.address(topology.members('airflow_webserver')[0])}:8080"


def test_api_is_closed_to_anonymous_callers(url: str, api: topology.Api) -> None:
    described = {
        root + path: methods
        for page, root in SERIES.descriptions
        for path, methods in yaml.safe_load(api.session.get(url + page, timeout=30).text)["paths"].items()
    }
    assert len(described) > SERIES.paths
    answered = {
        path
        for path, methods in described.items()
        for method in methods
        if method in ("get", "post", "put", "patch", "delete")
        and requests.request(
            method, url + re.sub(r"\{[^}]*\}", "x", path), json={}, timeout=30, allow_redirects=False
        ).status_code
        not in SERIES.refusals
    }
    assert answered == SERIES.open


@pytest.mark.parametrize("path", SERIES.closed_pages)
def test_no_page_without_login(url: str, path: str) -> None:
    answer = requests.get(url + path, timeout=30, allow_redirects=False)
    assert answer.status_code in (302, 401, 403, 404)
    assert "login" in answer.headers.get("location", "login")


@pytest.mark.parametrize(("path", "word"), SERIES.manuals)
def test_descriptions_are_there_after_login(url: str, api: topology.Api, path: str, word: str) -> None:
    answer = api.session.get(url + path, headers={"Accept": "text/html"}, timeout=30)
    assert answer.status_code == 200
    assert word in answer.text.lower()


def test_health_and_version_need_no_login(url: str) -> None:
    health = requests.get(url + SERIES.monitor, timeout=30).json()
    assert {part: state["status"] for part, state in health.items()} == dict.fromkeys(
        ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
    )
    assert requests.get(f"{url}{SERIES.api}/version", timeout=30).json()["version"] == topology.version()


@pytest.mark.parametrize("login", [("admin", "admin"), ("airflow", "airflow"), ("admin", "wrong")])
def test_known_logins_are_refused(api: topology.Api, login: tuple[str, str]) -> None:
    assert api.log_in(*login) == SERIES.wrong_login


@pytest.mark.parametrize("login", [None, ("airflow", "wrong"), ("", "")])
def test_flower_answers_its_user_alone(connect: topology.Connect, login: tuple[str, str] | None) -> None:
    """On its own host, as nobody else reaches it; curl reads the right login where no command line shows it."""
    for name in topology.members("airflow_flower"):
        host = connect(name)
        curl = "curl --silent --output /dev/null --write-out '%{http_code}'"
        wrong = f"--user '{login[0]}:{login[1]}'" if login else ""
        for page in ("/", "/workers", "/api/workers"):
            assert host.check_output(f"{curl} {wrong} http://127.0.0.1:5555{page}") in ("401", "403")
        right = topology.python(host, FLOWER).stdout
        assert "celery@worker1" in right


# Asks Flower for the workers with the login that its unit has.
FLOWER = r"""
import base64, re, urllib.request
line = next(line for line in open("/etc/airflow/flower.env") if line.startswith("FLOWER_BASIC_AUTH="))
login = re.sub(r"\\(.)", r"\1", line.partition("=")[2].strip()[1:-1])
header = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
print(urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:5555/workers?refresh=1", headers=header)).read().decode())
"""


def test_logs_of_workers_need_a_token() -> None:
    for worker in topology.members("airflow_worker"):
        log = f"http://{topology.address(worker)}:8793/log/dag_id=x/run_id=y/task_id=z/attempt=1.log"
        assert requests.get(log, timeout=30).status_code == 403


@pytest.mark.parametrize("path", ["/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc"])
def test_log_servers_do_not_describe_themselves(path: str) -> None:
    servers = [(name, 8793) for name in topology.members("airflow_worker")]
    servers += [(name, 8794) for name in topology.members("airflow_triggerer") or topology.members("airflow_scheduler")]
    for name, port in servers:
        assert requests.get(f"http://{topology.address(name)}:{port}{path}", timeout=30).status_code == 404


def test_peers_resolve(host: Host) -> None:
    for name in topology.members("all"):
        assert host.addr(name).is_resolvable
