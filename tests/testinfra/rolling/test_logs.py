"""Logs outlive what the bucket and the disk do, and tasks do not notice; old logs go, and nothing else."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import boto3
import pytest
import topology
from object_gateway import DAY, ObjectGateway
from testinfra.host import Host

LOGS = "/var/log/airflow"
ADDRESS = topology.address(topology.members("seaweedfs")[0])
# Relays, but lets each answer wait for half a minute.
SLOW = """
import socket, sys, threading, time
def relay(source, target, pause):
    while data := source.recv(65536):
        time.sleep(pause)
        target.sendall(data)
    target.close()
server = socket.create_server((sys.argv[1], 8333))
while True:
    client = server.accept()[0]
    store = socket.create_connection(("127.0.0.1", 8333))
    for ends in ((client, store, 0), (store, client, 30)):
        threading.Thread(target=relay, args=ends, daemon=True).start()
"""
SERVICES = {"redis": "redis-server", "postgresql": "postgresql@15-main"}
# Runs the program of a unit as the unit does, with what is given in the place of the same options.
AS_UNIT = (
    "systemd-run --quiet --pipe --wait --uid=airflow --property=EnvironmentFile=/etc/airflow/log-retention.env"
    " /opt/airflow/current/bin/python /usr/local/lib/airfield/log_retention.py"
)


@pytest.fixture
def worker(connect: topology.Connect) -> Host:
    """The host whose tasks are those of the DAG airfield_wait."""
    return connect("worker1")


@pytest.fixture
def store(connect: topology.Connect) -> Host:
    return connect(topology.members("seaweedfs")[0])


def client(url: str, access_key: str, secret_key: str) -> Any:
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)


@pytest.fixture(scope="module")
def bucket() -> Any:
    keys = (topology.variables()[f"airflow_logs_{kind}_key"] for kind in ("access", "secret"))
    return client(f"http://{ADDRESS}:8333", *keys)


class Waiting:
    """A task that runs until it is let go."""

    def __init__(self, api: topology.Api, worker: Host, name: str) -> None:
        self.api, self.worker = api, worker
        self.release = f"/srv/shared/logs-{name}"
        worker.check_output(f"rm -f {self.release}")
        self.run = api.trigger("airfield_wait", release=self.release)
        self.path = f"{LOGS}/dag_id=airfield_wait/run_id={self.run}/task_id=wait/attempt=1.log"
        topology.wait_for("the task to say that it waits", lambda: "waiting for" in self.local())

    def local(self) -> str:
        """The log that is on the worker."""
        return str(self.worker.run(f"cat {shlex.quote(self.path)}").stdout)

    def end(self) -> None:
        """Let it go; it must succeed."""
        self.worker.check_output(f"touch {self.release}")
        (self.task,) = self.api.finish("airfield_wait", self.run, 90)
        assert self.task["try_number"] == 1
        self.worker.check_output(f"rm -f {self.release}")

    def is_closed(self) -> bool:
        """Whether Airflow is done with the log."""
        return self.worker.run(f"find /proc/[0-9]*/fd -lname {shlex.quote(self.path)} 2>/dev/null | grep .").rc != 0

    def is_readable(self) -> bool:
        """Whether people see all of the log."""
        return "released, edition" in self.api.log("airfield_wait", self.run, self.task)


def look_after(host: Host) -> tuple[str, str]:
    """Let a host look after its logs; how that ends, and the last that it says."""
    host.run("systemctl start airflow-logs")
    status = host.check_output("systemctl show -P ExecMainStatus airflow-logs").strip()
    return status, host.check_output("journalctl --unit airflow-logs --output cat --no-pager --lines 30")


def weed(store: Host, command: str) -> None:
    store.check_output(f"echo {shlex.quote(command)} | /opt/seaweedfs/current/bin/weed shell -master=127.0.0.1:9333")


@contextmanager
def removed(store: Host) -> Iterator[None]:
    """The bucket is gone, and comes back empty."""
    weed(store, "s3.bucket.delete -name airflow-logs")
    try:
        yield
    finally:
        weed(store, "s3.bucket.create -name airflow-logs")


@contextmanager
def denied(store: Host) -> Iterator[None]:
    """The account may no longer do anything."""
    identities = "/etc/seaweedfs/s3.json"
    store.check_output(f"cp -a {identities} /root/s3.json; sed -i 's/airflow-logs\"/other\"/' {identities}")
    store.check_output("systemctl restart seaweedfs")
    try:
        yield
    finally:
        store.check_output(f"mv /root/s3.json {identities}; systemctl restart seaweedfs")
        topology.wait_for("the store", lambda: store.run("curl -fs http://127.0.0.1:8333/healthz").rc == 0)


@contextmanager
def slow(store: Host) -> Iterator[None]:
    """Every answer comes half a minute late."""
    store.check_output("systemctl stop seaweedfs-s3.socket seaweedfs-s3.service")
    store.check_output(f"systemd-run --quiet --unit=slow-store python3 -c {shlex.quote(SLOW)} {ADDRESS}")
    try:
        yield
    finally:
        store.check_output("systemctl stop slow-store; systemctl start seaweedfs-s3.socket")


@pytest.mark.usefixtures("dags")
@pytest.mark.parametrize("fault", [removed, denied, slow], ids=lambda fault: fault.__name__)
def test_log_waits_for_the_bucket_and_the_task_does_not(
    api: topology.Api, worker: Host, store: Host, fault: Callable[[Host], Any]
) -> None:
    assert look_after(worker)[0] == "0"
    task = Waiting(api, worker, fault.__name__)
    with fault(store):
        # Nobody touches the log of a task that runs.
        assert look_after(worker)[0] == "0"
        task.end()
        topology.wait_for("Airflow to give the upload up", task.is_closed, 120)
        assert "released, edition" in task.local()
        # Told once, and still wrong.
        status, said = look_after(worker)
        assert (status, "could not be uploaded" in said) == ("1", True), said
        if fault is not slow:
            assert look_after(worker)[0] == "75"
        assert "released, edition" in task.local()
    topology.wait_for("the log to be uploaded", lambda: look_after(worker)[0] == "0", 60)
    assert worker.run(f"test -e {shlex.quote(task.path)}").rc != 0
    assert task.is_readable()
    # Once, although the slow store may have taken it when nobody waited any more.
    assert api.log("airfield_wait", task.run, task.task).count("released, edition") == 1


@pytest.fixture
def small_log_partition(worker: Host) -> Iterator[None]:
    """64 MB for all logs of a worker."""
    owner = worker.check_output("id -u airflow") + ",gid=" + worker.check_output("id -g airflow")
    worker.check_output("systemctl stop airflow-worker airflow-logs.timer")
    worker.check_output(f"mount -t tmpfs -o size=64m,mode=750,uid={owner} tmpfs {LOGS}")
    worker.check_output("systemctl start airflow-worker airflow-logs.timer")
    yield
    worker.check_output("systemctl stop airflow-worker airflow-logs.timer; systemctl stop airflow-logs")
    worker.check_output(f"umount {LOGS}; systemctl start airflow-worker airflow-logs.timer")


@pytest.mark.usefixtures("dags", "small_log_partition")
def test_tasks_run_on_beside_a_full_log_partition(api: topology.Api, worker: Host) -> None:
    before = Waiting(api, worker, "before")
    # As a program would that does not let go of its log.
    fill = f"cat /dev/zero >{LOGS}/filler; exec sleep infinity >>{LOGS}/filler"
    worker.check_output(f"systemd-run --quiet --uid=airflow --unit=filler sh -c '{fill}'")
    topology.wait_for("the partition to be full", lambda: "100%" in worker.check_output(f"df {LOGS}"), 30)
    before.end()
    status, said = look_after(worker)
    assert status == "1"
    assert f"The file system of {LOGS} is 100 % full, more than the 85 of airflow_disk_alert_percent" in said
    assert worker.run("systemctl is-failed airflow-logs").rc == 0
    assert look_after(worker)[0] == "75"
    # One that begins when there is no room for a line of its log.
    run = api.trigger("example_xcom")
    api.finish("example_xcom", run)
    assert worker.service("airflow-worker").is_running
    # What nobody writes to any more is removed.
    worker.check_output("systemctl stop filler")
    topology.wait_for("all to be well", lambda: look_after(worker)[0] == "0", 60)
    after = Waiting(api, worker, "after")
    after.end()
    topology.wait_for("the log of the next task", after.is_readable, 60)


@pytest.fixture
def full_log_partitions(connect: topology.Connect) -> Iterator[dict[str, Host]]:
    """No room for a line in the logs of Redis and PostgreSQL, which were running and know their files."""
    hosts = {name: connect(topology.members(name)[0]) for name in ("redis", "postgresql")}
    for name, host in hosts.items():
        logs, units = f"/var/log/{name}", SERVICES[name]
        owner = host.check_output(f"stat --format=uid=%u,gid=%g,mode=%a {logs}")
        host.check_output(f"systemctl stop {units} && mount -t tmpfs -o size=64k,{owner} tmpfs {logs}")
        host.check_output(f"systemctl start {units}; cat /dev/zero >{logs}/filler; df {logs} | grep 100%")
    yield hosts
    for name, host in hosts.items():
        host.check_output(f"systemctl stop {SERVICES[name]}; umount /var/log/{name}; systemctl start {SERVICES[name]}")


@pytest.mark.usefixtures("dags")
def test_store_works_on_beside_a_full_log_partition(full_log_partitions: dict[str, Host], api: topology.Api) -> None:
    api.finish("example_xcom", api.trigger("example_xcom"))
    for name, host in full_log_partitions.items():
        # They come back there, too.
        host.check_output(f"systemctl restart {SERVICES[name]}")
    api.finish("example_xcom", api.trigger("example_xcom"))
    for name, host in full_log_partitions.items():
        assert host.run(f"df /var/log/{name} | grep 100%").rc == 0
        assert host.service(SERVICES[name]).is_running


def retain(host: Host, *options: str, environment: tuple[str, ...] = ()) -> None:
    """Do what the daily run does, in a folder of this test's."""
    start = host.check_output("systemctl show -P ExecStart airflow-log-retention")
    usual = start.partition("argv[]=")[2].partition(" ;")[0].split()[2:]
    *unit, python, program = AS_UNIT.split()
    command = [*unit, "/usr/bin/env", *environment, python, program, *usual, "--prefix", "test_logs", *options]
    host.check_output(shlex.join(command))


