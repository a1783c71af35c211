"""Fixtures for tests on a running cluster: the demo's, or that of $AIRFIELD_INVENTORY."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import testinfra
import topology
from ledger import Ledger, Load

FAILURES = topology.ROOT / "build/failures.txt"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what failed for `make`, which says it once more at its end: of a long log one often has that alone."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        # What a playbook says last is why it failed.
        message = " ".join((crash.message if crash else report.longreprtext).split())[-400:]
        FAILURES.parent.mkdir(exist_ok=True)
        if FAILURES.exists() and message in FAILURES.read_text(encoding="utf-8"):
            message = "as before"
        with FAILURES.open("a", encoding="utf-8") as file:
            file.write(f"FAILED {report.nodeid}, {report.when} after {report.duration:.0f} s: {message}\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about hosts that this cluster has none of."""

    def is_for_others(item: pytest.Item) -> bool:
        return any(not topology.members(mark.args[0]) for mark in item.iter_markers("where"))

    config.hook.pytest_deselected(items=[item for item in items if is_for_others(item)])
    items[:] = [item for item in items if not is_for_others(item)]


@pytest.fixture(scope="session")
def connect() -> topology.Connect:
    """A connection to a host by its name, as root."""
    return lambda name: testinfra.get_host(f"ssh://{name}?ssh_config={topology.ssh_config()}&sudo=True")


@pytest.fixture(scope="session")
def api() -> topology.Api:
    """Airflow's API."""
    return topology.connect_api()


@pytest.fixture(scope="session")
def dags() -> None:
    """The test DAGs and the examples, on every host that needs DAG files."""
    run = topology.deploy()
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.fixture
def load(api: topology.Api, dags: None) -> Iterator[Load]:
    """Nothing to do yet; its tasks are short enough for every `make test`."""
    with Ledger() as ledger:
        load = Load(ledger, api, seed=1, conf={"long_seconds": [15, 20]})
        yield load
        load.abandon()
