"""From one 3.x to the next under load: no task is lost; a release that does not work goes no further than one worker."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import topology
from ledger import Load, Verdict

OLD, NEW = "3.2.2", "3.3.2"
UPGRADE, ROLLBACK = (
    ["ansible-playbook", "--inventory", str(topology.INVENTORY), f"playbooks/{name}.yml"] for name in ("upgrade", "rollback")
)
CANARY, *OTHERS = topology.members("airflow_worker")


def on(name: str, command: str) -> str:
    ssh = ["ssh", "-F", str(topology.ssh_config()), name, command]
    return subprocess.run(ssh, capture_output=True, text=True, check=True).stdout.strip()


def versions() -> dict[str, str]:
    found = {name: on(name, "readlink /opt/airflow/current") for name in topology.members("airflow")}
    return {name: Path(release).name.split("-")[0] for name, release in found.items()}


def variables(**more: Any) -> list[str]:
    return ["--extra-vars", json.dumps({"airflow_version": NEW, **more})]


def said(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join(run.stdout.split())


def assert_nothing_lost(load: Load) -> None:
    everything = len(load.expected)
    verdict = load.verdict()
    print(verdict)
    assert verdict == Verdict(expected=everything, ended=everything, lost=0, doubled=0, retried=0, killed=0, unstarted=0)


@pytest.fixture
def broken(connect: topology.Connect) -> Iterator[None]:
    """On the first worker the new release lacks something that only tasks need, from the moment when it is there."""
    worker = connect(CANARY)
    release = f"/opt/airflow/releases/{NEW}-*"
    code = f"{release}/lib/python3.11/site-packages/airflow/sdk/execution_time/task_runner.py"

    def spoil() -> None:
        topology.wait_for("the release to be there", lambda: worker.run(f"ls {release}/.complete").rc == 0, 900)
        worker.check_output(f"sed -i.whole '1i raise RuntimeError(\"broken on purpose\")' {code}")

    thread = threading.Thread(target=spoil, daemon=True)
    thread.start()
    yield
    thread.join()
    worker.check_output(f"for file in {code}; do mv $file.whole $file; done")


def test_release_that_does_not_work_stays_with_one_worker(load: Load, broken: None) -> None:
    load.add(short=20, long=4)
    topology.wait_for("a long task to run", lambda: load.running(15), 240)
    run = load.during("playbooks/upgrade.yml", *variables())
    assert run.returncode != 0
    assert f"{CANARY} did not do with {NEW} and works with {OLD}-" in said(run)
    control = dict.fromkeys(topology.members("airflow_scheduler", "airflow_webserver"), NEW)
    assert versions() == control | dict.fromkeys([CANARY, *OTHERS], OLD)
    # The control plane of the one and workers of the other work together, as long as it takes.
    assert_nothing_lost(load)
    # Whoever knows nothing of it is told, and nothing happens.
    blind = topology.playbook(*variables())
    assert blind.returncode != 0
    assert f"an upgrade from {OLD} to {NEW} was begun and not finished" in said(blind)
    assert set(topology.changes(blind.stdout).values()) == {0}


def test_next_run_goes_on_from_there_and_loses_no_task(load: Load) -> None:
    load.add(short=40, long=4)
    topology.wait_for("a long task to run", lambda: load.running(15), 240)
    began = time.monotonic()
    run = load.during("playbooks/upgrade.yml", *variables())
    assert run.returncode == 0, run.stdout[-3000:]
    without = re.search(r"It was without scheduler and web server for (\d+) s", said(run))
    assert without
    print(f"Upgrade under load: {time.monotonic() - began:.0f} s, {without[1]} s of it without scheduler and web server")
    assert set(versions().values()) == {NEW}
    assert_nothing_lost(load)
    assert set(topology.changes(topology.playbook(*variables()).stdout).values()) == {0}
    again = topology.run(*UPGRADE, *variables(), check=False)
    assert again.returncode != 0
    assert f"has Airflow {NEW} already" in said(again)
    assert set(topology.changes(again.stdout).values()) == {0}


def test_finished_upgrade_is_taken_back_with_the_loss_that_was_named(dags: None) -> None:
    run = topology.run(*ROLLBACK, check=False)
    assert run.returncode != 0
    moment = re.search(r"airflow_upgrade_lose_since=(\S+)", said(run))
    assert moment, run.stdout[-3000:]
    assert set(versions().values()) == {NEW}
    run = topology.run(*ROLLBACK, "--extra-vars", f"airflow_upgrade_lose_since={moment[1]}", check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    assert set(versions().values()) == {OLD}
    api = topology.Api()
    # The backup has the load that was under way then, with a ledger that is no more.
    for state in ("queued", "running"):
        for run_of_then in api.call("GET", "/dags/ledger/dagRuns", params={"state": state})["dag_runs"]:
            api.call("PATCH", f"/dags/ledger/dagRuns/{run_of_then['dag_run_id']}", json={"state": "failed"})
    api.finish("example_bash_operator", api.trigger("example_bash_operator"))
