"""What a task may do: nothing of it runs in another component, and what it prints holds no secret."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import topology
from leaks import hits

pytestmark = pytest.mark.usefixtures("dags")

MARKS = "/var/lib/airflow/hostile-*"
# What the code of DAGs is forked from, where it has secrets to lose.
PARENTS = ["airflow-triggerer", "airflow-dag-processor"]
# What the operator sets in airflow_config beyond Airflow's own secrets is for tasks, too: Sentry's client runs in them.
OF_OPERATORS = {"sentry_dsn"}


@pytest.fixture
def unmarked(connect: topology.Connect) -> Iterator[None]:
    """No host has a file that a task has had another component write."""
    for name in topology.members("airflow"):
        connect(name).check_output(f"rm -f {MARKS}")
    yield
    for name in topology.members("airflow"):
        connect(name).check_output(f"rm -f {MARKS}")


def end(api: topology.Api, dag: str, **conf: Any) -> tuple[str, dict[str, dict[str, Any]]]:
    """A run that has ended, however it did, and its tasks by their names."""
    run = api.trigger(dag, **conf)
    topology.wait_for("the run to end", lambda: api.state(dag, run) in {"success", "failed"}, 180)
    return run, {task["task_id"]: task for task in api.tasks(dag, run)}


def test_what_a_task_writes_is_not_run_by_another_component(
    unmarked: None, api: topology.Api, connect: topology.Connect
) -> None:
    run, tasks = end(api, "airfield_hostile")
    found = {name: connect(name).run(f"cat {MARKS}").stdout for name in topology.members("airflow")}
    assert found == dict.fromkeys(topology.members("airflow"), "")
    # The task's own state decides, and it did what it wanted.
    assert tasks["result"]["state"] == "success", api.log("airfield_hostile", run, tasks["result"])
    # What is no trigger is told the task that wanted to wait for it.
    assert tasks["trigger"]["state"] == "failed"
    said = partial(api.log, "airfield_hostile", run, tasks["trigger"])
    topology.wait_for("the reason", lambda: "subprocess.Popen is no trigger" in said(), 30)


def test_what_a_task_prints_holds_no_secret(api: topology.Api) -> None:
    dag = "airfield_printing"
    run = api.trigger(dag)
    tasks = {task["task_id"]: task for task in api.finish(dag, run)}
    for name in ("bash", "python"):
        text = topology.wait_for("the log", partial(said, api, dag, run, tasks[name]), 30)
        assert "AIRFLOW_HOME" in text
        assert "***" in text or name == "bash"
        assert (name, hits(text)) == (name, [])
        for word in ("RESULT_BACKEND=", "BROKER_URL=", "SECRET_KEY=", "AIRFLOW_CONN_AIRFLOW_LOGS="):
            assert word not in text

    # What it returned, too, is for everybody to read.
    path = f"/dags/{dag}/dagRuns/{run}/taskInstances/python/xcomEntries/return_value"
    returned = str(api.call("GET", path)["value"])
    assert "AIRFLOW_HOME" in returned
    # With Airflow 2 a task has the database's URL, and what it returns is not masked.
    assert topology.version().startswith("2.") or set(hits(returned)) <= OF_OPERATORS


def said(api: topology.Api, dag: str, run: str, task: dict[str, Any]) -> str:
    """What a task has said, when it has said all."""
    text = api.log(dag, run, task)
    return text if "printed" in text else ""


def test_what_a_dag_file_prints_holds_no_secret(connect: topology.Connect) -> None:
    host = connect((topology.members("airflow_dag_processor") or topology.members("airflow_scheduler"))[0])
    logs = "$(grep -lr airfield_printing /var/log/airflow/dag_processor*)"
    text = topology.wait_for("the file's log", lambda: host.run(f"cat {logs} < /dev/null").stdout, 60)
    assert "AIRFLOW_HOME" in text
    assert hits(text) == []
    assert topology.version().startswith("2.") or "AIRFLOW__CORE__FERNET_KEY" not in text


@pytest.mark.parametrize("unit", PARENTS)
def test_processes_of_dag_code_were_given_no_secret(unit: str, connect: topology.Connect) -> None:
    if topology.version().startswith("2."):
        return  # there it all runs in one process, which needs them
    group = unit.removeprefix("airflow-").replace("-", "_")
    host = connect((topology.members(f"airflow_{group}") or topology.members("airflow_scheduler"))[0])
    main = host.check_output(f"systemctl show -P MainPID {unit}")
    # The log server of the triggerer is Airflow's own.
    environments = (
        f"for p in $(pgrep -P {main}); do grep -q serve-logs /proc/$p/cmdline || tr '\\0' '\\n' < /proc/$p/environ; done"
    )
    text = topology.wait_for("a process", lambda: host.run(environments).stdout, 60)
    assert "AIRFLOW_HOME" in text
    assert set(hits(text)) <= OF_OPERATORS
