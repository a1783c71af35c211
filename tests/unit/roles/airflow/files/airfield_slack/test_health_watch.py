"""What hosts publish of themselves is held against the inventory, and told once."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from airfield_slack import health_watch
from airfield_slack.health_watch import HealthWatch
from airfield_slack.store import Store
from ansible_collections.airfield.metal.plugins.module_utils import host_health
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import health

RULES = Path(health.__file__)
SETTINGS: dict[str, Any] = {
    "rules": str(RULES),
    "placement": {
        "scheduler": ["scheduler1"],
        "worker": ["worker1", "worker2", "worker3"],
        "logs": ["scheduler1", "worker1", "worker2", "worker3"],
        "alerts": ["scheduler1", "worker1", "worker2", "worker3"],
    },
    "services": {"redis": ["store1"]},
    "housekeeping": [],
    # One that a run takes out of the cluster at this moment.
    "leaving": ["worker3"],
    "version": "3.3.2",
    "disk_percent": 85,
}


def unit(**different: Any) -> dict[str, Any]:
    texts = dict.fromkeys(("result", "type", "process", "listen"), "")
    states = {"load": "loaded", "active": "active", "sub": "running", "enabled": "enabled", "has_next_run": True}
    numbers = {"restarts": 0, "active_seconds": 9e4, "inactive_seconds": None, "last_trigger": 0}
    return {**texts, **states, **numbers, "reload": False, "ours": True, "drop_ins": [], "writes": [], **different}


def facts(name: str, *units: str) -> dict[str, Any]:
    disk = {"path": "/", "percent": 40, "files_percent": 5, "free_mb": 50_000, "read_only": False}
    found: dict[str, Any] = {"hostname": name, "uptime": 9e4, "units": {unit_name: unit() for unit_name in units}}
    return {**found, "disks": [disk], "journal_limit": True, "release": "3.3.2-a" if name != "store1" else ""}


class World:
    """Redis with what hosts have published, and a clock."""

    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.works = True
        shared = ("airflow-logs.timer", "airflow-alerts.service", "airfield-health.timer")
        worker = ("airflow-worker.service", "airfield-worker-watchdog.timer")
        self.published = {
            "scheduler1": facts("scheduler1", "airflow-scheduler.service", *shared),
            "worker1": facts("worker1", *worker, *shared),
            "worker2": facts("worker2", *worker, *shared),
            "store1": facts("store1", "redis-server.service", "airfield-health.timer"),
        }
        for name in ("worker1", "worker2"):
            self.published[name]["worker"] = {"queues": ["default"], "seconds": 9e4, "slots": 4}
        self.published["scheduler1"]["database"] = {
            "error": "",
            "jobs": [{"job": "SchedulerJob", "hostname": "scheduler1", "age": 3.0}],
            "queued": [],
            "import_errors": [],
        }
        self.well = copy.deepcopy(self.published)
        self.store = Store(path)
        self.watch = self.start()

    def start(self, channel: str = "#ops") -> HealthWatch:
        everything: Any = self
        rules = health_watch.load(SETTINGS["rules"])
        plan = health_watch.make_plan(rules, SETTINGS)
        return HealthWatch(self.store, everything, channel, rules, plan, "web1", lambda: self.now)

    def mget(self, keys: list[str]) -> list[str | None]:
        if not self.works:
            raise redis.ConnectionError("away")
        names = [key.removeprefix(host_health.KEY) for key in keys]
        return [json.dumps(self.published[name]) if name in self.published else None for name in names]

    def later(self, seconds: float) -> None:
        """Let the time pass, with a look every second."""
        for _ in range(round(seconds)):
            self.now += 1
            self.watch.step()

    def told(self) -> list[tuple[str, str]]:
        return [(alert.body["state"], alert.body["what"]) for alert in self.store.waiting("#ops")]

    def heal(self) -> None:
        self.published = copy.deepcopy(self.well)
        self.works = True


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "alerts.db")


def stop_workers(world: World) -> None:
    for name in ("worker1", "worker2"):
        world.published[name]["units"]["airflow-worker.service"] |= {"active": "inactive", "sub": "dead"}


def fill_disk_of_services(world: World) -> None:
    world.published["store1"]["disks"][0]["percent"] = 90


def lose_services_host(world: World) -> None:
    del world.published["store1"]


def end_timer(world: World) -> None:
    world.published["worker1"]["units"]["airflow-logs.timer"] |= {"sub": "elapsed", "has_next_run": False}


def break_dag(world: World) -> None:
    world.published["scheduler1"]["database"]["import_errors"] = [{"file": "broken.py", "error": "NameError"}]


@pytest.mark.parametrize(
    ("fault", "whats"),
    [
        (
            stop_workers,
            ["worker1: a service does not run", "worker2: a service does not run",
             "The cluster: no worker runs, so that no task starts"],
        ),
        (fill_disk_of_services, ["store1: a file system fills up"]),
        (lose_services_host, ["store1: a host does not answer"]),
        (end_timer, ["worker1: a timer has no next run"]),
        (break_dag, ["The cluster: a file of DAGs cannot be imported"]),
    ],
)  # fmt: skip
def test_finding_is_told_once_and_so_is_its_end(world: World, fault: Callable[[World], None], whats: list[str]) -> None:
    world.later(60)
    assert world.told() == []
    fault(world)
    world.later(health_watch.PATIENCE - 2 * health_watch.PAUSE)
    assert world.told() == []
    world.later(600)
    assert world.told() == [("failed", what) for what in whats]
    world.heal()
    world.later(60)
    assert world.told()[len(whats) :] == [("recovered", what) for what in whats]


def test_workers_that_are_gone_are_told_within_five_minutes(world: World) -> None:
    # The timer's minute, and what a message needs.
    assert 60 + health_watch.PATIENCE + health_watch.PAUSE < 290


def test_line_with_the_remedy_is_the_reason(world: World) -> None:
    fill_disk_of_services(world)
    world.later(600)
    (alert,) = world.store.waiting("#ops")
    assert alert.body["reason"].startswith("store1: the file system of / is 90 % full, 50000 MB are left. Remedy: make room")


def test_what_others_tell_is_not_told_twice(world: World) -> None:
    world.published["worker1"]["disks"][0]["percent"] = 90
    world.published["worker1"]["units"]["airflow-logs.service"] = unit(active="failed")
    world.published["scheduler1"]["database"]["jobs"] = []
    del world.published["worker2"]
    world.later(600)
    assert world.told() == []


def test_failed_unit_of_a_host_that_only_has_services_is_told(world: World) -> None:
    world.published["store1"]["units"]["redis-server.service"] |= {"active": "failed"}
    world.later(600)
    assert world.told() == [("failed", "store1: a unit has failed")]


def test_what_a_run_explains_is_not_told_and_does_not_end_what_was(world: World) -> None:
    run = {"who": "ann", "playbook": "site.yml", "idle": 5}
    world.published["scheduler1"]["lock"] = run
    stop_workers(world)
    world.later(900)
    assert world.told() == []
    del world.published["scheduler1"]["lock"]
    world.later(600)
    assert len(world.told()) == 3
    world.published["scheduler1"]["lock"] = run
    world.later(600)
    assert len(world.told()) == 3


def test_end_is_not_told_while_nobody_can_know(world: World) -> None:
    break_dag(world)
    end_timer(world)
    world.later(600)
    assert len(world.told()) == 2
    world.published["scheduler1"]["database"] = {"error": "away"}
    del world.published["worker1"]
    world.later(600)
    # The database is missed meanwhile.
    assert [state for state, what in world.told()] == ["failed", "failed", "failed"]


def test_hosts_get_time_to_publish_after_redis_was_away(world: World) -> None:
    world.works = False
    world.published = {}
    world.later(600)
    world.works = True
    world.later(health_watch.PATIENCE - 2 * health_watch.PAUSE)
    world.heal()
    world.later(600)
    assert world.told() == []


def test_service_that_starts_again_does_not_tell_again(world: World) -> None:
    stop_workers(world)
    world.later(600)
    world.watch = world.start()
    world.later(600)
    assert len(world.told()) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '{"units": {"x": 1}}',
        '{"disks": [{}]}',
        '{"release": {"a": 1}}',
        json.dumps({"a": "x" * 1_000_000}),
    ],
)
def test_what_makes_no_sense_is_taken_for_silence(world: World, text: str) -> None:
    assert world.watch.host("store1", text).silent
    assert world.watch.host("store1", json.dumps(world.published["store1"]).encode()).silent == ""


def test_host_that_publishes_nonsense_hides_no_other(world: World) -> None:
    world.published["store1"] = {"disks": 7}
    stop_workers(world)
    world.later(600)
    assert ("failed", "The cluster: no worker runs, so that no task starts") in world.told()
    assert ("failed", "store1: a host does not answer") in world.told()


def test_without_a_channel_it_is_only_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.watch = world.start(channel="")
    fill_disk_of_services(world)
    world.later(600)
    assert world.store.channels() == []
    assert "store1: a file system fills up: failed." in caplog.text


def test_key_is_that_of_the_publisher() -> None:
    assert health_watch.KEY == host_health.KEY
