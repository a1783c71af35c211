"""What breaks under load costs no task: one that was running is tried again where its process was killed, nowhere else."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import topology
from ledger import LONG, Execution, Judge, Load
from testinfra.host import Host

WORKERS = topology.members("airflow_worker")
CONCURRENCY = topology.variable("airflow_worker_concurrency", 16)
STORE = topology.members("redis")[0]
MESSAGES = 500
# Counts the messages that wait in a queue, as a worker may.
LENGTH = """
import re, redis, sys
url = re.search('BROKER_URL="(.*)"', open("/etc/airflow/worker.env").read()).group(1)
print(redis.Redis.from_url(url).llen(sys.argv[1]))
"""


def start(load: Load) -> Execution:
    """Give the cluster work for a minute or two; returns one of the long tasks, which has just begun."""
    load.add(short=60, long=4)
    return topology.wait_for("a long task to run", lambda: load.running(LONG), 240)


def pass_by(seconds: float) -> None:
    begun = time.monotonic()
    topology.wait_for(f"{seconds:g} s to pass", lambda: time.monotonic() - begun >= seconds, seconds + 10)


def wait_for_health(connect: topology.Connect) -> None:
    """Every component has a heartbeat, which needs the database, the scheduler and the web server."""
    web = connect(topology.members("airflow_webserver")[0])

    def healthy() -> bool:
        answer = web.run("curl -sf http://127.0.0.1:8080/api/v2/monitor/health")
        return answer.rc == 0 and all(part["status"] == "healthy" for part in json.loads(answer.stdout).values())

    topology.wait_for("every component's heartbeat", healthy, 60)


def main_process(host: Host) -> str:
    return str(host.check_output("systemctl show -P MainPID airflow-worker"))


def test_killed_worker(load: Load, judge: Judge, connect: topology.Connect) -> None:
    host = connect(start(load).host)
    before = main_process(host)
    host.check_output(f"kill -KILL {before}")
    topology.wait_for("another main process", lambda: main_process(host) not in ("0", before), 30)
    # Airflow misses a task's heartbeat for 300 s before it tries again, and sends a message again after 720 s.
    verdict = judge("main process of a worker killed", load, timeout=1500)
    assert (verdict.lost, verdict.doubled, verdict.unstarted) == (0, 0, 0), verdict
    assert 1 <= verdict.retried + verdict.killed <= CONCURRENCY


def test_dead_host_is_removed(load: Load, addition: topology.Addition, judge: Judge, connect: topology.Connect) -> None:
    inventory = str(addition("worker3"))

    def run(playbook: str, *arguments: str) -> tuple[int, str]:
        run = load.during("--inventory", inventory, f"playbooks/{playbook}.yml", "--extra-vars", "workers=worker3", *arguments)
        return run.returncode, " ".join(run.stdout.split())

    load.add(short=60, long=6)
    status, said = run("add_workers")
    assert status == 0, said[-3000:]
    dead = ["--extra-vars", "airflow_worker_dead=true"]
    status, said = run("remove_workers", *dead)
    assert status != 0
    assert "celery@worker3 answers through the broker, so it is not gone" in said
    load.wait_until(
        "worker3 to run a task", lambda: any(row.host == "worker3" and row.ended is None for row in load.executions()), 240
    )
    topology.run("docker", "kill", f"airfield-{topology.variable('testbed_name')}-worker3")
    died = time.time()
    status, said = run("remove_workers")
    assert status != 0
    assert "No answer from worker3 over SSH" in said
    slack = connect(topology.members("airflow_slack")[0])
    told = "journalctl -u airflow-slack --no-pager | grep -c 'Host worker3: failed'"
    load.wait_until("the service for Slack to miss it", lambda: slack.run(told).stdout.strip() == "1", 600)
    status, said = run("remove_workers", *dead)
    assert status == 0, said[-3000:]
    assert "worker3" not in slack.file("/etc/airflow/slack.json").content_string
    clients = connect(topology.members("postgresql")[0]).check_output("cat /etc/postgresql/15/main/pg_hba.conf")
    assert f"# {WORKERS[0]}" in clients
    assert "# worker3" not in clients
    verdict = judge("a worker's host dead for good, and removed", load, timeout=1500)
    assert load.starts("worker3", died) == 0
    assert (verdict.lost, verdict.doubled, verdict.unstarted) == (0, 0, 0), verdict
    assert 1 <= verdict.retried + verdict.killed <= CONCURRENCY


def test_task_that_eats_the_memory_dies_alone(load: Load, judge: Judge, connect: topology.Connect) -> None:
    before = {worker: main_process(connect(worker)) for worker in WORKERS}
    limit = connect(WORKERS[0]).check_output("systemctl show -P MemoryMax airflow-worker")
    assert limit != "infinity", "the inventory must set airflow_worker_memory_max"
    start(load)
    others = set(load.expected)
    load.add(short=0, long=1, greedy_mb=int(limit) // 2**20)
    (greedy,) = load.expected - others
    verdict = judge("a task that eats the worker's memory", load)
    assert (verdict.lost, verdict.doubled, verdict.retried) == (0, 0, 1), verdict
    killed, again = (execution for execution in load.executions() if execution.of == greedy)
    assert (killed.ended, again.try_number) == (None, 2)
    # There were others beside it, and with one retry they have all ended in their first try.
    assert any(
        neighbour.host == killed.host and neighbour.started < killed.beat + 5 and neighbour.until > killed.started
        for neighbour in load.executions()
        if neighbour.of in others
    )
    assert {worker: main_process(connect(worker)) for worker in WORKERS} == before


@pytest.fixture
def many_messages(tmp_path: Path, api: topology.Api) -> Iterator[None]:
    """Every task that can run is in the broker, where it may wait for an hour; usually 32 are, for ten minutes."""
    slots = api.call("GET", "/pools/default_pool")["slots"]
    config = topology.variable("airflow_config", {})
    scheduler = {**config.get("scheduler", {}), "task_queued_timeout": 3600}
    variables = {"airflow_parallelism": 1000, "airflow_config": {**config, "scheduler": scheduler}}
    # By a file: what Airflow takes for secret may be among it.
    path = tmp_path / "variables.json"
    path.write_text(json.dumps(variables))

    def change(slots: int, *arguments: str) -> None:
        run = topology.playbook(*arguments)
        assert run.returncode == 0, run.stdout[-3000:]
        api.call("PATCH", "/pools/default_pool", params={"update_mask": "slots"}, json={"slots": slots})

    change(1000, "--extra-vars", f"@{path}")
    yield
    change(slots)


@pytest.mark.usefixtures("many_messages")
def test_redis_restart_with_500_messages(load: Load, judge: Judge, connect: topology.Connect) -> None:
    worker = connect(WORKERS[0])

    def queued() -> int:
        return int(topology.python(worker, LENGTH, "default").stdout)

    # The workers go on meanwhile, so it takes more.
    load.add(short=MESSAGES * 3 // 2, long=0, short_seconds=0)
    topology.wait_for(f"{MESSAGES} messages", lambda: queued() >= MESSAGES, 600, pause=1)
    connect(STORE).check_output("systemctl restart redis-server")
    restarted = time.time()

    def consumed() -> bool:
        # A worker may have as many messages as it has slots from before.
        return all(load.starts(name, restarted) > CONCURRENCY for name in WORKERS)

    topology.wait_for("both workers to consume again", consumed, 60)
    verdict = judge(f"Redis restarted with {MESSAGES} messages", load, timeout=3000)
    assert verdict.is_clean(), verdict


@contextmanager
def cut(host: Host, port: int) -> Iterator[None]:
    """Drop everything between a host and one port of all others; neither side is told."""
    rules = f"""
    table inet cut {{
      chain to {{ type filter hook output priority 0; tcp dport {port} drop; }}
      chain from {{ type filter hook input priority 0; tcp sport {port} drop; }}
    }}
    """
    host.check_output(f"printf %s {shlex.quote(rules)} | nft -f -")
    try:
        yield
    finally:
        host.check_output("nft delete table inet cut")


def test_worker_cut_off_from_the_broker_for_60_seconds(load: Load, judge: Judge, connect: topology.Connect) -> None:
    worker = start(load).host
    host = connect(worker)
    with cut(host, 6379):
        # `timeout` ends with 124 where it had to end the connecting.
        assert host.run(f"timeout 3 bash -c '</dev/tcp/{topology.address(STORE)}/6379'").rc == 124
        pass_by(60)
        # There must be something to take.
        load.add(short=100, long=0)
    healed = time.time()
    topology.wait_for(f"{worker} to consume again", lambda: load.starts(worker, healed) > CONCURRENCY, 60)
    verdict = judge("a worker cut off from Redis for 60 s", load)
    assert verdict.is_clean(), verdict


@contextmanager
def stopped(host: Host, unit: str) -> Iterator[None]:
    host.check_output(f"systemctl stop {unit}")
    try:
        yield
    finally:
        host.check_output(f"systemctl start {unit}")


def stop_the_database(connect: topology.Connect) -> None:
    with stopped(connect(topology.members("postgresql")[0]), "postgresql@15-main"):
        pass_by(30)


def restart_the_web_server(connect: topology.Connect) -> None:
    connect(topology.members("airflow_webserver")[0]).check_output("systemctl restart airflow-api-server")


@pytest.mark.parametrize(
    ("scenario", "fault"),
    [("PostgreSQL stopped for 30 s", stop_the_database), ("API server restarted", restart_the_web_server)],
    ids=["database", "web server"],
)
def test_outage_of_the_control_plane(
    scenario: str, fault: Callable[[topology.Connect], None], load: Load, judge: Judge, connect: topology.Connect
) -> None:
    start(load)
    fault(connect)
    wait_for_health(connect)
    verdict = judge(scenario, load)
    assert verdict.is_clean(), verdict
