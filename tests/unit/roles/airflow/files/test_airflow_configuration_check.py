"""What runs before every process that reads airflow.cfg (an unreadable file needs a user other than root: tests/testinfra)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[5] / "roles/airflow/files/airflow_configuration_check.sh"


def check(path: Path) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", str(SCRIPT)]
    environment = {"AIRFLOW_CONFIG": str(path), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ("text", "problem"),
    [(None, "is missing"), ("", "is empty"), ("[core]\n", "names no executor")],
)
def test_process_does_not_start_with_airflows_defaults(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "airflow.cfg"
    if text is not None:
        path.write_text(text)
    run = check(path)
    assert run.returncode == 78
    assert run.stderr.startswith(f"{path} {problem}: Airflow was not started, since it would run with its defaults. Remedy: ")


def test_process_starts_with_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "airflow.cfg"
    path.write_text("[core]\nexecutor = CeleryExecutor\n")
    run = check(path)
    assert (run.returncode, run.stderr) == (0, "")
