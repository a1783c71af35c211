"""Under load a changed option reaches every worker and costs no task, and no two runs work on a cluster at the same time."""

from __future__ import annotations

import getpass
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import topology
from ledger import Load, Verdict, consumers

WORKERS = topology.members("airflow_worker")
QUEUES = set(topology.variable("airflow_worker_queues", ["default"]))
CONCURRENCY = topology.variable("airflow_worker_concurrency", 16)


def main_processes(connect: topology.Connect) -> dict[str, str]:
    return {worker: connect(worker).check_output("systemctl show -P MainPID airflow-worker") for worker in WORKERS}


def test_changed_option_restarts_all_workers_and_costs_no_task(load: Load, connect: topology.Connect) -> None:
    load.add(short=40, long=4)
    topology.wait_for("a long task to run", lambda: load.running(15), 240)
    for arguments, concurrency in ((["--extra-vars", "airflow_worker_concurrency=3"], 3), ([], CONCURRENCY)):
        before = main_processes(connect)
        run = load.during("site.yml", *arguments)
        assert run.returncode == 0, run.stdout[-3000:]
        after = main_processes(connect)
        assert all(before[worker] != after[worker] for worker in WORKERS)
        found = consumers(connect(WORKERS[0]), WORKERS)
        for worker in WORKERS:
            queues, running = found[worker]
            assert queues >= QUEUES | {worker}
            assert running == concurrency
    verdict = load.verdict()
    everything = len(load.expected)
    assert verdict == Verdict(expected=everything, ended=everything, lost=0, doubled=0, retried=0, killed=0, unstarted=0)


@pytest.mark.parametrize("attempt", range(5))
def test_of_two_runs_that_start_together_one_goes_on_and_the_other_names_it(attempt: int) -> None:
    command = ["ansible-playbook", "--inventory", str(topology.INVENTORY), "playbooks/deploy_dags.yml"]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: topology.run(*command, check=False), range(2)))
    outputs = [run.stdout for run in runs]
    assert sorted(run.returncode == 0 for run in runs) == [False, True], outputs
    refused = next(run.stdout for run in runs if run.returncode)
    message = " ".join(refused.split())
    holder = re.escape(f"Another run is working on this cluster: {getpass.getuser()}@{socket.gethostname()}, process ")
    assert re.search(holder + r"\d+, deploy_dags\.yml, since ", message)
    assert "Remedy" in message
    assert set(topology.changes(refused).values()) <= {0}
