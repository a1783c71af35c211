"""Kills the run, with all of its processes, inside the task $AIRFIELD_KILL_AT: its name, or its number from 1 on."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: airfield_kill
type: notification
short_description: Kill a run inside one of its tasks
description:
  - Ansible's own output names a task when the first host has ended it, where skipped ones are not shown. This acts when the
    work on the first host has begun, and says on standard error whether any host had ended the task by then.
author:
  - The Airfield developers (@airfield)
"""

# Seconds that the work on the first host gets before everything is killed; what ends earlier is killed at its end.
HEAD_START = 0.2


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "airfield_kill"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.wanted = os.environ["AIRFIELD_KILL_AT"]
        self.task = ""

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self.count += 1
        name = str(task.get_name()).strip()
        hit = self.wanted in (str(self.count), name.split(" : ")[-1])
        self.task = name if hit else ""

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        if self.task:
            threading.Timer(HEAD_START, self.kill, ["inside"]).start()

    def v2_runner_on_ok(self, result: Any) -> None:
        if self.task:
            self.kill("at the first end of")

    v2_runner_on_failed = v2_runner_on_skipped = v2_runner_on_unreachable = v2_runner_on_ok

    def kill(self, where: str) -> None:
        sys.stderr.write(f"killed {where} the task [{self.task}]\n")
        sys.stderr.flush()
        os.killpg(0, signal.SIGKILL)
