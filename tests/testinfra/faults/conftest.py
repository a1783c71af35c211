"""What must begin early to be old enough later."""

from __future__ import annotations

import pytest
import topology


@pytest.fixture(scope="session", autouse=True)
def failure_while_slack_is_down(api: topology.Api, connect: topology.Connect, dags: None) -> dict[str, str]:
    """DAGs whose task fails before anything else, with their runs; test_slack.py asks for their alerts once it has a Slack.

    One raises an error, one takes memory until the kernel kills it, and one's worker is killed around it: that fails for
    Airflow when it has missed its heartbeat, in five minutes, while other tests run.
    """
    runs = {dag: api.trigger(dag) for dag in ("airfield_lost", "airfield_quiet", "airfield_killed")}
    early = ("airfield_quiet", "airfield_killed")
    topology.wait_for("two DAGs to fail", lambda: all(api.state(dag, runs[dag]) == "failed" for dag in early), 240)

    def worker() -> str | None:
        (task,) = api.tasks("airfield_lost", runs["airfield_lost"])
        return task["hostname"] if task["state"] == "running" else None

    host = connect(topology.wait_for("a task to run", worker, 120))
    host.check_output("systemctl kill --signal=KILL airflow-worker")
    topology.wait_for("its worker to be back", lambda: host.service("airflow-worker").is_running, 60)
    return runs
