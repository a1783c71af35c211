"""Fixtures for tests on a running cluster: the demo's, or that of $AIRFIELD_INVENTORY."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import testinfra
import topology

DAGS = Path(__file__).parents[1] / "dags"


@pytest.fixture(scope="session")
def connect() -> topology.Connect:
    """A connection to a host by its name, as root."""
    return lambda name: testinfra.get_host(f"ssh://{name}?ssh_config={topology.ssh_config()}&sudo=True")


@pytest.fixture(scope="session")
def api() -> topology.Api:
    """Airflow's API."""
    return topology.Api()


@pytest.fixture(scope="session")
def dags(connect: topology.Connect) -> None:
    """The test DAGs and the examples, on every host that needs DAG files."""
    for name in topology.members("airflow_scheduler", "airflow_worker"):
        host = connect(name)
        site_packages = host.check_output("ls -d /opt/airflow/current/lib/python3*/site-packages/airflow")
        for example, folder in topology.EXAMPLES.items():
            host.check_output(f"ln -sf {site_packages}/{folder}/{example}.py /opt/airflow/dags/current/")
        for path in DAGS.glob("*.py"):
            command = ["ssh", "-F", str(topology.ssh_config()), name, f"sudo tee /opt/airflow/dags/current/{path.name}"]
            subprocess.run(command, check=True, input=path.read_bytes(), stdout=subprocess.DEVNULL)
