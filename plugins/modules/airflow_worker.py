#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_worker
short_description: Give queues to a Celery worker, or take them from it and wait until it is idle
version_added: "0.1.0"
description:
  - Which queues a worker consumes stands in a file that its unit reads at each start, so that a worker which was fenced stays
    so over a restart or a reboot. The module changes the file and tells the running worker through the broker.
  - A fenced worker consumes only O(canary_queue), where nothing but Airfield puts a task.
  - Runs with the release's Python (set C(ansible_python_interpreter)), which has Celery.
options:
  state:
    description:
      - V(consuming) gives the worker O(queues), takes others from it, and waits until it says that it consumes them. A worker
        that merely answers a ping may be deaf.
      - V(fenced) writes the file for a worker that was never started. One that has a file keeps it.
      - V(drained) takes all queues but O(canary_queue) and waits until the worker has neither running nor reserved tasks.
        When O(timeout) is over it gives the queues back and fails, unless O(kill) is set.
      - V(gone) fails when a worker of this O(node), or one by another name that has one of O(queues) or O(canary_queue), still
        answers. Runs on any host that reaches the broker.
    type: str
    choices: [consuming, fenced, drained, gone]
    required: true
  broker_url:
    description: URL of the broker.
    type: str
  transport_options:
    description: Celery's broker transport options.
    type: dict
    default: {}
  node:
    description: Celery's name of the worker. By default that of the host on which the module runs.
    type: str
  queues:
    description: Queues for tasks that the worker has when it is not fenced.
    type: list
    elements: str
    default: []
  canary_queue:
    description: The worker's private queue.
    type: str
  others:
    description: For V(drained), how many other workers must consume a queue before this one may leave it. Queues that it has
      left already do not count.
    type: dict
    default: {}
  kill:
    description: For V(drained), end the worker with its tasks (SIGKILL) when O(timeout) is over. Their tries are lost, Airflow
      retries them as their DAG says.
    type: bool
    default: false
  path:
    description: The file, in the form of systemd's C(EnvironmentFile=). Its one variable is E(AIRFIELD_WORKER_QUEUES).
    type: path
    default: /var/lib/airfield/worker-queues.env
  timeout:
    description: Seconds to wait.
    type: int
    default: 120
attributes:
  check_mode:
    support: full
    description: Compares the file, and asks nobody.
  diff_mode:
    support: full
    description: Shows the queues.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Drain the worker
  airfield.metal.airflow_worker:
    state: drained
    broker_url: "{{ airflow_broker_url }}"
    queues: [default, "{{ inventory_hostname }}"]
    canary_queue: "canary.{{ inventory_hostname }}"
    others: {default: 1}
    timeout: 600
  vars:
    ansible_python_interpreter: /opt/airflow/current/bin/python

- name: Give it its queues again
  airfield.metal.airflow_worker:
    state: consuming
    broker_url: "{{ airflow_broker_url }}"
    queues: [default, "{{ inventory_hostname }}"]
    canary_queue: "canary.{{ inventory_hostname }}"
  vars:
    ansible_python_interpreter: /opt/airflow/current/bin/python
"""

RETURN = r"""
node:
  description: Celery's name of the worker.
  returned: always
  type: str
  sample: celery@worker1
queues:
  description: Queues that it consumes.
  returned: with O(state=consuming) and O(state=drained)
  type: list
  elements: str
killed:
  description: Whether the worker was killed with its tasks.
  returned: with O(state=drained)
  type: bool
