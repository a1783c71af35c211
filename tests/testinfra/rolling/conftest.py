"""The ledger for these tests, and a table of its verdicts in tests/output/ledger.md. $AIRFIELD_SEED gives other loads."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import topology
from ledger import Judge, Ledger, Load, Table, Verdict


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    with Ledger() as running:
        yield running


@pytest.fixture
def load(ledger: Ledger, api: topology.Api, dags: None) -> Iterator[Load]:
    """Nothing to do yet."""
    load = Load(ledger, api, seed=int(os.environ.get("AIRFIELD_SEED", "1")))
    yield load
    load.abandon()


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Waits for the end of a load, and puts the verdict on it into the table."""
    table = Table(topology.OUTPUT / "ledger.md")

    def judge(scenario: str, load: Load, timeout: float = 900) -> Verdict:
        verdict = load.verdict(timeout)
        table.add(scenario, load.seed, verdict)
        return verdict

    return judge


@pytest.fixture
def addition(tmp_path: Path) -> Iterator[topology.Addition]:
    """Starts a bare host, and gives it variables; returns the inventory that has it and those before."""
    hosts: dict[str, dict[str, object]] = {}
    path = tmp_path / "addition.yml"

    def add(name: str, **variables: object) -> Path:
        is_new = name not in hosts
        network = ipaddress.ip_network(topology.variable("testbed_subnet"))
        hosts[name] = {
            "ansible_host": str(network[20 + int(name.removeprefix("worker"))]),
            # The inventory's variables find their files by it, and this file is elsewhere.
            "inventory_dir": str(topology.ROOT / topology.INVENTORY),
            **variables,
        }
        path.write_text(json.dumps({"airflow_worker": {"hosts": hosts}}))
        if is_new:
            inventories = ["--inventory", str(topology.INVENTORY), "--inventory", str(path)]
            up = topology.run("ansible-playbook", *inventories, "--limit", f"localhost,{name}", "testbed/up.yml", check=False)
            assert up.returncode == 0, up.stdout[-3000:]
            folders = topology.variable("airflow_worker_writable_paths", [])
            if folders:
                put = f"sudo mkdir -p {' '.join(folders)}"
                subprocess.run(["ssh", "-F", str(topology.ssh_config()), name, put], check=True)
        return path

    yield add
    for name in hosts:
        topology.run("docker", "rm", "--force", f"airfield-{topology.variable('testbed_name')}-{name}")
    # The database and the object store forget them.
    assert topology.playbook().returncode == 0
