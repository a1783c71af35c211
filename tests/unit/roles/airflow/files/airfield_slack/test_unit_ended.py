"""What systemd tells of a unit that has ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from airfield_slack import outbox, unit_ended


@pytest.mark.parametrize(
    ("result", "status", "alerts"),
    [("success", "0", 0), (None, "0", 0), ("oom-kill", "KILL", 1), ("exit-code", "1", 1), ("exit-code", "75", 0)],
)
def test_only_what_ended_by_itself_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str | None, status: str, alerts: int
) -> None:
    monkeypatch.setenv("AIRFIELD_SLACK_OUTBOX", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["unit_ended", "airflow-worker.service"])
    for name, value in {"SERVICE_RESULT": result, "EXIT_CODE": "killed", "EXIT_STATUS": status}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    unit_ended.main()
    found = [json.loads(path.read_text()) for path in outbox.waiting()]
    assert len(found) == alerts
    for alert in found:
        assert (alert["what"], alert["channel"], alert["state"]) == ("Unit airflow-worker.service", "", "failed")
        assert alert["reason"].startswith(f"It ended ({result}: killed {status}).")
