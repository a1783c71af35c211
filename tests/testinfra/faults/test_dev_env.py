"""A DAG author's environment has the packages of the cluster's release, each in the same version, and no others."""

from __future__ import annotations

import topology


def test_dev_env_has_the_packages_of_the_cluster(connect: topology.Connect) -> None:
    topology.run("make", "dev-env", f"INVENTORY={topology.INVENTORY}")
    here = topology.run("uv", "pip", "freeze", "--python", ".dev-env/bin/python").stdout.split()
    there = connect(topology.members("airflow_worker")[0]).check_output("cat /opt/airflow/current/requirements.txt").split()
    assert "apache-airflow==" + topology.variable("airflow_version", "3.3.2") in here
    assert here == there
