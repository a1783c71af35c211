from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow_worker/files/airfield_full_disk.py"


class Airflow:
    """Airflow's module of logs, which makes a log or has no room for its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.full = folder, False
        self.module = ModuleType("airflow.sdk.log")
        vars(self.module)["init_log_file"] = self.make

    def make(self, path: str) -> Path:
        if self.full:
            raise OSError(28, "No space left on device")
        return self.folder / path

    def open(self, path: str) -> Any:
        """As a supervisor does it."""
        return vars(self.module)["init_log_file"](path).open("ab")


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    airflow, sdk = Airflow(tmp_path), ModuleType("airflow.sdk")
    vars(sdk)["log"] = airflow.module
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    spec = importlib.util.spec_from_file_location("airfield_full_disk", FILE)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return airflow


def test_log_is_appended_to_and_at_once(airflow: Airflow, tmp_path: Path) -> None:
    (tmp_path / "1.log").write_bytes(b"before\n")
    with airflow.open("1.log") as log:
        # By which Airflow finds what to upload.
        assert log.name == f"{tmp_path}/1.log"
        assert log.write(b"line\n") == 5
        assert (tmp_path / "1.log").read_bytes() == b"before\nline\n"


def test_line_without_room_is_dropped(airflow: Airflow, tmp_path: Path) -> None:
    # Every write to it ends in "No space left on device".
    (tmp_path / "1.log").symlink_to("/dev/full")
    log = airflow.open("1.log")
    assert log.write(b"line\n") == 5
    log.flush()
    log.close()


def test_task_without_room_for_a_file_has_no_log(airflow: Airflow, capsys: pytest.CaptureFixture[str]) -> None:
    airflow.full = True
    with airflow.open("1.log") as log:
        assert log.write(b"line\n") == 5
    assert "A task has no log: [Errno 28] No space left on device" in capsys.readouterr().out
