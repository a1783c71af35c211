"""A host that only has services is watched as Airflow's hosts are."""

from __future__ import annotations

import json

import topology
from testinfra.host import Host

SERVICES = topology.members("redis", "postgresql", "mysql", "seaweedfs")
ONLY = [name for name in SERVICES if name not in topology.members("airflow")]
testinfra_hosts = [f"ssh://{name}?ssh_config={topology.ssh_config()}&sudo=True" for name in ONLY]


def test_journal_has_a_limit(host: Host) -> None:
    limit = topology.variable("airflow_journal_max_mb", 1024)
    assert host.file("/etc/systemd/journald.conf.d/airfield.conf").contains(f"^SystemMaxUse={limit}M$")


def test_timer_looks_at_the_host(host: Host) -> None:
    timer = host.service("airfield-health.timer")
    assert timer.is_running
    assert timer.is_enabled
    host.check_output("rm -f /var/lib/airfield/health.json; systemctl start airfield-health")
    left = host.file("/var/lib/airfield/health.json")
    assert (left.user, left.mode) == ("root", 0o600)
    found = json.loads(left.content_string)
    assert found["journal_limit"] is True
    assert "/" in [disk["path"] for disk in found["disks"]]
    assert not any(disk.get("read_only") for disk in found["disks"])
    assert [name for name, unit in found["units"].items() if unit["active"] == "failed"] == []
