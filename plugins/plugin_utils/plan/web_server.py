"""How many processes answer for the web server, and how much memory a host gives them."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

# Processes by default at most. Each holds up to 15 connections to the metadata database (SQLAlchemy's pool of 5 and 10 more),
# of the 300 that our own PostgreSQL has.
MOST_WORKERS = 4
# Those of Airflow 2, unless it is told otherwise.
OWN_WORKERS = 4
# Memory that a task takes beside its worker's own, in MB.
TASK_MB = 60
# What one process may grow to, in MB, and what it gets at least. At rest it has 250; a page of a log that fills its limit of
# 2 MB adds about 40 for as long as it is put together.
MOST_MB, LEAST_MB = 1024, 512


class WebServer(TypedDict):
    """What the host's web server gets, and what the host's components need."""

    # What tells Airflow how many processes to start; empty where it knows.
    environment: dict[str, str]
    # systemd's MemoryMax=; empty: none.
    memory_max: str
    # Idle memory of all components on the host with the tasks that run at the same time, in MB.
    needed_mb: int


def plan(
    components: Mapping[str, Mapping[str, Any]],
    names: Iterable[str],
    host: Mapping[str, Any],
    slots: int,
    options: Mapping[str, Any],
    workers: int,
    memory_max: str,
) -> WebServer:
    """Plan the web server of a host.

    :param components: the components of the series, with `memory_mb` and, of the web server, `workers` and `process_mb`
    :param names: those that run on the host
    :param host: the facts `cpus` and `memory_mb`
    :param slots: tasks that the host's worker runs at the same time
    :param options: the operator's options of airflow.cfg
    :param workers: the operator's number of processes; 0: that of `options`, or one for each CPU, four at most, as far as
        memory goes
    :param memory_max: the operator's limit in systemd's form; empty: 1 GB for each process, less where the host has little
    """
    names = set(names)
    here = {name: body for name, body in components.items() if name in names}
    needed = sum(body["memory_mb"] for body in here.values()) + (slots * TASK_MB if "worker" in here else 0)
    web = next((body for body in here.values() if "workers" in body), None)
    if web is None:
        return {"environment": {}, "memory_max": "", "needed_mb": needed}
    each = web.get("process_mb", 0)
    section, option = web["workers"].removeprefix("AIRFLOW__").lower().split("__")
    number = workers or int(options.get(section, {}).get(option) or 0)
    if each and not number:
        spare = max(0, host["memory_mb"] - needed) // each
        number = max(1, min(MOST_WORKERS, host["cpus"], 1 + spare))
    needed += each * (number - 1) if number else 0
    processes = number or OWN_WORKERS
    left = host["memory_mb"] - needed + max(each * processes, web["memory_mb"])
    limit = min(processes * MOST_MB, max(processes * LEAST_MB, left))
    return {
        "environment": {web["workers"]: str(number)} if number else {},
        "memory_max": memory_max or f"{limit}M",
        "needed_mb": needed,
    }