def test_old_logs_leave_the_bucket_and_nothing_else_does(connect: topology.Connect, bucket: Any) -> None:
    web = connect(topology.members("airflow_webserver")[0])

    def put(name: str) -> datetime:
        bucket.put_object(Bucket="airflow-logs", Key=f"test_logs/{name}", Body=b"x")
        answer: datetime = bucket.head_object(Bucket="airflow-logs", Key=f"test_logs/{name}")["LastModified"]
        return answer

    put("other/1.log")
    old = put("dag_id=old/1.log")
    topology.wait_for("a later second", lambda: (put("dag_id=young/1.log") - old).total_seconds() >= 2)
    retain(web, "--days", "30", "--by", "timer", "--now", str(old.timestamp() + 1 + 30 * 86400))
    left = bucket.list_objects_v2(Bucket="airflow-logs", Prefix="test_logs/")["Contents"]
    assert sorted(entry["Key"] for entry in left) == ["test_logs/dag_id=young/1.log", "test_logs/other/1.log"]
    retain(web, "--days", "30", "--by", "timer")
    for entry in left:
        bucket.delete_object(Bucket="airflow-logs", Key=entry["Key"])


def test_rule_of_the_bucket_comes_and_goes_beside_others(connect: topology.Connect, bucket: Any) -> None:
    web = connect(topology.members("airflow_webserver")[0])
    other = {"ID": "theirs", "Filter": {"Prefix": "x/"}, "Status": "Enabled", "Expiration": {"Days": 3}}
    bucket.put_bucket_lifecycle_configuration(Bucket="airflow-logs", LifecycleConfiguration={"Rules": [other]})

    def rules() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = bucket.get_bucket_lifecycle_configuration(Bucket="airflow-logs")["Rules"]
        return found

    retain(web, "--days", "30", "--by", "lifecycle")
    assert [(rule["ID"], rule["Filter"], rule["Expiration"]["Days"]) for rule in rules()] == [
        ("theirs", {"Prefix": "x/"}, 3),
        ("airfield-log-retention", {"Prefix": "test_logs/dag_id="}, 30),
    ]
    retain(web, "--days", "30", "--by", "timer")
    assert rules() == [other]
    bucket.delete_bucket_lifecycle(Bucket="airflow-logs")


