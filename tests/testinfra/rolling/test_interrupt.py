"""A rolling change that is killed somewhere is healed by the next run: no worker stays drained or as it was."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import topology
from ledger import Judge, Load, consumers

WORKERS = topology.members("airflow_worker")
QUEUES = set(topology.variable("airflow_worker_queues", ["default"]))
CONCURRENCY = topology.variable("airflow_worker_concurrency", 16)
# One change and the other, in turn: what the workers' number of simultaneous tasks is after it.
CHANGES = [(["--extra-vars", "airflow_worker_concurrency=3"], 3), ([], CONCURRENCY)]


def change(*arguments: str) -> str:
    """Run it to its end."""
    run = topology.playbook(*arguments, show_skipped=True)
    assert run.returncode == 0, run.stdout[-3000:]
    return run.stdout


@pytest.fixture
def window() -> Iterator[list[int]]:
    """Numbers of the change's tasks, from the first one that changes anything: before it there is nothing to heal."""
    output = change(*CHANGES[0][0])
    before, found, _ = output.partition("\nchanged: [")
    assert found
    yield [number for number in topology.working(output) if number >= before.count("\nTASK [")]
    change()


def test_killed_change_is_healed_by_the_next_run(
    window: list[int], load: Load, judge: Judge, connect: topology.Connect
) -> None:
    chance = random.Random(load.seed)  # noqa: S311 - the same points for the same seed
    for turn, number in enumerate(chance.sample(window, 4), 1):
        arguments, concurrency = CHANGES[turn % 2]
        load = replace(load, expected=set())
        load.add(short=60, long=4)
        command = ["ansible-playbook", "--inventory", str(topology.INVENTORY), "site.yml", *arguments]
        task, dummy = topology.kill_at(number, *command)
        run = load.during("site.yml", *arguments)
        assert run.returncode == 0, run.stdout[-3000:]
        assert set(re.findall(r"(?:failed|unreachable)=(\d+)", run.stdout)) == {"0"}
        found = consumers(connect(WORKERS[0]), WORKERS)
        for worker in WORKERS:
            queues, running = found[worker]
            assert queues >= QUEUES | {worker}
            assert running == concurrency
            # Started from what is on disk now.
            connect(worker).check_output(
                "cmp /var/lib/airfield/airflow-worker.fingerprint /run/airfield/airflow-worker.fingerprint"
            )
        verdict = judge(f"run killed {task}", load)
        assert verdict.is_clean(), verdict
