"""REST API of Airflow 3, and of Airflow 2, as much of it as the service needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import requests

from airfield_slack.button import Try

# Seconds for a connection, and for an answer.
TIMEOUT = (5, 30)
# Task instances in one answer: Airflow's [api] maximum_page_limit is 100.
PAGE = 100


class AirflowError(Exception):
    """Airflow did not do it; in words for a person."""


class Airflow:
    """The API server, with the account of the service.

    :param url: such as http://web1:8080.
    """

    # Below which everything but the accounts is, and the components' health.
    api = "/api/v2"
    monitor = "/api/v2/monitor/health"

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url.rstrip("/")
        self.login = {"username": username, "password": password}
        self.session = requests.Session()
        self.lock = threading.Lock()

    def log_in(self) -> None:
        answer = self.session.post(f"{self.url}/auth/token", json=self.login, timeout=TIMEOUT)
        if answer.status_code != 201:
            raise AirflowError(f"Airflow does not let this service log in (status {answer.status_code}).")
        self.session.headers["Authorization"] = "Bearer " + answer.json()["access_token"]

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The decoded answer; None where there is no such thing.

        :raises AirflowError: where Airflow does not answer, or refuses.
        """
        try:
            # One login for all, when the token's time is over.
            with self.lock:
                if "Authorization" not in self.session.headers:
                    self.log_in()
            answer = self.session.request(method, self.url + path, timeout=TIMEOUT, **arguments)
            if answer.status_code == 401:
                with self.lock:
                    self.log_in()
                answer = self.session.request(method, self.url + path, timeout=TIMEOUT, **arguments)
        except requests.RequestException as error:
            raise AirflowError(f"Airflow's API server does not answer ({type(error).__name__}).") from error
        if answer.status_code == 404:
            return None
        if not answer.ok:
            raise AirflowError(f"Airflow refuses (status {answer.status_code}).")
        return answer.json()

    def health(self) -> dict[str, Any]:
        """State of the components, by name."""
        found: dict[str, Any] = self.call("GET", self.monitor) or {}
        return found

    def failures(self, since: float, until: float) -> Iterator[dict[str, Any]]:
        """Task instances that have failed for good and ended in this time, seconds since 1970; oldest first."""
        given = {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in (("gt", since), ("lte", until))}
        params: dict[str, Any] = {"state": "failed", "order_by": "end_date", "limit": PAGE, "offset": 0}
        params |= {f"end_date_{name}": text for name, text in given.items()}
        while True:
            answer = self.call("GET", f"{self.api}/dags/~/dagRuns/~/taskInstances", params=params)
            page = answer["task_instances"] if answer else []
            yield from page
            params["offset"] += len(page)
            if len(page) < PAGE:
                return

    def dag(self, dag: str) -> dict[str, Any] | None:
        """A DAG, its tags and parameters among the rest."""
        found: dict[str, Any] | None = self.call("GET", f"{self.api}/dags/{quote(dag, safe='')}/details")
        return found

    def task_instance(self, what: Try) -> dict[str, Any] | None:
        """A task instance as it is now."""
        dag, run, task = (quote(name, safe="") for name in (what.dag, what.run, what.task))
        path = f"{self.api}/dags/{dag}/dagRuns/{run}/taskInstances/{task}"
        found: dict[str, Any] | None = self.call("GET", f"{path}/{what.map_index}" if what.map_index >= 0 else path)
        return found

    def clear(self, what: Try, note: str) -> int:
        """Let Airflow run exactly this task instance again, if it has failed; returns how many it cleared.

        :arg note: goes to the audit log with all else that is asked here.
        """
        task: str | list[Any] = [what.task, what.map_index] if what.map_index >= 0 else what.task
        body = {
            "dry_run": False,
            "dag_run_id": what.run,
            "task_ids": [task],
            "only_failed": True,
            "reset_dag_runs": True,
            "note": note,
        }
        answer = self.call("POST", f"{self.api}/dags/{quote(what.dag, safe='')}/clearTaskInstances", json=body)
        return int(answer["total_entries"]) if answer else 0

    def may_edit(self, username: str, dag: str) -> bool:
        """Whether an active user has the permissions that Airflow's FAB asks for to clear a task of this DAG."""
        user = self.call("GET", f"/auth/fab/v1/users/{quote(username, safe='')}")
        if user is None or not user.get("active", True):
            return False
        held = set()
        for role in user["roles"]:
            found = self.call("GET", f"/auth/fab/v1/roles/{quote(role['name'], safe='')}")
            held |= {(pair["action"]["name"], pair["resource"]["name"]) for pair in (found or {}).get("actions", [])}
        whole = ("can_edit", "DAGs") in held or ("can_edit", f"DAG:{dag}") in held
        return whole and {("can_edit", "DAG Runs"), ("can_edit", "Task Instances")} <= held


class Airflow2(Airflow):
    """The same by the API of Airflow 2, which has no tokens: each request has the password."""

    api = "/api/v1"
    monitor = "/health"

    def log_in(self) -> None:
        self.session.auth = (self.login["username"], self.login["password"])
        # For `call`, which so knows that this has been done; `auth` puts the real one in its place.
        self.session.headers["Authorization"] = "Basic"

    def failures(self, since: float, until: float) -> Iterator[dict[str, Any]]:
        """As of Airflow 3, in any order."""
        given = {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in (("gte", since), ("lte", until))}
        params: dict[str, Any] = {"state": "failed", "limit": PAGE, "offset": 0}
        params |= {f"end_date_{name}": text for name, text in given.items()}
        while True:
            answer = self.call("GET", f"{self.api}/dags/~/dagRuns/~/taskInstances", params=params)
            page = answer["task_instances"] if answer else []
            for found in page:
                yield {**found, "logical_date": found["execution_date"]}
            params["offset"] += len(page)
            if len(page) < PAGE:
                return

    def clear(self, what: Try, note: str) -> int:
        """As of Airflow 3; of a mapped task it knows only all instances, and the audit log gets no note."""
        if what.map_index >= 0:
            raise AirflowError("Airflow 2 clears no single instance of a mapped task for a program; its web page does.")
        body = {
            "dry_run": False,
            "dag_run_id": what.run,
            "task_ids": [what.task],
            "only_failed": True,
            "reset_dag_runs": True,
        }
        answer = self.call("POST", f"{self.api}/dags/{quote(what.dag, safe='')}/clearTaskInstances", json=body)
        return len(answer["task_instances"]) if answer else 0
