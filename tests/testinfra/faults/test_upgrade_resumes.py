"""An upgrade that fails while it empties the cluster leaves it at work."""

from __future__ import annotations

from pathlib import Path

import topology

# The tasks of upgrade.yml at that point, with what makes the wait for running tasks fail.
PLAYBOOK = """
- hosts: airflow
  gather_facts: false
  become: true
  any_errors_fatal: true
  vars:
    __airflow_upgrade_state: prepared
    __airflow_upgrade_from: "{version}"
    airflow_worker_drain_timeout: "{{{{ nobody_has_set_this }}}}"
  tasks:
    - ansible.builtin.import_role: {{name: airfield.metal.airflow, tasks_from: look}}
    - block:
        - ansible.builtin.import_role: {{name: airfield.metal.airflow_upgrade, tasks_from: quiesce}}
          when: inventory_hostname in groups['airflow_scheduler']
      rescue:
        - ansible.builtin.import_role: {{name: airfield.metal.airflow_upgrade, tasks_from: resume}}
"""


def test_schedulers_run_again_where_the_wait_for_tasks_failed(connect: topology.Connect, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAYBOOK.format(version=topology.version()))
    run = topology.run("ansible-playbook", "--inventory", str(topology.INVENTORY), str(tmp_path / "play.yml"), check=False)
    assert run.returncode != 0
    said = " ".join((run.stdout + run.stderr).split())
    assert "Quiesce | Stop the scheduler" in said
    assert f"Nothing was changed, and Airflow {topology.version()} runs again on the hosts that answer" in said
    for name in topology.members("airflow_scheduler"):
        assert connect(name).service("airflow-scheduler").is_running


def test_playbook_starts_again_what_it_stopped() -> None:
    text = (topology.ROOT / "playbooks/upgrade.yml").read_text(encoding="utf-8")
    block, found, rescue = text.partition("tasks_from: stop\n")[0], "rescue:" in text, text.partition("rescue:")[2]
    assert found
    assert "tasks_from: quiesce" in block
    assert "tasks_from: resume" in rescue
