"""Silence is told once, and its end too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from airfield_slack import forward, watch
from airfield_slack.airflow_client import AirflowError
from airfield_slack.store import Store
from airfield_slack.watch import Watch

HOSTS = ("worker1", "worker2")
HEALTHY = {"metadatabase": {"status": "healthy"}, "dag_processor": {"status": "healthy"}, "triggerer": {"status": None}}


class World:
    """Redis and Airflow, and a clock."""

    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.alive = {*HOSTS}
        self.redis = True
        self.full = False
        self.states: dict[str, Any] | None = HEALTHY
        self.store = Store(path)
        self.watch = self.start()

    def start(self, channel: str = "#ops") -> Watch:
        everything: Any = self
        return Watch(self.store, everything, everything, channel, HOSTS, "web1", lambda: self.now)

    def set(self, key: str, value: Any, ex: int) -> None:
        if not self.redis or self.full:
            raise redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'.")

    def mget(self, keys: list[str]) -> list[bytes | None]:
        if not self.redis:
            raise redis.ConnectionError("away")
        return [b"1" if key.removeprefix(forward.HOST) in self.alive else None for key in keys]

    def health(self) -> dict[str, Any]:
        if self.states is None:
            raise AirflowError("Airflow's API server does not answer.")
        return self.states

    def later(self, seconds: float) -> None:
        """Let the time pass, with a look every second."""
        for _ in range(round(seconds)):
            self.now += 1
            self.watch.step()

    def told(self) -> list[tuple[str, str]]:
        return [(alert.body["state"], alert.body["what"]) for alert in self.store.waiting("#ops")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "alerts.db")


def kill_host(world: World) -> None:
    world.alive = {"worker1"}


def stop_redis(world: World) -> None:
    world.redis = False


def fill_redis(world: World) -> None:
    world.full = True


def stop_airflow(world: World) -> None:
    world.states = None


def stop_processor(world: World) -> None:
    world.states = {**HEALTHY, "dag_processor": {"status": "unhealthy"}}


def heal(world: World) -> None:
    world.alive, world.redis, world.full, world.states = {*HOSTS}, True, False, HEALTHY


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (kill_host, "Host worker2"),
        (stop_redis, watch.REDIS),
        (fill_redis, watch.REDIS),
        (stop_airflow, watch.API),
        (stop_processor, "Airflow's dag processor"),
    ],
)
def test_silence_is_told_once_and_so_is_its_end(world: World, fault: Callable[[World], None], what: str) -> None:
    world.later(60)
    fault(world)
    world.later(watch.PATIENCE - 2 * watch.PAUSE)
    assert world.told() == []
    world.later(600)
    assert world.told() == [("failed", what)]
    heal(world)
    world.later(600)
    assert world.told() == [("failed", what), ("recovered", what)]


def test_restart_of_a_host_is_no_news(world: World) -> None:
    for _ in range(5):
        kill_host(world)
        world.later(watch.PATIENCE / 2)
        heal(world)
        world.later(watch.PAUSE)
    assert world.told() == []


def test_hosts_get_time_to_say_that_they_are_alive_after_redis_was_away(world: World) -> None:
    stop_redis(world)
    world.alive = set()
    world.later(watch.PATIENCE - 2 * watch.PAUSE)
    world.redis = True
    world.later(watch.PATIENCE / 2)
    heal(world)
    world.later(600)
    assert world.told() == []


def test_service_that_starts_again_does_not_tell_again(world: World) -> None:
    kill_host(world)
    world.later(600)
    world.watch = world.start()
    world.later(600)
    heal(world)
    world.later(60)
    assert world.told() == [("failed", "Host worker2"), ("recovered", "Host worker2")]


def test_without_a_channel_it_is_only_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.watch = world.start(channel="")
    kill_host(world)
    world.later(600)
    assert world.store.channels() == []
    assert "Host worker2: failed. Nothing was heard of it for 5 minutes." in caplog.text


def test_host_that_beats_is_never_told() -> None:
    assert forward.BEAT < forward.ALIVE <= watch.PATIENCE
