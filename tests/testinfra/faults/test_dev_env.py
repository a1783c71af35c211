"""A DAG author's environment has the packages of the cluster's release, each in the same version."""

from __future__ import annotations

import topology

# A login by LDAP is the web server's alone, and needs a compiler. Debian's Python is too old for its own asyncio.timeout.
LEFT_OUT = {"python-ldap", "pyasn1", "pyasn1-modules", "async-timeout"}


def packages(frozen: str) -> set[str]:
    """What `pip freeze` lists; of the package of ours, not from where it was built."""
    return {line.partition(" @ ")[0] for line in frozen.splitlines()}


def test_dev_env_has_the_packages_of_the_cluster(connect: topology.Connect) -> None:
    topology.run("make", "dev-env", f"INVENTORY={topology.INVENTORY}")
    here = packages(topology.run("uv", "pip", "freeze", "--python", ".dev-env/bin/python").stdout)
    there = packages(connect(topology.members("airflow_worker")[0]).check_output("cat /opt/airflow/current/requirements.txt"))
    assert "apache-airflow==" + topology.variable("airflow_version", "3.3.2") in here
    assert here <= there
    assert {package.partition("==")[0] for package in there - here} <= LEFT_OUT
