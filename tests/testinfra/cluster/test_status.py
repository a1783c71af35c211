"""status.yml has no false alarm, also after a restart of all hosts: tests/testinfra/faults has the true ones."""

from __future__ import annotations

import json

import topology


def test_status_finds_nothing_but_a_backup_that_was_never_made() -> None:
    given = ("--inventory", str(topology.INVENTORY), "--extra-vars", "airflow_status_format=json")
    run = topology.run("ansible-playbook", *given, "playbooks/status.yml", check=False)
    (line,) = (line for line in run.stdout.splitlines() if line.startswith("{"))
    document = json.loads(line)
    assert all(row["answers"] for row in document["hosts"])
    found = [finding for finding in document["findings"] if finding["kind"] != "backup-missing"]
    assert found == []
    assert run.returncode == (2 if document["findings"] else 0)
