"""How many tasks the cluster runs at the same time: what its workers have room for, and what Airflow lets through."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.airfield.metal.plugins.module_utils import objects

# airflow_worker_concurrency, as the role has it.
CONCURRENCY = 16
# Airflow's own [core] parallelism and slots of default_pool: a small cluster has what it always had.
PARALLELISM, POOL = 32, 128


def whole(value: Any, otherwise: int) -> int:
    """A number as it was given, or another where that is none: the precheck has a word for it."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return otherwise


def worker_slots(workers: Iterable[Mapping[str, Any]]) -> int:
    """Tasks that the workers run at the same time, by the variables of each."""
    total = 0
    for variables in workers:
        autoscale = variables.get("airflow_worker_autoscale") or {}
        most = autoscale.get("max") if isinstance(autoscale, Mapping) else None
        total += whole(variables.get("airflow_worker_concurrency") if most is None else most, CONCURRENCY)
    return total


def parallelism(slots: int, given: Any = 0) -> int:
    """[core] parallelism: the operator's, or as many as there are slots."""
    return whole(given, 0) or max(PARALLELISM, whole(slots, 0))


def with_default_pool(pools: list[Any], slots: int) -> list[Any]:
    """The operator's pools, and a default_pool as large as the workers where its own size would be too small for them."""
    named = any(isinstance(pool, Mapping) and pool.get("name") == objects.DEFAULT_POOL for pool in pools)
    if named or whole(slots, 0) <= POOL:
        return pools
    return [*pools, {"name": objects.DEFAULT_POOL, "slots": slots, "description": objects.FOLLOWING_POOL.format(slots)}]


def warnings(slots: int, given_parallelism: Any, pools: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the operator says that leaves slots of workers empty."""
    found = []
    said = whole(given_parallelism, 0)
    if 0 < said < slots:
        found.append(
            f"variable airflow_parallelism: {said} is less than the {slots} tasks for which the workers have room; the rest of "
            "them stays empty. Remedy: leave it out, so that it follows the workers, or raise it."
        )
    for pool in pools:
        room = whole(pool.get("slots"), 0) if isinstance(pool, Mapping) and pool.get("name") == objects.DEFAULT_POOL else 0
        if 0 < room < slots:
            found.append(
                f"variable airflow_pools: default_pool with {room} slots holds less than the {slots} tasks for which the "
                "workers have room. Remedy: leave it out, so that it follows the workers, or raise it."
            )
    return found


def options_of_component(options: Mapping[str, Mapping[str, Any]], component: str) -> dict[str, dict[str, Any]]:
    """The options whose change restarts a component: not those that only another one reads."""
    kept = {section: dict(body) for section, body in options.items()}
    if component != "worker" and "celery" in kept:
        kept["celery"] = {name: value for name, value in kept["celery"].items() if not name.startswith("worker_")}
    if component != "scheduler":
        kept.get("core", {}).pop("parallelism", None)
        kept.get("scheduler", {}).pop("task_queued_timeout", None)
    return kept
