"""The service with Slack's own clients: presses come by Socket Mode, alerts from Redis."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
import slack_cloud
import topology
from airfield_slack import message
from airfield_slack.forward import ALERTS
from airfield_slack.service import TAKEN, Receiver, connect, forever, make_client, make_handler, make_health_watch
from airfield_slack.store import Store
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import health

CHANNEL = "data-alerts"


class Pressed:
    """Stands for `Retry`."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.answer = "only for you"
        self.error: Exception | None = None

    def handle(self, body: Any) -> str:
        self.bodies.append(body)
        if self.error:
            raise self.error
        return self.answer


class Slack:
    """A service that listens to the stand-in, and a message there with both buttons."""

    def __init__(self, cloud: slack_cloud.SlackCloud) -> None:
        self.cloud = cloud
        self.pressed = Pressed()
        client = make_client({"password": cloud.bot_token, "extra": json.dumps({"base_url": cloud.url})})
        alert = {"kind": "task", "state": "failed", "dag": "d", "task": "t", "map_index": -1, "try": 1, "tries": 1, "time": 0.0}
        rest = {"logical_date": None, "reason": "", "log_url": "http://web1/", "host": "worker1"}
        content = message.build(alert | rest, ZoneInfo("UTC"), "signed")
        self.ts = str(client.chat_postMessage(channel=CHANNEL, **content)["ts"])

    def press(self, button: str = message.RETRY) -> slack_cloud.Press:
        return self.cloud.press(self.ts, CHANNEL, button, self.cloud.user("alice"))

    def handle(self, body: Any) -> str:
        return self.pressed.handle(body)

    def answers(self) -> list[str]:
        return [found.text for found in self.cloud.ephemerals]


@pytest.fixture(scope="module")
def listening() -> Iterator[Slack]:
    with slack_cloud.SlackCloud(channels=(CHANNEL,), users=("alice",)) as cloud, ThreadPoolExecutor(2) as workers:
        slack = Slack(cloud)
        retry: Any = slack
        client = make_client({"password": cloud.bot_token, "extra": {"base_url": cloud.url}})
        handler = make_handler(retry, client, cloud.app_token, workers)
        stop = threading.Event()
        thread = threading.Thread(target=connect, args=(handler, stop))
        # Slack is away at first.
        with cloud.fault("error"):
            thread.start()
            topology.wait_for("an attempt", lambda: cloud.requests, 20, 0.02)
        topology.wait_for("the connection", lambda: cloud.connections, 20, 0.02)
        yield slack
        stop.set()
        thread.join()


@pytest.fixture
def slack(listening: Slack) -> Slack:
    listening.pressed = Pressed()
    return listening


def test_press_arrives_and_its_answer_is_for_one_alone(slack: Slack) -> None:
    before = len(slack.answers())
    press = slack.press()
    topology.wait_for("the answer", lambda: len(slack.answers()) > before, 20, 0.02)
    assert (slack.answers()[before:], press.acknowledged is not None) == (["only for you"], True)
    (body,) = slack.pressed.bodies
    assert (body["user"]["id"], body["actions"][0]["value"]) == (slack.cloud.user("alice"), "signed")
    assert slack.cloud.messages(CHANNEL)[0].updates == 0


def test_press_that_all_see_has_no_answer_of_its_own(slack: Slack) -> None:
    before = len(slack.answers())
    slack.pressed.answer = ""
    slack.press()
    topology.wait_for("the press", lambda: slack.pressed.bodies, 20, 0.02)
    slack.pressed.answer = "the next"
    slack.press()
    topology.wait_for("the answer", lambda: len(slack.answers()) > before, 20, 0.02)
    assert slack.answers()[before:] == ["the next"]


def test_error_is_logged_and_the_next_press_works(slack: Slack, caplog: pytest.LogCaptureFixture) -> None:
    before = len(slack.answers())
    slack.pressed.error = RuntimeError("no luck")
    slack.press()
    topology.wait_for("the log", lambda: "no luck" in caplog.text, 20, 0.02)
    slack.pressed.error = None
    slack.press()
    topology.wait_for("the answer", lambda: len(slack.answers()) > before, 20, 0.02)


def test_hundred_presses_are_acknowledged_in_time(slack: Slack) -> None:
    presses = [slack.press() for _ in range(100)]
    topology.wait_for("all of them", lambda: len(slack.pressed.bodies) == 100, 30, 0.02)
    assert [press for press in presses if press.failed or press.late or press.acknowledged is None] == []


