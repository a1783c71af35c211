from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[5] / "roles/airflow_backup/files/airfield_database_clean.py"
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp()
# Of `airflow db clean` 3.3.2.
OUTPUT = """
Performing dry run for db cleanup.
Data prior to 2026-10-17T08:00:00+00:00 would be purged from tables ['dag_run', 'job'] with the following config:
table     | recency_column

Performing dry run for table dag_run
Checking table dag_run
Found 12 rows meeting deletion criteria.

Checking table job
Found 0 rows meeting deletion criteria.
Found 5 rows meeting deletion criteria.
"""


@pytest.fixture(scope="module")
def clean() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("airfield_database_clean", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Airflow:
    """Airflow's command, and what is done without it."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.status = 0
        self.version = "3.3.2"
        self.output = OUTPUT
        self.others: list[tuple[Any, ...]] = []

    def run(self, command: list[str], **rest: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        return subprocess.CompletedProcess(command, self.status, stdout=self.output)

    def drop(self, *arguments: Any) -> list[str]:
        self.others.append(arguments)
        return ["_airflow_deleted__job__20261201000000"]

    def results(self, *arguments: Any) -> dict[str, int]:
        self.others.append(arguments)
        return {"celery_taskmeta": 7}


@pytest.fixture
def airflow(clean: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    fake = Airflow()
    monkeypatch.setattr(clean.subprocess, "run", fake.run)
    monkeypatch.setattr(clean, "version", lambda package: fake.version)
    monkeypatch.setattr(clean, "drop_leftovers", fake.drop)
    monkeypatch.setattr(clean, "clean_results", fake.results)
    monkeypatch.setitem(os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "url")
    monkeypatch.setitem(os.environ, "AIRFLOW__CELERY__RESULT_BACKEND", "db+url")
    return fake


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """That of a good backup, two hours ago."""
    path = tmp_path / "backup.json"
    path.write_text(json.dumps({"last": {"time": NOW - 7200, "tested": None}, "error": ""}))
    return path


def arguments(report: Path, dry: bool = False) -> argparse.Namespace:
    return argparse.Namespace(days=90, batch_size=500, dry_run=dry, backup=report, backup_hours=24)


def test_old_rows_go_and_are_counted(clean: ModuleType, airflow: Airflow, report: Path) -> None:
    found = clean.run(arguments(report), NOW)
    (command,) = airflow.calls
    assert command[:3] == ["airflow", "db", "clean"]
    assert {"--yes", "--skip-archive", "--error-on-cleanup-failure"} <= set(command)
    assert command[5:9] == ["--clean-before-timestamp", "2026-10-17T08:00:00+00:00", "--batch-size", "500"]
    assert found["rows"] == {"celery_taskmeta": 7, "dag_run": 12}
    assert (found["before"], found["dry_run"]) == ("2026-10-17T08:00:00+00:00", False)
    assert [call[-1] for call in airflow.others] == [False, False]
    # Only what the backup has.
    assert airflow.others[0][1] == NOW - 7200


def test_dry_run_is_one_throughout(clean: ModuleType, airflow: Airflow, report: Path) -> None:
    assert clean.run(arguments(report, dry=True), NOW)["dry_run"]
    assert airflow.calls[0][-1] == "--dry-run"
    assert [call[-1] for call in airflow.others] == [True, True]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (None, "there is no backup"),
        ({"time": NOW - 30 * 3600, "tested": True}, "the last backup is 30 hours old, and may be 24"),
        ({"time": NOW - 3600, "tested": False}, "the last backup has failed its test"),
    ],
)
def test_nothing_goes_without_a_good_backup(
    clean: ModuleType, airflow: Airflow, report: Path, last: dict[str, Any] | None, reason: str
) -> None:
    report.write_text(json.dumps({"last": last} if last else {"error": "x"}))
    with pytest.raises(clean.CleanError, match=f"Nothing was removed, since {reason}"):
        clean.run(arguments(report), NOW)
    report.unlink()
    with pytest.raises(clean.CleanError, match="Nothing was removed, since there is no backup"):
        clean.run(arguments(report), NOW)
    assert airflow.calls + airflow.others == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b"[" * 99_999,
        bytes(range(256)),
        b'{"last": []}',
        b'{"last": {}}',
        b'{"last": {"time": "x"}}',
    ],
    ids=lambda content: content[:20],
)
def test_nothing_goes_by_a_report_that_a_power_cut_has_spoilt(
    clean: ModuleType, airflow: Airflow, report: Path, content: bytes
) -> None:
    report.write_bytes(content)
    with pytest.raises(clean.CleanError, match=r"Nothing was removed, since .*backup.json is broken. Remedy: `systemctl start"):
        clean.run(arguments(report), NOW)
    assert airflow.calls + airflow.others == []


def test_nothing_goes_by_a_report_that_cannot_be_read(clean: ModuleType, airflow: Airflow, report: Path) -> None:
    report.unlink()
    report.mkdir()
    with pytest.raises(clean.CleanError, match=r"Nothing was removed, since .*backup.json cannot be read: Is a directory"):
        clean.run(arguments(report), NOW)


def test_full_disk_is_told_and_leaves_the_last_report(
    clean: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "database-clean.json"
    clean.write_file(place, {"time": 1})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(clean.os, "fsync", full)
    monkeypatch.setattr(clean, "run", lambda arguments, now: {"time": 2})
    monkeypatch.setattr(sys, "argv", ["x", "--days", "90", "--batch-size", "5", "--report", str(place)])
    with pytest.raises(SystemExit, match=r"rows were removed, but .*database-clean.json could not be written: No space left"):
        clean.main()
    assert json.loads(place.read_text()) == {"time": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["database-clean.json"]


def test_failure_of_airflow_is_one(clean: ModuleType, airflow: Airflow, report: Path) -> None:
    airflow.status = 1
    with pytest.raises(clean.CleanError, match=r"could not remove all of it: (.|\n)*Found 5 rows"):
        clean.run(arguments(report), NOW)


def test_airflow_2_has_less_to_choose_and_says_a_failure_alone(clean: ModuleType, airflow: Airflow, report: Path) -> None:
    airflow.version = "2.11.2"
    assert clean.run(arguments(report), NOW)["rows"] == {"celery_taskmeta": 7, "dag_run": 12}
    (command,) = airflow.calls
    assert command[3:] == ["--yes", "--skip-archive", "--clean-before-timestamp", "2026-10-17T08:00:00+00:00"]
    airflow.output = "WARNING - Encountered error when attempting to clean table 'job'. \n"
    with pytest.raises(clean.CleanError, match=r"could not remove all of it: (.|\n)*'job'"):
        clean.run(arguments(report), NOW)


def test_only_archive_tables_that_the_backup_has_are_dropped(clean: ModuleType) -> None:
    tables = [
        "_airflow_deleted__task_instance__20270101000000",
        "_airflow_deleted__job__20270101000000__b12",
        "_airflow_deleted__job__20270115080000",
        "_airflow_deleted__x",
        "job",
        "my_airflow_deleted__job__20270101000000",
    ]
    assert clean.leftovers(tables, NOW - 1) == sorted(tables[:2])


def test_report_is_written_unless_it_was_a_dry_run(
    clean: ModuleType, airflow: Airflow, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    place = tmp_path / "database-clean.json"
    monkeypatch.setattr(clean.time, "time", lambda: NOW)
    words = ["x", "--days", "90", "--batch-size", "5", "--backup", str(report), "--report", str(place)]
    monkeypatch.setattr(sys, "argv", [*words, "--dry-run"])
    clean.main()
    assert json.loads(capsys.readouterr().out)["rows"]["dag_run"] == 12
    assert not place.exists()
    monkeypatch.setattr(sys, "argv", words)
    clean.main()
    assert json.loads(place.read_text())["rows"]["dag_run"] == 12
    report.unlink()
    with pytest.raises(SystemExit, match="there is no backup"):
        clean.main()
