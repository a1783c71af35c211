"""Tell of a unit that has ended by itself: `ExecStopPost=` of Airflow's units, whose names systemd gives."""

from __future__ import annotations

import os
import sys
import uuid

from airfield_slack import outbox

# How a unit that a timer starts ends while the same is wrong as the last time.
TOLD_BEFORE = "75"


def main() -> None:
    """Leave an alert, unless the unit has ended as it should or has told before what is wrong."""
    result = os.environ.get("SERVICE_RESULT", "success")
    if result == "success" or os.environ.get("EXIT_STATUS") == TOLD_BEFORE:
        return
    # exit-code, signal, core-dump, watchdog, timeout, oom-kill: systemd.exec(5).
    code, status = os.environ.get("EXIT_CODE", ""), os.environ.get("EXIT_STATUS", "")
    alert = {"id": str(uuid.uuid4()), "kind": "unit", "channel": "", "state": "failed", "what": f"Unit {sys.argv[1]}"}
    outbox.put({**alert, "reason": f"It ended ({result}: {code} {status}). Its journal says more: journalctl -u {sys.argv[1]}"})


if __name__ == "__main__":
    main()