"""

import socket
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.airfield.metal.plugins.module_utils import environment_file, systemd
from ansible_collections.airfield.metal.plugins.module_utils.files import ensure_file, read_text, text_diff

try:
    from celery import Celery
except ImportError:
    CELERY_ERROR = traceback.format_exc()
else:
    CELERY_ERROR = ""

UNIT = "airflow-worker.service"
VARIABLE = "AIRFIELD_WORKER_QUEUES"
BROKER = "the broker: "
BRING_BACK = "Remedy: bring the broker back."
# Looks in a row after which a worker that never answers is taken for one that takes no tasks.
SILENT_LOOKS = 3


class Worker:
    """One worker, as its file, the broker and systemd know it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.node = self.params["node"] or "celery@" + socket.gethostname()
        self.result: dict[str, Any] = {"changed": False, "node": self.node}
        if self.params["broker_url"]:
            self.app = Celery(broker=self.params["broker_url"])
            self.app.conf.broker_transport_options = self.params["transport_options"]

    # The file ----------------------------------------------------------------------------------------------------------

    def filed(self) -> list[str]:
        """Queues that the worker has at its next start."""
        return [name for name in environment_file.parse(read_text(self.params["path"])).get(VARIABLE, "").split(",") if name]

    def file(self, queues: Iterable[str]) -> None:
        """Write the queues, the private one always among them."""
        content = environment_file.render({VARIABLE: ",".join(sorted({*queues, self.params["canary_queue"]}))})
        self.result["diff"] = text_diff(self.params["path"], read_text(self.params["path"]), content)
        self.result["changed"] |= ensure_file(self.module, self.params["path"], content)

    # The broker --------------------------------------------------------------------------------------------------------

    def ask(self, question: str, everyone: bool = False) -> tuple[dict[str, Any], str]:
        """Answers to one of Celery's inspections by node, and what kept this worker from answering where it did not."""
        try:
            inspect = self.app.control.inspect(destination=None if everyone else [self.node], timeout=2)
            replies = getattr(inspect, question)() or {}
        except Exception as error:  # redis, kombu and socket errors share no base
            return {}, f"{BROKER}{error}"
        return replies, "" if self.node in replies else f"no answer from {self.node}"

    def consumed(self) -> tuple[list[str], str]:
        """Queues that the worker consumes at this moment, and what kept it from answering where it did not."""
        replies, problem = self.ask("active_queues")
        return sorted(queue["name"] for queue in replies.get(self.node, [])), problem

    def tell(self, queues: Iterable[str], consumed: Iterable[str]) -> None:
        """Tell the running worker which of the queues to take up and which to leave."""
        wanted = {*queues, self.params["canary_queue"]}
        with suppress(Exception):  # the next look says what became of it
            for queue in sorted(wanted - set(consumed)):
                self.app.control.add_consumer(queue, destination=[self.node], reply=True, timeout=2)
            for queue in sorted(set(consumed) - wanted):
                self.app.control.cancel_consumer(queue, destination=[self.node], reply=True, timeout=2)

    def tasks(self) -> tuple[int, str]:
        """Number of tasks that the worker has taken and not ended, and what is known of them, for a message."""
        counts = {}
        for question in ("active", "reserved"):
            replies, problem = self.ask(question)
            if problem:
                return self.processes(), problem
            counts[question] = len(replies[self.node])
        return sum(counts.values()), "{active} running, {reserved} reserved".format(**counts)

    def processes(self) -> int:
        """Number of tasks by the worker's processes: what is left to see of a worker that does not answer."""
        group = systemd.show(self.module, UNIT, ("ControlGroup",)).get("ControlGroup", "")
        # Not "airflow supervisor: ...": a process of the pool keeps that name when its task has ended.
        return sum(title.startswith("airflow worker -- ") for title in systemd.process_titles(group)) if group else 0

    # The states --------------------------------------------------------------------------------------------------------

    def wait_until_consuming(self, queues: Iterable[str]) -> None:
        """Wait until the worker says that it consumes exactly these queues, telling it as often as it takes."""
        wanted = sorted({*queues, self.params["canary_queue"]})
        deadline = time.monotonic() + self.params["timeout"]
        while True:
            consumed, problem = self.consumed()
            self.result["queues"] = consumed
            if consumed == wanted and not problem:
                return
            if time.monotonic() > deadline:
                break
            if not problem:
                self.tell(queues, consumed)
                self.result["changed"] = True
            time.sleep(0.5)
        self.fail(
            "The worker {} does not consume {} after {} s ({}). Remedy: read its journal below.".format(
                self.node,
                ", ".join(sorted(set(wanted) - set(consumed))) or "only " + ", ".join(wanted),
                self.params["timeout"],
                problem or "it consumes " + (", ".join(consumed) or "nothing"),
            )
        )

    def consuming(self) -> None:
        self.file(self.params["queues"])
        if not self.module.check_mode:
            self.wait_until_consuming(self.params["queues"])

    def fenced(self) -> None:
        if not self.filed():
            self.file([])

    def drained(self) -> None:
        self.result.update(queues=[], killed=False)
        if self.params["others"] and not self.module.check_mode:
            self.see_that_others_can_take_over()
        self.file([])
        if self.module.check_mode:
            return
        deadline = time.monotonic() + self.params["timeout"]
        silent = 0
        while True:
            # One that is stopping has tasks to end; one that is down, or is coming up with the new file, has none.
            if systemd.show(self.module, UNIT)["ActiveState"] not in ("active", "reloading", "deactivating"):
                return
            consumed, problem = self.consumed()
            self.tell([], consumed)
            number, known = self.tasks()
            silent = silent + 1 if problem else 0
            # The queues are looked at first: what came from them before they were left is counted after. A worker that is
            # only slow to answer is asked again.
            if number == 0 and (silent >= SILENT_LOOKS or consumed == [self.params["canary_queue"]]):
                self.result["queues"] = consumed
                return
            if time.monotonic() > deadline:
                break
            time.sleep(1)
        if self.params["kill"]:
            systemd.systemctl(self.module, "kill", "--signal=KILL", UNIT)
            self.result["killed"] = True
            return
        self.file(self.params["queues"])
        self.tell(self.params["queues"], consumed)
        self.fail(
            f"The worker {self.node} still has tasks after {self.params['timeout']} s ({known}). It has its queues back and "
            "goes on working. Remedy: run this again when they have ended, raise airflow_worker_drain_timeout, or give "
            "-e airflow_worker_kill=true, which ends them.",
        )

    def see_that_others_can_take_over(self) -> None:
        replies, problem = self.ask("active_queues", everyone=True)
        if problem.startswith(BROKER):
            self.fail(f"The worker {self.node} was not drained: nobody can say who else works ({problem}). {BRING_BACK}")
        mine = {row["name"] for row in replies.pop(self.node, [])}
        for queue, needed in sorted(self.params["others"].items()):
            if queue not in mine:
                continue  # it has left it already, in a run that was interrupted
            there = sorted(node for node, queues in replies.items() if queue in [row["name"] for row in queues])
            if len(there) < int(needed):
                self.fail(
                    "The worker {} was not drained: without it {} would consume the queue {}, {} must "
                    "(airflow_worker_minimum_percent). Remedy: bring the other workers back, or lower it.".format(
                        self.node, " and ".join(there) or "nobody", queue, needed
                    )
                )

    def gone(self) -> None:
        dummy, problem = self.ask("ping")
        if not problem:
            self.fail(
                f"The worker {self.node} answers through the broker, so it is not gone. Remedy: remove it in the usual way."
            )
        own = {*self.params["queues"], self.params["canary_queue"]}
        replies = {} if problem.startswith(BROKER) else self.ask("active_queues", everyone=True)[0]
        for node, queues in sorted(replies.items()):
            if own & {row["name"] for row in queues}:
                self.fail(
                    f"The worker {self.node} is not gone: as {node} it consumes its own queue. Remedy: remove it in the usual "
                    f"way."
                )
        if problem.startswith(BROKER):
            self.fail(f"Nobody can say whether the worker {self.node} is gone ({problem}). {BRING_BACK}")

    def fail(self, message: str) -> None:
        journal = systemd.journal_tail(self.module, UNIT, secrets=[self.params["broker_url"]])
        self.module.fail_json(msg=message, journal=journal.splitlines(), **self.result)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["consuming", "fenced", "drained", "gone"], "required": True},
            "broker_url": {"type": "str", "no_log": True},
            "transport_options": {"type": "dict", "default": {}},
            "node": {"type": "str"},
            "queues": {"type": "list", "elements": "str", "default": []},
            "canary_queue": {"type": "str"},
            "others": {"type": "dict", "default": {}},
            "kill": {"type": "bool", "default": False},
            "path": {"type": "path", "default": "/var/lib/airfield/worker-queues.env"},
            "timeout": {"type": "int", "default": 120},
        },
        required_if=[
            ("state", "consuming", ("broker_url", "canary_queue")),
            ("state", "fenced", ("canary_queue",)),
            ("state", "drained", ("broker_url", "canary_queue")),
            ("state", "gone", ("broker_url", "node")),
        ],
        supports_check_mode=True,
    )
    if CELERY_ERROR and module.params["broker_url"]:
        module.fail_json(msg=missing_required_lib("celery"), exception=CELERY_ERROR)
    worker = Worker(module)
    getattr(worker, module.params["state"])()
    module.exit_json(**worker.result)


if __name__ == "__main__":
    main()
