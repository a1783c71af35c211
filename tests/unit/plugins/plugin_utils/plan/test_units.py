from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import units

ROLES = Path(__file__).parents[5] / "roles"
NOTHING: dict[str, Any] = {"unit_texts": {}, "calendars": {}, "folders": []}
WELL: dict[str, Any] = {"unit_problems": {}, "calendar_problems": {}, "missing_folders": []}


def test_host_looks_at_what_it_will_run() -> None:
    values = {
        "airflow_worker_unit": {"Nice": 5, "Environment": ["A=b", "C=d"], "PrivateTmp": False},
        "airflow_worker_memory_max": "48G",
        "airflow_worker_cpu_quota": "",
        "airflow_worker_writable_paths": ["/srv", "-/mnt", "relative"],
        "airflow_webserver_unit": {"Nice": 1},
        "airflow_backup_schedule": "daily",
    }
    found = units.probes(values, ["airflow", "airflow_worker"], first_scheduler=False)
    assert found == {
        "unit_texts": {
            "airflow_worker_unit": "[Service]\nEnvironment=A=b\nEnvironment=C=d\nNice=5\nPrivateTmp=false\n",
            "airflow_worker_memory_max": "[Service]\nMemoryMax=48G\n",
        },
        "calendars": {},
        "folders": ["/srv"],
    }
    assert units.probes(values, ["postgresql"], first_scheduler=False) == NOTHING
    assert units.probes(values, ["airflow"], first_scheduler=True)["calendars"] == {"airflow_backup_schedule": "daily"}


@pytest.mark.parametrize("values", [{}, {"airflow_worker_unit": ["x"], "airflow_worker_writable_paths": "/srv"}])
def test_values_of_another_kind_are_told_elsewhere(values: dict[str, Any]) -> None:
    assert units.probes(values, ["airflow", "airflow_worker"], first_scheduler=True) == NOTHING


def test_every_units_variable_is_known() -> None:
    documented = set()
    for path in ROLES.glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            documented |= {name for name in entry["options"] if re.fullmatch("airflow_[a-z_]+_(unit|schedule)", name)}
    assert documented == {*units.UNITS, *units.CALENDARS}


def test_directive_that_systemd_does_not_know_is_told() -> None:
    line = "Unknown key 'Nicenes' in section [Service], ignoring."
    (problem,) = units.find_problems({**WELL, "unit_problems": {"airflow_worker_unit": [line]}})
    assert problem.startswith(f"variable airflow_worker_unit: this host's systemd says: {line} Remedy: ")


@pytest.mark.parametrize(
    ("given", "cron"),
    [("30 2 * * *", True), ("*/5 * * * *", True), ("0 0 1,15 * mon-fri", True), ("*-02-30", False), ("whenever", False)],
)
def test_schedule_that_never_comes_is_told(given: str, cron: bool) -> None:
    problem = {"given": given, "reason": "it never comes"}
    (text,) = units.find_problems({**WELL, "calendar_problems": {"airflow_backup_schedule": problem}})
    assert text.startswith(f'variable airflow_backup_schedule is "{given}", of which systemd says: it never comes')
    assert ("cron's syntax" in text) == cron
    assert "Remedy: write it as OnCalendar= takes it" in text


def test_folder_that_is_missing_is_told() -> None:
    (problem,) = units.find_problems({**WELL, "missing_folders": ["/missing"]})
    assert problem.startswith("variable airflow_worker_writable_paths has /missing, which is no folder on this host")
    assert "Remedy: mount or make it" in problem
