"""The helper that kills a run kills it inside the task that it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import topology

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Skip
      ansible.builtin.command: "true"
      when: false
    - name: Work
      # In a session of its own, so that it outlives the run as work on another host does.
      ansible.builtin.shell: >-
        setsid timeout 20 sh -c
        'touch {0}/begun; while ! test -e {0}/run_is_over; do sleep 0.1; done; touch {0}/ended'
    - name: Go on
      ansible.builtin.command: touch {0}/gone_on
"""


@pytest.mark.parametrize("task", [2, "Work"])
def test_run_is_killed_while_the_task_is_at_work(task: int | str, tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK.format(tmp_path))
    # The task waits for the end of this call: were it killed at the task's end, that would never come.
    point, said = topology.kill_at(task, "ansible-playbook", "--inventory", "localhost,", str(playbook))
    assert point == "inside Work"
    assert "TASK [Work]" not in said
    assert not (tmp_path / "ended").exists()
    (tmp_path / "run_is_over").touch()
    topology.wait_for("what was at work to end", lambda: not (tmp_path / "begun").exists() or (tmp_path / "ended").exists(), 10)
    assert not (tmp_path / "gone_on").exists()


def test_task_that_ends_at_once_is_killed_before_the_next(tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK.format(tmp_path))
    assert topology.kill_at(1, "ansible-playbook", "--inventory", "localhost,", str(playbook))[0] == "at the first end of Skip"
    assert not (tmp_path / "begun").exists()


def test_tasks_that_did_something_have_the_numbers_of_all() -> None:
    output = (
        "\nTASK [a] ***\nskipping: [h1]\n\nTASK [b] ***\nok: [h1]\n\nTASK [c] ***\nskipping: [h1]\nchanged: [h2]\n"
        "\nTASK [d] ***\nfatal: [h1]: FAILED!\n"
    )
    assert topology.working(output) == [2, 3]