@pytest.fixture(scope="module")
def gateway(connect: topology.Connect) -> Iterator[ObjectGateway]:
    name = topology.members("seaweedfs")[0]
    gateway = ObjectGateway(name, connect(name))
    try:
        gateway.install("AKIATEST", "of-the-gateway")
        yield gateway
    finally:
        gateway.remove()


def test_store_that_knows_rules_deletes_by_them(connect: topology.Connect, gateway: ObjectGateway) -> None:
    """The bucket is made on the way."""
    extra = {"region_name": "us-east-1", "endpoint_url": gateway.url}
    connection = {"conn_type": "aws", "login": "AKIATEST", "password": "of-the-gateway", "extra": extra}
    environment = (f"AIRFLOW_CONN_AIRFLOW_LOGS={json.dumps(connection)}",)
    web = connect(topology.members("airflow_webserver")[0])
    days = 20
    options = ("--days", str(days), "--by", "lifecycle")
    retain(web, *options, environment=environment)
    store = client(gateway.url, "AKIATEST", "of-the-gateway")

    def put(name: str) -> None:
        store.put_object(Bucket="airflow-logs", Key=f"test_logs/{name}", Body=b"x")

    def left() -> list[str]:
        found = store.list_objects_v2(Bucket="airflow-logs", Prefix="test_logs/").get("Contents", [])
        return sorted(entry["Key"].removeprefix("test_logs/") for entry in found)

    put("dag_id=old/1.log")
    put("other/1.log")
    began = time.monotonic()
    topology.wait_for("half of a log's time", lambda: time.monotonic() - began > days * DAY / 2)
    put("dag_id=young/1.log")
    topology.wait_for("the old log to go", lambda: "dag_id=old/1.log" not in left(), 2 * days * DAY)
    assert left() == ["dag_id=young/1.log", "other/1.log"]
    # Nothing to do, and no mistake.
    retain(web, *options, environment=environment)