def test_link_to_the_log_is_acknowledged(slack: Slack) -> None:
    assert slack.press(message.LOG).acknowledged is not None
    assert slack.pressed.bodies == []


class Broker:
    """Redis's two lists."""

    def __init__(self, *alerts: str) -> None:
        self.lists: dict[str, list[str]] = {ALERTS: list(alerts), TAKEN: []}
        self.error: Exception | None = None

    def lindex(self, name: str, index: int) -> str | None:
        if self.error:
            raise self.error
        return self.lists[name][index] if self.lists[name] else None

    def blmove(self, source: str, target: str, timeout: float, src: str, dest: str) -> str | None:
        assert (src, dest) == ("RIGHT", "LEFT")
        if not self.lists[source]:
            return None
        self.lists[target].insert(0, self.lists[source].pop())
        return self.lists[target][0]

    def lrem(self, name: str, count: int, value: str) -> None:
        self.lists[name].remove(value)


def alert(number: int) -> str:
    return json.dumps({"id": str(number), "kind": "host", "channel": "#a", "state": "failed", "what": "x"})


def test_alerts_come_from_redis_in_order(tmp_path: Path) -> None:
    # Forwarders push to the left.
    broker: Any = Broker(alert(2), alert(1))
    store = Store(tmp_path / "alerts.db")
    receiver = Receiver(broker, store)
    for _ in range(3):
        receiver.step()
    assert [found.body["id"] for found in store.waiting("#a")] == ["1", "2"]
    assert broker.lists == {ALERTS: [], TAKEN: []}


def test_alert_that_a_killed_service_had_taken_comes_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "alerts.db")
    kept, taken = Receiver(Broker(alert(1)), store), Broker(alert(2))  # type: ignore[arg-type]
    kept.step()
    taken.lists[TAKEN] = [alert(3), alert(1)]
    receiver = Receiver(taken, store)  # type: ignore[arg-type]
    for _ in range(3):
        receiver.step()
    assert [found.body["id"] for found in store.waiting("#a")] == ["1", "3", "2"]
    assert taken.lists == {ALERTS: [], TAKEN: []}


@pytest.mark.parametrize("text", ["", "[]", "{}", "x", "5"])
def test_what_is_no_alert_is_put_away(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    broker: Any = Broker(alert(1), text)
    store = Store(tmp_path / "alerts.db")
    receiver = Receiver(broker, store)
    for _ in range(2):
        receiver.step()
    assert [found.body["id"] for found in store.waiting("#a")] == ["1"]
    assert "This is no alert" in caplog.text


@pytest.mark.parametrize(("default", "channels"), [("#ops", ["#ops"]), ("", [])])
def test_alert_without_a_channel_goes_to_the_default(tmp_path: Path, default: str, channels: list[str]) -> None:
    broker: Any = Broker(json.dumps({**json.loads(alert(1)), "channel": ""}))
    store = Store(tmp_path / "alerts.db")
    Receiver(broker, store, default).step()
    assert store.channels() == channels
    assert broker.lists[TAKEN] == []


def test_redis_that_is_away_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    caplog.set_level("INFO")
    broker: Any = Broker(alert(1))
    receiver = Receiver(broker, Store(tmp_path / "alerts.db"))
    broker.error = redis.ConnectionError("away")
    for _ in range(3):
        receiver.step()
    broker.error = None
    receiver.step()
    assert [record.message for record in caplog.records if "Redis" in record.message] == [
        "Redis gives no alerts: away",
        "Redis gives alerts again",
    ]


def test_step_that_fails_does_not_end_the_service(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, steps = threading.Event(), iter([RuntimeError("first"), None, None])
    monkeypatch.setattr(stop, "wait", lambda seconds: None)

    def step() -> None:
        error = next(steps, StopIteration)
        if error is StopIteration:
            stop.set()
        elif isinstance(error, Exception):
            raise error

    forever(stop, step, 1.0)
    assert "first" in caplog.text


def test_health_is_watched_by_the_rules_and_the_inventory_of_the_settings(tmp_path: Path) -> None:
    settings = {
        "default_channel": "#ops",
        "health": {
            "rules": health.__file__,
            "placement": {"scheduler": ["a"], "alerts": ["a"]},
            "services": {"redis": ["b"]},
            "housekeeping": ["backup"],
            "leaving": [],
            "version": "3.3.2",
            "disk_percent": 85,
        },
    }
    broker: Any = None
    watch = make_health_watch(settings, Store(tmp_path / "alerts.db"), broker)
    assert watch.plan.components == {"a": ["scheduler", "alerts", "backup", "health"], "b": ["redis", "health"]}
