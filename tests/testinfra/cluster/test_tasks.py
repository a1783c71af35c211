"""DAGs run on the workers, with the right files and with their logs in the bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import boto3
import pytest
import topology

SHARED = topology.variable("airflow_worker_writable_paths", ["/var/lib/airflow"])[0]
USER = topology.variable("airflow_user", "airflow")
WORKERS = topology.members("airflow_worker")

# Whether an object is in the bucket; a run, its running task, and what lets that end.
Stored = Callable[[str], bool]
Running = tuple[str, dict[str, Any], Callable[[], object]]

pytestmark = pytest.mark.usefixtures("dags")


def log_key(dag: str, run: str, task: dict[str, Any]) -> str:
    """The object that holds the log of a task's last try."""
    prefix = topology.variable("airflow_logs", {}).get("prefix", "")
    mapped = f"map_index={task['map_index']}/" if task["map_index"] >= 0 else ""
    path = f"dag_id={dag}/run_id={run}/task_id={task['task_id']}/{mapped}attempt={task['try_number']}.log"
    return f"{prefix}/{path}".lstrip("/")


@pytest.fixture(scope="module")
def stored() -> Stored:
    """Whether an object is in the bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{topology.address(topology.members('seaweedfs')[0])}:8333",
        region_name="us-east-1",
        aws_access_key_id=topology.variables()["airflow_logs_access_key"],
        aws_secret_access_key=topology.variables()["airflow_logs_secret_key"],
    )
    return lambda key: bool(client.list_objects_v2(Bucket="airflow-logs", Prefix=key).get("KeyCount"))


def test_files_of_tasks_suit_the_next_system(api: topology.Api, connect: topology.Connect) -> None:
    run = api.trigger("airfield_files", folder=SHARED)
    tasks = api.finish("airfield_files", run)
    assert {task["hostname"] for task in tasks} == set(WORKERS)
    for worker in WORKERS:
        host = connect(worker)
        host.check_output("getent passwd neighbour || useradd --system --groups airflow neighbour")
        for kind in ("python", "bash"):
            folder = host.file(f"{SHARED}/{worker}-{kind}")
            file = host.file(f"{SHARED}/{worker}-{kind}/result.csv")
            assert (file.mode, file.user, file.uid) == (0o664, USER, topology.variable("airflow_uid", 50000))
            assert file.gid == topology.variable("airflow_gid", 50000)
            assert folder.mode & 0o777 == 0o775
            assert host.check_output(f"runuser -u neighbour -- cat {file.path}") == worker
            host.check_output(f"runuser -u neighbour -- sh -c 'echo appended >> {file.path}'")
            host.check_output(f"rm -r {folder.path}")


def test_results_of_celery_are_in_their_own_database(api: topology.Api, connect: topology.Connect) -> None:
    api.finish("airfield_files", api.trigger("airfield_files", folder=SHARED))
    query = "select count(*) from celery_taskmeta"
    topology.wait_for("results", lambda: int(topology.ask_database(connect, query, "airflow_results")) > 0, 30)


def test_environment_of_the_worker_arrives_unchanged(api: topology.Api) -> None:
    run = api.trigger("airfield_files", folder=SHARED)
    tasks = api.finish("airfield_files", run)
    (task,) = (task for task in tasks if task["task_id"] == "bash_on_worker1")
    wanted = topology.variable("airflow_worker_environment", {}).get("REGION", "")
    topology.wait_for("the value in the log", lambda: wanted in api.log("airfield_files", run, task), 30)


def is_given_up(file: Any) -> bool:
    """Whether nothing of a log is left; what is empty is removed later."""
    return not file.exists or file.size == 0


@pytest.mark.parametrize("dag", sorted(topology.EXAMPLES))
def test_examples_of_airflow_run_and_leave_their_logs_in_the_bucket(
    dag: str, api: topology.Api, stored: Stored, connect: topology.Connect
) -> None:
    run = api.trigger(dag)
    tasks = [task for task in api.finish(dag, run) if task["state"] == "success" and task["hostname"]]
    assert tasks
    for task in tasks:
        key = log_key(dag, run, task)
        topology.wait_for(f"object {key}", partial(stored, key), 30)
        local = connect(task["hostname"]).file(f"/var/log/airflow/{key.removeprefix('cluster/')}")
        topology.wait_for(f"{local.path} to be given up", partial(is_given_up, local), 30)
        assert f"s3://airflow-logs/{key}" in api.log(dag, run, task)


@pytest.fixture
def running(api: topology.Api, connect: topology.Connect) -> Iterator[Running]:
    """A task that runs on worker1 until the test lets it end."""
    host = connect("worker1")
    release = f"{SHARED}/release"
    host.check_output(f"rm -f {release}")
    run = api.trigger("airfield_wait", release=release)

    def started() -> dict[str, Any] | None:
        tasks = api.tasks("airfield_wait", run)
        return next((task for task in tasks if task["state"] == "running"), None)

    task = topology.wait_for("the task to run", started)
    yield run, task, lambda: host.check_output(f"touch {release}")
    host.check_output(f"touch {release}")


def test_log_of_a_running_task_can_be_read(running: Running, api: topology.Api, stored: Stored) -> None:
    run, task, release = running
    line = f"waiting for {SHARED}/release"
    topology.wait_for("the line in the log", lambda: line in api.log("airfield_wait", run, task), 30)
    assert "http://worker1:8793/" in api.log("airfield_wait", run, task)
    assert not stored(log_key("airfield_wait", run, task))
    release()
    (task,) = api.finish("airfield_wait", run)
    topology.wait_for("the object", lambda: stored(log_key("airfield_wait", run, task)), 30)
    text = api.log("airfield_wait", run, task)
    assert "released" in text
    assert "s3://airflow-logs/" in text


def test_running_task_survives_45_seconds_without_web_server(
    running: Running, api: topology.Api, connect: topology.Connect
) -> None:
    """With Airflow's defaults the task is killed after 37 s."""
    run, task, release = running
    series = topology.this_series()
    web = connect(topology.members("airflow_webserver")[0])
    web.check_output(f"systemctl stop airflow-{series.web}")
    stopped = float(web.check_output("date +%s"))
    topology.wait_for("45 s to pass", lambda: float(web.check_output("date +%s")) - stopped >= 45)
    web.check_output(f"systemctl start airflow-{series.web}")
    topology.wait_for("the API", lambda: web.run(f"curl -sf http://127.0.0.1:8080{series.api}/version").rc == 0)
    release()
    (task,) = api.finish("airfield_wait", run)
    assert task["try_number"] == 1
