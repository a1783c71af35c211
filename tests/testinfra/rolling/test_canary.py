"""A new worker that is not like the others is refused, stopped and named, and does not keep another one out."""

from __future__ import annotations

import re

import pytest
import topology
from testinfra.host import Host

DROP_IN = "/etc/systemd/system/airflow-worker.service.d/wrong.conf"
OTHER = "/opt/airflow/releases/other"
# A copy of the release under another name, as a host has it that was changed by hand.
OTHER_RELEASE = """
cp -a --reflink=auto "$(readlink -f /opt/airflow/current)" {other}
install -D /dev/stdin {drop_in} <<'END'
[Service]
ExecStart=
ExecStart={other}/bin/python {other}/bin/airflow celery worker --queues ${{AIRFIELD_WORKER_QUEUES}}
END
"""
OTHER_SECRET = """
install -D -m 600 /dev/stdin /root/wrong.env <<'END'
AIRFLOW__API__SECRET_KEY=wrong-but-long-enough-to-pass-for-a-secret-key
END
install -D /dev/stdin {drop_in} <<'END'
[Service]
EnvironmentFile=/root/wrong.env
END
"""
FAKETIME = {"LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "FAKETIME": "+1h"}


def add(addition: topology.Addition, workers: str, **variables: object) -> tuple[int, str]:
    """Add workers of which worker3 has these variables; returns the status and all that was said, in one line."""
    path = addition("worker3", **variables)
    if "worker4" in workers:
        path = addition("worker4")
    inventories = ["--inventory", str(topology.INVENTORY), "--inventory", str(path)]
    run = topology.run("ansible-playbook", *inventories, "playbooks/add_workers.yml", "-e", f"workers={workers}", check=False)
    return run.returncode, " ".join(run.stdout.split())


def state(host: Host) -> tuple[str, str]:
    """Whether the worker runs, and what it may consume."""
    queues = host.run("cat /var/lib/airfield/worker-queues.env").stdout
    return host.run("systemctl is-active airflow-worker").stdout.strip(), "".join(re.findall('="(.*)"', queues))


@pytest.mark.parametrize(
    ("variables", "broken_by_hand", "reason"),
    [
        ({"airflow_system_packages": ["libfaketime"], "airflow_worker_environment": FAKETIME}, "", "clock is .* s ahead"),
        ({}, OTHER_RELEASE, "it runs release other, the cluster has 3"),
        ({}, OTHER_SECRET, "its secret airflow_api_secret_key is not the cluster's"),
        ({"airflow_logs": {"bucket": "nowhere"}}, "", "Logs cannot be kept in s3://nowhere"),
    ],
    ids=["clock", "release", "secret", "bucket"],
)
def test_worker_that_is_wrong_is_refused_and_named(
    addition: topology.Addition, connect: topology.Connect, variables: dict[str, object], broken_by_hand: str, reason: str
) -> None:
    addition("worker3")
    host = connect("worker3")
    if broken_by_hand:
        # What was broken by hand was right once.
        assert add(addition, "worker3")[0] == 0
        host.check_output(
            broken_by_hand.format(drop_in=DROP_IN, other=OTHER) + "systemctl daemon-reload; systemctl stop airflow-worker"
        )
        host.check_output("echo 'AIRFIELD_WORKER_QUEUES=\"canary.worker3\"' >/var/lib/airfield/worker-queues.env")
    status, said = add(addition, "worker3", **variables)
    assert status != 0
    assert re.search(f"worker3 was refused as a worker and stopped.*{reason}", said), said[-3000:]
    assert state(host) == ("inactive", "canary.worker3")
    host.check_output(f"rm -rf {DROP_IN}; systemctl daemon-reload")
    # Put right, it joins without anything special.
    assert add(addition, "worker3")[0] == 0
    assert state(host) == ("active", "canary.worker3,default,worker3")


def test_wrong_worker_does_not_keep_another_one_out(addition: topology.Addition, connect: topology.Connect) -> None:
    status, said = add(addition, "worker3,worker4", airflow_api_secret_key="another-one-that-is-long-enough-for-a-key")
    assert status != 0
    assert "worker3: secret airflow_api_secret_key differs from that of" in said
    assert connect("worker3").run("systemctl is-active airflow-worker").rc != 0
    assert state(connect("worker4")) == ("active", "canary.worker4,default,worker4")
