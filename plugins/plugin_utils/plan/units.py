"""What of the operator's a host's systemd shall look at before anything is changed, and what is said of its answer."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

# Variable with directives -> group whose hosts have that unit.
UNITS = {
    "airflow_dag_processor_unit": "airflow",
    "airflow_flower_unit": "airflow_flower",
    "airflow_logs_unit": "airflow",
    "airflow_scheduler_unit": "airflow_scheduler",
    "airflow_slack_unit": "airflow_slack",
    "airflow_triggerer_unit": "airflow",
    "airflow_webserver_unit": "airflow_webserver",
    "airflow_worker_unit": "airflow_worker",
}
LIMITS = {"airflow_worker_memory_max": "MemoryMax", "airflow_worker_cpu_quota": "CPUQuota"}
CALENDARS = ("airflow_backup_schedule", "airflow_database_clean_schedule")
CRON = r"\s*([\d*,/-]+\s+){4}[\d*,/A-Za-z-]+\s*"


def render(directives: Mapping[str, Any]) -> list[str]:
    """Lines of a unit's section, as roles/airflow/templates/airflow.service.j2 writes them."""
    lines = []
    for name, value in sorted(directives.items()):
        lines += [
            f"{name}={str(line).lower() if isinstance(line, bool) else line}"
            for line in (value if isinstance(value, list) else [value])
        ]
    return lines


def probes(values: Mapping[str, Any], groups: Collection[str], first_scheduler: bool) -> dict[str, Any]:
    """Arguments for module airflow_info: texts of units, schedules, and folders that must be there."""
    directives = {
        name: render(values[name])
        for name, group in UNITS.items()
        if group in groups and isinstance(values.get(name), Mapping) and values[name]
    }
    of_worker = "airflow_worker" in groups
    directives |= {
        name: render({directive: values[name]}) for name, directive in LIMITS.items() if of_worker and values.get(name)
    }
    paths = values.get("airflow_worker_writable_paths") if of_worker else []
    return {
        "unit_texts": {name: "\n".join(["[Service]", *lines]) + "\n" for name, lines in directives.items()},
        "calendars": {name: str(values[name]) for name in CALENDARS if first_scheduler and name in values},
        "folders": [str(path) for path in paths if str(path).startswith("/")] if isinstance(paths, list) else [],
    }


def find_problems(facts: Mapping[str, Any]) -> list[str]:
    """What the host says of them, one sentence each with the remedy."""
    problems = [
        f"variable {name}: this host's systemd says: {line} Remedy: correct it; `man systemd.directives` has all directives."
        for name, lines in sorted(facts["unit_problems"].items())
        for line in lines
    ]
    for name, problem in sorted(facts["calendar_problems"].items()):
        hint = ' (this is cron\'s syntax; "30 2 * * *" is "*-*-* 02:30" here)' if re.fullmatch(CRON, problem["given"]) else ""
        problems.append(
            f'variable {name} is "{problem["given"]}", of which systemd says: {problem["reason"]}{hint}. Remedy: write it as '
            f"OnCalendar= takes it, and try it by `systemd-analyze calendar`."
        )
    return problems + [
        f"variable airflow_worker_writable_paths has {path}, which is no folder on this host, and no task would start. Remedy: "
        f"mount or make it (`install --directory --owner=airflow {path}`), or write -{path}, for a folder that may be missing."
        for path in facts["missing_folders"]
    ]
