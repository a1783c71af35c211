"""What the service asks of Airflow 3 and of Airflow 2, and what it makes of the answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airfield_slack.airflow_client import Airflow, Airflow2, AirflowError
from airfield_slack.button import Try

WHAT = Try("sales", "r+1", "load", -1, 2)
MAPPED = Try("sales", "r+1", "load", 3, 2)
BASIC = "Basic " + base64.b64encode(b"airfield_slack:hunter2").decode()


class Server:
    """An API that answers by path, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/auth/token": {"access_token": "t0ken"}}
        self.calls: list[tuple[str, str, str, dict[str, list[str]], Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                given = json.loads(body) if body else None
                login = self.headers.get("Authorization", "")
                server.calls.append((self.command, parts.path, login, parse_qs(parts.query), given))
                found = server.answers.get(parts.path)
                status = 404 if found is None else 201 if parts.path == "/auth/token" else 200
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            do_GET = do_POST = answer  # noqa: N815 - the names of the base class

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def airflow_3(server: Server) -> Airflow:
    return Airflow(server.url, "airfield_slack", "hunter2")


@pytest.fixture
def airflow_2(server: Server) -> Airflow2:
    return Airflow2(server.url, "airfield_slack", "hunter2")


def test_token_of_airflow_3_is_asked_for_once(server: Server, airflow_3: Airflow) -> None:
    server.answers["/api/v2/monitor/health"] = {"scheduler": {"status": "healthy"}}
    assert airflow_3.health() == airflow_3.health() == {"scheduler": {"status": "healthy"}}
    assert [call[1] for call in server.calls] == ["/auth/token", "/api/v2/monitor/health", "/api/v2/monitor/health"]
    assert server.calls[1][2] == "Bearer t0ken"


def test_airflow_2_gets_the_password_with_each_request(server: Server, airflow_2: Airflow2) -> None:
    server.answers["/health"] = {"scheduler": {"status": "healthy"}}
    assert airflow_2.health() == airflow_2.health() == {"scheduler": {"status": "healthy"}}
    assert [call[:3] for call in server.calls] == [("GET", "/health", BASIC)] * 2


def test_task_instances_are_asked_for_by_their_index(server: Server, airflow_2: Airflow2) -> None:
    path = "/api/v1/dags/sales/dagRuns/r%2B1/taskInstances/load"
    server.answers |= {path: {"state": "failed"}, f"{path}/3": {"state": "success"}}
    assert airflow_2.task_instance(WHAT) == {"state": "failed"}
    assert airflow_2.task_instance(MAPPED) == {"state": "success"}
    assert airflow_2.dag("gone") is None


@pytest.mark.parametrize(
    ("version", "name", "since"), [("3", "logical_date", "end_date_gt"), ("2", "execution_date", "end_date_gte")]
)
def test_failures_come_page_by_page(request: Any, server: Server, version: str, name: str, since: str) -> None:
    airflow = request.getfixturevalue(f"airflow_{version}")
    path = f"/api/v{int(version) - 1}/dags/~/dagRuns/~/taskInstances"
    server.answers[path] = {"task_instances": [{"task_id": "load", name: "2026-01-01"}]}
    (found,) = airflow.failures(0.0, 60.0)
    assert (found["task_id"], found["logical_date"]) == ("load", "2026-01-01")
    given = server.calls[-1][3]
    assert given["state"] == ["failed"]
    assert given[since] == ["1970-01-01T00:00:00+00:00"]
    assert given["end_date_lte"] == ["1970-01-01T00:01:00+00:00"]
    server.answers[path] = {"task_instances": [{"task_id": "load", name: "x"}] * 100}
    before = len(server.calls)
    for number, _ in enumerate(airflow.failures(0.0, 60.0)):
        if number == 150:
            server.answers[path] = {"task_instances": []}
    assert [call[3]["offset"] for call in server.calls[before:]] == [["0"], ["100"], ["200"]]


def test_exactly_one_task_instance_is_cleared(server: Server, airflow_3: Airflow, airflow_2: Airflow2) -> None:
    server.answers["/api/v2/dags/sales/clearTaskInstances"] = {"task_instances": [{}], "total_entries": 1}
    server.answers["/api/v1/dags/sales/clearTaskInstances"] = {"task_instances": [{}]}
    common = {"dry_run": False, "dag_run_id": "r+1", "only_failed": True, "reset_dag_runs": True}
    assert airflow_3.clear(MAPPED, "why") == 1
    assert server.calls[-1][4] == {**common, "task_ids": [["load", 3]], "note": "why"}
    # Airflow 2 refuses a body with more than it knows.
    assert airflow_2.clear(WHAT, "why") == 1
    assert server.calls[-1][4] == {**common, "task_ids": ["load"]}


def test_airflow_2_would_clear_all_instances_of_a_mapped_task(server: Server, airflow_2: Airflow2) -> None:
    with pytest.raises(AirflowError, match="no single instance of a mapped task"):
        airflow_2.clear(MAPPED, "why")
    assert server.calls == []


def test_editors_are_known_by_their_roles(server: Server, airflow_2: Airflow2) -> None:
    pairs = [("can_edit", "DAG:sales"), ("can_edit", "DAG Runs"), ("can_edit", "Task Instances")]
    actions = [{"action": {"name": action}, "resource": {"name": resource}} for action, resource in pairs]
    server.answers["/auth/fab/v1/users/alice"] = {"active": True, "roles": [{"name": "Sales"}]}
    server.answers["/auth/fab/v1/roles/Sales"] = {"name": "Sales", "actions": actions}
    assert airflow_2.may_edit("alice", "sales")
    assert not airflow_2.may_edit("alice", "other")
    assert not airflow_2.may_edit("bob", "sales")
