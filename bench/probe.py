#!/usr/bin/env python3
"""Ask a running Airflow 3 whether it works.

probe.py health URL         waits until every component reports healthy
probe.py run URL DAG_ID...  triggers the DAGs and waits until their runs have succeeded (user admin, $ADMIN_PASSWORD)
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

DEADLINE = time.monotonic() + 300


def call(url: str, body: dict[str, Any] | None = None, token: str = "") -> dict[str, Any]:
    """One JSON request; the decoded answer, empty where there is none yet."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as reply:  # noqa: S310
            answer: dict[str, Any] = json.load(reply)
    except (OSError, ValueError):
        return {}
    return answer


def wait_for(what: str, check: Callable[[], Any]) -> Any:
    """The first true value of check(), asked again and again until the deadline."""
    while time.monotonic() < DEADLINE:
        found = check()
        if found:
            return found
        time.sleep(0.3)
    return sys.exit(f"timed out waiting for {what}")


def health(url: str) -> None:
    def check() -> bool:
        answer = call(url + "/api/v2/monitor/health")
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((answer.get(part) or {}).get("status") == "healthy" for part in parts)

    wait_for("health", check)


def run(url: str, *dag_ids: str) -> None:
    login = {"username": "admin", "password": os.environ["ADMIN_PASSWORD"]}
    token = wait_for("a token", lambda: call(url + "/auth/token", login).get("access_token"))
    for dag_id in dag_ids:
        run_one(f"{url}/api/v2/dags/{dag_id}/dagRuns", token)


def run_one(runs: str, token: str) -> None:
    run_id = wait_for(f"a run, {runs}", lambda: call(runs, {"logical_date": None}, token).get("dag_run_id"))
    wait_for(f"its success, {runs}", lambda: call(f"{runs}/{run_id}", token=token).get("state") == "success")


if __name__ == "__main__":
    {"health": health, "run": run}[sys.argv[1]](*sys.argv[2:])
