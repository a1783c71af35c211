"""Fixtures for tests on a running cluster: the demo's, or that of $AIRFIELD_INVENTORY."""

from __future__ import annotations

import pytest
import testinfra
import topology


@pytest.fixture(scope="session")
def connect() -> topology.Connect:
    """A connection to a host by its name, as root."""
    return lambda name: testinfra.get_host(f"ssh://{name}?ssh_config={topology.ssh_config()}&sudo=True")


@pytest.fixture(scope="session")
def api() -> topology.Api:
    """Airflow's API."""
    return topology.Api()


@pytest.fixture(scope="session")
def dags() -> None:
    """The test DAGs and the examples, on every host that needs DAG files."""
    run = topology.deploy()
    assert run.returncode == 0, run.stdout[-3000:]
