"""What is not Airfield's, or not of this cluster, is refused by name before anything is changed, or left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import topology
from refusal import extra, refused
from testinfra.host import Host

RECORD = "/var/lib/airfield/cluster.json"
STORE = topology.members("redis")[0]
WORKER = topology.members("airflow_worker")[-1]
UNIT = "/etc/systemd/system/airflow-worker.service"
# The schema of Airflow 2.9.2.
OLD = "686269002441"


@pytest.fixture
def store(connect: topology.Connect) -> Iterator[Host]:
    """The store's host, which says that it belongs to another cluster."""
    host = connect(STORE)
    host.check_output(f"cp -p {RECORD} {RECORD}.true")
    host.check_output(f"echo '{json.dumps({'name': 'production'})}' > {RECORD}")
    yield host
    host.check_output(f"mv {RECORD}.true {RECORD}")


def test_host_of_another_cluster(store: Host) -> None:
    message = refused()
    assert f"{STORE}: belongs to the Airfield cluster production, this inventory is " in message
    assert "airflow_take_over" in message


@pytest.fixture
def worker(connect: topology.Connect) -> Iterator[Host]:
    """A worker's host with units of the operator's, one of them where Airfield has its own."""
    host = connect(WORKER)
    host.check_output(f"cp -p {UNIT} /root/unit.true")
    host.check_output(f"sed -i 1d {UNIT}")
    host.check_output("printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/airflow-permissions.service")
    host.check_output("printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/airflow-old@.service")
    yield host
    host.check_output("rm /etc/systemd/system/airflow-permissions.service /etc/systemd/system/airflow-old@.service")
    host.check_output(f"mv /root/unit.true {UNIT}; systemctl daemon-reload")


def test_unit_of_the_operators_where_airfield_has_its_own(worker: Host) -> None:
    message = refused()
    assert f"{WORKER}: {UNIT} is there and is not Airfield's, and would be replaced. Remedy: move it away" in message
    # Names alone do not make them Airfield's.
    assert "airflow-permissions" not in message
    assert "airflow-old" not in message


@pytest.fixture
def old_schema(connect: topology.Connect) -> Iterator[None]:
    """A metadata database whose schema is of a version that no upgrade begins with."""
    head = topology.ask_database(connect, "select version_num from alembic_version").strip()
    change = "update alembic_version set version_num = '{}'"
    topology.ask_database(connect, change.format(OLD))
    yield
    topology.ask_database(connect, change.format(head))


@pytest.mark.usefixtures("old_schema")
def test_schema_of_another_version(connect: topology.Connect) -> None:
    message = refused()
    assert (
        f"the metadata database has the schema of Airflow 2.9.2 or of a later one of its series (alembic_version {OLD})"
        in message
    )
    assert topology.ask_database(connect, "select version_num from alembic_version").strip() == OLD


def test_service_that_the_cluster_does_not_use(connect: topology.Connect) -> None:
    host = connect(STORE)
    rules = host.check_output("cat /etc/redis/redis.conf | sha256sum")
    host.check_output("mv /var/lib/airfield/cluster.json /var/lib/airfield/cluster.json.true")
    host.check_output("cp -p /etc/redis/redis.conf /root/redis.true; sed -i 1d /etc/redis/redis.conf")
    try:
        # Without Slack, whose alerts would use it.
        broker = extra(airflow_broker={"host": topology.address(WORKER)})
        message = refused(*broker, inventory=topology.INVENTORY / "hosts.yml")
    finally:
        host.check_output("mv /root/redis.true /etc/redis/redis.conf")
        host.check_output("mv /var/lib/airfield/cluster.json.true /var/lib/airfield/cluster.json")
    assert f"{STORE}: is in group redis, but nothing of this cluster uses Redis there" in message
    assert f"{STORE}: its Redis serves somebody else: /etc/redis/redis.conf is not as the package has it" in message
    assert host.check_output("cat /etc/redis/redis.conf | sha256sum") == rules


def test_worker_that_lives_is_not_removed_as_dead() -> None:
    arguments = ["-e", f"workers={WORKER}", "-e", "airflow_worker_dead=true"]
    command = ["ansible-playbook", "--inventory", str(topology.INVENTORY), "playbooks/remove_workers.yml", *arguments]
    run = topology.run(*command, check=False)
    assert run.returncode != 0
    assert f"{WORKER} answers over SSH, so it is not gone" in " ".join(run.stdout.split())
    assert set(topology.changes(run.stdout).values()) == {0}
