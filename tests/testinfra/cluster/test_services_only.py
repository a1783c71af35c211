"""A host that only has services is watched as Airflow's hosts are, and all of them tell it where there is Slack."""

from __future__ import annotations

import json

import pytest
import topology
from testinfra.host import Host

SERVICES = topology.members("redis", "postgresql", "mysql", "seaweedfs")
ONLY = [name for name in SERVICES if name not in topology.members("airflow")]
testinfra_hosts = [f"ssh://{name}?ssh_config={topology.ssh_config()}&sudo=True" for name in ONLY]

# What a host has published last, as JSON.
PUBLISHED = """
import re, redis, sys
url = re.search('BROKER_URL="(.*)"', open("/etc/airflow/cli.env").read()).group(1)
print(redis.Redis.from_url(url).get("airfield:health:" + sys.argv[1]).decode())
"""


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


@pytest.mark.where("airflow_slack")
@pytest.mark.parametrize("name", [*topology.members("airflow"), *ONLY])
def test_state_of_every_host_is_published(connect: topology.Connect, name: str) -> None:
    connect(name).check_output("systemctl start airfield-health")
    scheduler = connect(topology.members("airflow_scheduler")[0])
    found = json.loads(topology.python(scheduler, PUBLISHED, name).stdout)
    assert found["error"] == ""
    assert found["hostname"] == connect(name).check_output("hostname")
