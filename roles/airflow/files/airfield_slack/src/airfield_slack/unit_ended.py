"""Tell of a unit that has ended by itself: `ExecStopPost=` of Airflow's units, whose names systemd gives."""

from __future__ import annotations

import os
import sys
import uuid

from airfield_slack import outbox


def main() -> None:
    """Leave an alert, unless the unit has ended as it should."""
    result = os.environ.get("SERVICE_RESULT", "success")
    if result == "success":
        return
    # exit-code, signal, core-dump, watchdog, timeout, oom-kill: systemd.exec(5).
    code, status = os.environ.get("EXIT_CODE", ""), os.environ.get("EXIT_STATUS", "")
    alert = {"id": str(uuid.uuid4()), "kind": "unit", "channel": "", "state": "failed", "what": f"Unit {sys.argv[1]}"}
    outbox.put({**alert, "reason": f"It ended ({result}: {code} {status}). Its journal says more: journalctl -u {sys.argv[1]}"})


if __name__ == "__main__":
    main()
