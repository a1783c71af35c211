"""A day's work on a cluster of three workers that is never idle costs no task."""

from __future__ import annotations

import time

import topology
from ledger import Judge, Load

FIRST = topology.members("airflow_worker")[0]
CONCURRENCY = topology.variable("airflow_worker_concurrency", 16)


def reboot(load: Load, worker: str) -> None:
    """As an operator does it: the host says goodbye to its tasks first."""
    # A connection that is kept open for the next command would be to the host as it was.
    ssh = ["ssh", "-F", str(topology.ssh_config()), "-o", "ControlPath=none", worker]

    def boot() -> str:
        return topology.run(*ssh, "systemctl show -P UserspaceTimestampMonotonic", check=False).stdout.strip()

    before = boot()
    assert before
    topology.run("ssh", "-F", str(topology.ssh_config()), "-O", "exit", worker, check=False)
    # It may be gone before it has answered.
    topology.run(*ssh, "sudo systemctl reboot", check=False)
    load.wait_until(f"{worker} to boot", lambda: boot() not in ("", before), 600)


def take_part(load: Load, worker: str, timeout: float) -> None:
    """Wait for proof that a worker takes tasks again: more than it may have had before."""
    now = time.time()
    load.wait_until(f"{worker} to take tasks", lambda: load.starts(worker, now) > CONCURRENCY, timeout)


def test_day_two_work_costs_no_task(load: Load, addition: topology.Addition, judge: Judge, connect: topology.Connect) -> None:
    worker3 = addition("worker3")

    def run(playbook: str, *arguments: str) -> None:
        run = load.during("--inventory", str(worker3), f"playbooks/{playbook}.yml", *arguments)
        assert run.returncode == 0, run.stdout[-3000:]

    load.add(short=300, long=20)
    topology.wait_for("a long task to run", lambda: load.running(30), 240)

    run("add_workers", "--extra-vars", "workers=worker3")
    take_part(load, "worker3", 120)

    run("site", "--extra-vars", "airflow_worker_concurrency=3")
    for worker in (*topology.members("airflow_worker"), "worker3"):
        take_part(load, worker, 120)

    reboot(load, FIRST)
    take_part(load, FIRST, 120)

    run("remove_workers", "--extra-vars", "workers=worker3")
    removed = time.time()
    assert connect("worker3").run("systemctl is-active airflow-worker").stdout.strip() == "inactive"

    back = load.during("site.yml")
    assert back.returncode == 0, back.stdout[-3000:]
    verdict = judge("worker added, option rolled, host rebooted, worker removed", load)
    assert load.starts("worker3", removed) == 0
    assert verdict.expected >= 320
    assert verdict.is_clean(), verdict
