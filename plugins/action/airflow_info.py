"""Action plugin of the airflow_info module: adds how far the host's clock is from the controller's."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


def clock_offset(before: float, host: float, after: float) -> float:
    """Seconds that a host's clock is certainly ahead (negative: behind) of one that showed `before` and `after`.

    The host read its clock at an unknown moment between the two, so only what lies outside them is an offset.
    """
    if host > after:
        return host - after
    if host < before:
        return host - before
    return 0.0


class ActionModule(ActionBase):
    """Measure the clock over the open connection, where an answer takes milliseconds, then run the module."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(self._execute_module(task_vars=task_vars))
        # After the module: the connection is open now, and opening it is no part of the measurement.
        before = time.time()
        answer = self._low_level_execute_command("date +%s.%N", sudoable=False)
        after = time.time()
        try:
            result["clock_offset"] = clock_offset(before, float(answer["stdout"].strip().splitlines()[-1]), after)
        except (ValueError, IndexError):
            result.update(failed=True, msg=f"The host's clock could not be read: {answer.get('stderr', '').strip()}")
        return result
