from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import capacity


@pytest.mark.parametrize(
    ("workers", "slots"),
    [
        ([], 0),
        ([{}], 16),
        ([{"airflow_worker_concurrency": 4}, {"airflow_worker_concurrency": "8"}, {}], 28),
        ([{"airflow_worker_concurrency": 4, "airflow_worker_autoscale": {"min": 2, "max": 12}}], 12),
        ([{"airflow_worker_concurrency": 4, "airflow_worker_autoscale": {}}], 4),
        # The precheck refuses these.
        ([{"airflow_worker_concurrency": "many"}, {"airflow_worker_autoscale": "2,4"}], 32),
    ],
)
def test_worker_slots_are_those_of_all_workers(workers: list[dict[str, Any]], slots: int) -> None:
    assert capacity.worker_slots(workers) == slots


@pytest.mark.parametrize(
    ("slots", "given", "expected"), [(0, 0, 32), (16, 0, 32), (48, 0, 48), (48, 40, 40), (16, "64", 64), (48, "", 48)]
)
def test_parallelism_follows_the_slots_unless_set(slots: int, given: Any, expected: int) -> None:
    assert capacity.parallelism(slots, given) == expected


@pytest.mark.parametrize("pools", [[], [{"name": "reports", "slots": 1}]])
def test_default_pool_is_as_large_as_the_workers(pools: list[dict[str, Any]]) -> None:
    assert capacity.with_default_pool(pools, 128) == pools, "Airflow's own is large enough"
    *rest, own = capacity.with_default_pool(pools, 160)
    assert rest == pools
    assert own == {
        "name": "default_pool",
        "slots": 160,
        "description": "Default pool, as large as the workers (Airfield: 160)",
    }


def test_default_pool_of_the_operator_stays() -> None:
    pools = [{"name": "default_pool", "slots": 5}]
    assert capacity.with_default_pool(pools, 160) == pools


def test_warnings_name_the_variable_and_both_numbers() -> None:
    pools = [{"name": "default_pool", "slots": 10}, {"name": "other", "slots": 1}, "text"]
    (first, second) = capacity.warnings(48, 40, pools)  # type: ignore[arg-type]
    assert first.startswith("variable airflow_parallelism: 40 is less than the 48 tasks")
    assert second.startswith("variable airflow_pools: default_pool with 10 slots holds less than the 48 tasks")


@pytest.mark.parametrize(("given", "pools"), [(0, []), (48, [{"name": "default_pool", "slots": 48}]), (64, [{"name": "x"}])])
def test_warnings_say_nothing_where_all_slots_can_be_used(given: int, pools: list[dict[str, Any]]) -> None:
    assert capacity.warnings(48, given, pools) == []


@pytest.mark.parametrize(
    ("component", "celery", "core", "scheduler"),
    [
        ("worker", {"worker_concurrency", "broker"}, {"executor"}, {"other"}),
        ("scheduler", {"broker"}, {"executor", "parallelism"}, {"other", "task_queued_timeout"}),
        ("triggerer", {"broker"}, {"executor"}, {"other"}),
    ],
)
def test_a_third_worker_restarts_the_scheduler_alone(
    component: str, celery: set[str], core: set[str], scheduler: set[str]
) -> None:
    options: dict[str, dict[str, Any]] = {
        "celery": {"worker_concurrency": 4, "broker": "x"},
        "core": {"executor": "x", "parallelism": 48},
        "scheduler": {"other": 1, "task_queued_timeout": 2},
    }
    found = capacity.options_of_component(options, component)
    assert ({*found["celery"]}, {*found["core"]}, {*found["scheduler"]}) == (celery, core, scheduler)
    assert options["core"]["parallelism"] == 48, "the file has it all the same"


def test_options_of_component_needs_no_section() -> None:
    assert capacity.options_of_component({"api": {"port": 1}}, "triggerer") == {"api": {"port": 1}}
