"""Failures without a callback are told once, and only they."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airfield_slack import untold
from airfield_slack.airflow_client import AirflowError
from airfield_slack.button import Try
from airfield_slack.message import build
from airfield_slack.store import Store
from airfield_slack.untold import Untold

START = 1_000_000.0
ZONE = ZoneInfo("Asia/Seoul")


class World:
    """Airflow, and a clock."""

    def __init__(self, path: Path) -> None:
        self.now = START
        self.rows: list[dict[str, Any]] = []
        self.tags: list[str] = []
        self.params: dict[str, str] = {}
        self.there = self.answers = True
        self.store = Store(path)
        self.untold = self.start()

    def start(self, channel: str = "#ops") -> Untold:
        everything: Any = self
        return Untold(self.store, everything, channel, "http://web1:8080/", lambda: self.now)

    def failures(self, since: float, until: float) -> Iterator[dict[str, Any]]:
        if not self.answers:
            raise AirflowError("Airflow's API server does not answer.")
        return (row for row in self.rows if since < datetime.fromisoformat(row["end_date"]).timestamp() <= until)

    def dag(self, dag: str) -> dict[str, Any] | None:
        params = {name: {"value": value, "schema": {}} for name, value in self.params.items()}
        return {"tags": [{"name": name} for name in self.tags], "params": params} if self.there else None

    def fail(self, ago: float = 0.0, map_index: int = -1) -> Try:
        ended = datetime.fromtimestamp(self.now - ago, UTC).isoformat()
        names = {"dag_id": "sales", "dag_run_id": "r+1", "task_id": "load", "map_index": map_index, "try_number": 3}
        self.rows.append({**names, "max_tries": 2, "hostname": "worker1", "end_date": ended, "logical_date": None})
        return Try("sales", "r+1", "load", map_index, 3)

    def later(self, seconds: float) -> None:
        """Let the time pass, with a look every second."""
        for _ in range(round(seconds)):
            self.now += 1
            self.untold.step()

    def told(self, channel: str = "#ops") -> list[dict[str, Any]]:
        return [alert.body for alert in self.store.waiting(channel)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "alerts.db")
    world.later(60)
    return world


def test_failure_without_a_callback_is_told_once(world: World) -> None:
    what = world.fail()
    ended = world.now
    world.later(untold.GRACE - 1)
    assert world.told() == []
    world.later(3600)
    (body,) = world.told()
    assert world.store.knows(what)
    assert (body["dag"], body["run"], body["task"], body["map_index"], body["try"], body["tries"]) == (
        *("sales", "r+1", "load", -1, 3, 3),
    )
    assert (body["time"], body["host"]) == (ended, "worker1")
    assert body["log_url"] == "http://web1:8080/dags/sales/runs/r%2B1/tasks/load?try_number=3"
    assert build(body, ZONE)["text"] == ":red_circle: Failed: sales.load"


def test_mapped_task_has_its_own_log(world: World) -> None:
    world.fail(map_index=4)
    world.later(300)
    assert world.told()[0]["log_url"] == "http://web1:8080/dags/sales/runs/r%2B1/tasks/load/mapped/4?try_number=3"


def test_what_a_callback_has_told_is_known_whatever_its_channel(world: World) -> None:
    what = world.fail()
    names = {"dag": what.dag, "run": what.run, "task": what.task, "map_index": what.map_index, "try": what.number}
    world.store.add({"id": "1", "kind": "task", "channel": "#team", "state": "failed", **names}, world.now)
    world.later(3600)
    assert world.told() == []


def test_what_failed_before_there_were_alerts_is_no_news(tmp_path: Path) -> None:
    world = World(tmp_path / "alerts.db")
    world.fail(ago=1)
    world.fail(ago=untold.OVERLAP / 2)
    world.later(3600)
    assert world.told() == []


def test_what_fails_while_the_service_is_away_is_told(world: World) -> None:
    world.fail()
    world.now += 5 * 3600
    world.untold = world.start()
    world.later(60)
    assert len(world.told()) == 1


def test_airflow_that_is_away_costs_no_alert(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.answers = False
    world.fail()
    world.later(3600)
    assert "What has failed is not known now: Airflow's API server does not answer." in caplog.text
    world.answers = True
    world.later(60)
    assert len(world.told()) == 1


def test_end_of_which_airflow_hears_late_is_told(world: World) -> None:
    world.later(600)
    world.fail(ago=untold.GRACE + 300)
    world.later(60)
    assert len(world.told()) == 1


@pytest.mark.parametrize(
    ("tags", "params", "channel"),
    [(["slack:#team"], {}, "#team"), ([], {"slack_channel": "#team"}, "#team"), (["daily"], {}, "#ops")],
)
def test_dag_chooses_its_channel(world: World, tags: list[str], params: dict[str, str], channel: str) -> None:
    world.tags, world.params = tags, params
    world.fail()
    world.later(300)
    assert len(world.told(channel)) == 1


def test_dag_opts_out(world: World) -> None:
    world.tags = ["slack:off"]
    world.fail()
    world.later(300)
    assert world.store.channels() == []


def test_dag_that_is_gone_alerts_the_default_channel(world: World) -> None:
    world.there = False
    world.fail()
    world.later(300)
    assert len(world.told()) == 1


def test_without_a_default_channel_nothing_is_looked_for(world: World) -> None:
    world.untold = world.start(channel="")
    world.answers = False
    world.fail()
    world.later(300)
    assert world.untold.next_look == 0.0


def test_log_of_airflow_2_has_another_page(world: World) -> None:
    everything: Any = world
    world.untold = Untold(world.store, everything, "#ops", "http://web1:8080/", lambda: world.now, untold.log_url_2)
    world.fail(map_index=4)
    world.later(300)
    (alert,) = world.told()
    assert alert["log_url"] == "http://web1:8080/dags/sales/grid?dag_run_id=r%2B1&task_id=load&map_index=4&tab=logs"
    assert untold.log_url_2("http://web1:8080", Try("sales", "r", "load", -1, 1)).endswith("&task_id=load&tab=logs")
