"""Alerts on their way from a host to Redis."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from airfield_slack import forward, outbox
from airfield_slack.forward import Forwarder


class Broker:
    """Redis, as much of it as is used; `error` is what it says to everything."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[Any, int]] = {}
        self.alerts: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def set(self, key: str, value: Any, ex: int) -> None:
        if self.error:
            raise self.error
        self.keys[key] = (value, ex)

    def lpush(self, key: str, value: str) -> None:
        assert key == forward.ALERTS
        if self.error:
            raise self.error
        self.alerts.append(json.loads(value))


@pytest.fixture
def broker() -> Any:
    return Broker()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFIELD_SLACK_OUTBOX", str(tmp_path))
    return tmp_path


def leave(*numbers: int) -> None:
    for number in numbers:
        outbox.put({"id": str(number), "channel": "#a"})


def test_alerts_are_forwarded_in_order_and_once(broker: Any, place: Path) -> None:
    leave(1, 2, 3)
    forwarder = Forwarder(broker, "worker1")
    forwarder.step()
    forwarder.step()
    assert [alert["id"] for alert in broker.alerts] == ["1", "2", "3"]
    assert list(place.iterdir()) == []


def test_alerts_wait_while_redis_is_away(broker: Any, place: Path) -> None:
    leave(1)
    forwarder = Forwarder(broker, "worker1")
    forwarder.step()
    leave(2, 3)
    broker.error = redis.ConnectionError("away")
    with pytest.raises(redis.RedisError):
        forwarder.step()
    assert len(list(place.iterdir())) == 2
    broker.error = None
    forwarder.step()
    assert [alert["id"] for alert in broker.alerts] == ["1", "2", "3"]


def test_old_alert_is_dropped_with_a_word(
    broker: Any, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave(1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + forward.OLD + 60)
    Forwarder(broker, "worker1").step()
    assert (broker.alerts, list(place.iterdir())) == ([], [])
    assert "An alert for #a was dropped, as it is 24 hours old" in caplog.text


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"time": "x"}', b"null", b"[" * 99_999, bytes(range(256))])
def test_what_is_no_alert_does_not_stop_the_others(broker: Any, place: Path, text: bytes) -> None:
    (place / "0001-broken.json").write_bytes(text)
    leave(1)
    Forwarder(broker, "worker1").step()
    assert [alert["id"] for alert in broker.alerts] == ["1"]
    assert list(place.iterdir()) == []


def test_host_says_now_and_then_that_it_is_alive(broker: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    forwarder = Forwarder(broker, "worker1")
    key = forward.HOST + "worker1"
    for passed, beats in ((0, True), (forward.BEAT / 2, False), (forward.BEAT, True)):
        broker.keys.clear()
        now = 1000.0 + passed
        forwarder.step()
        assert (key in broker.keys) is beats
    assert broker.keys[key][1] == forward.ALIVE > 2 * forward.BEAT
