"""What the service remembers, over its own end too."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from airfield_slack.button import Try
from airfield_slack.store import Store

WHAT = Try("sales", "r", "load", -1, 2)


def body(**changes: Any) -> dict[str, Any]:
    usual = {"id": "1", "kind": "task", "channel": "#a", "state": "failed", "dag": "sales", "run": "r", "task": "load"}
    return {**usual, "map_index": -1, "try": 2, **changes}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "alerts.db")


def test_death_that_two_hosts_tell_is_one_alert(store: Store) -> None:
    assert store.add(body(), 1.0)
    assert not store.add(body(id="2", host="scheduler1"), 2.0)
    assert len(store.waiting("#a")) == 1


@pytest.mark.parametrize(
    "change", [{"channel": "#b"}, {"state": "success"}, {"dag": "x"}, {"run": "x"}, {"task": "x"}, {"map_index": 0}, {"try": 3}]
)
def test_another_thing_is_another_alert(store: Store, change: dict[str, Any]) -> None:
    assert store.add(body(), 1.0)
    assert store.add(body(id="2", **change), 2.0)


def test_same_alert_of_a_host_comes_once(store: Store) -> None:
    alert = {"id": "1", "kind": "host", "channel": "#a", "state": "failed", "what": "Host x"}
    assert [store.add(alert, 1.0), store.add(alert, 1.0), store.add({**alert, "id": "2"}, 1.0)] == [True, False, True]


def test_what_is_no_alert_is_refused_and_nothing_is_kept(store: Store) -> None:
    with pytest.raises(KeyError):
        store.add({"kind": "task", "channel": "#a", "state": "failed"}, 1.0)
    assert store.channels() == []


def test_all_is_there_after_the_process(tmp_path: Path) -> None:
    before = Store(tmp_path / "alerts.db")
    for number in (1, 2, 3):
        before.add(body(id=str(number), **{"try": number}), float(number))
    first, second, _ = before.waiting("#a")
    before.set_state(first.number, "sent", 5.0, "C1", "1.1")
    before.set_state(second.number, "sending", 5.0)
    before.claim(WHAT, "U1", 5.0)
    before.begin_thread("#a", "sales.load", "1.1", 5.0)
    before.fold(before.waiting("#a")[0], "line", 6.0)
    after = Store(tmp_path / "alerts.db")
    assert after.waiting("#a") == []
    assert [alert.number for alert in after.in_state("sending")] == [second.number]
    assert after.person(WHAT) == "U1"
    assert after.thread("#a", "sales.load", 4.0) == "1.1"
    assert [(summary.counts, summary.ts) for summary in after.summaries()] == [({"line": 1}, None)]


def test_message_of_a_try_is_found(store: Store) -> None:
    store.add(body(), 1.0)
    store.add(body(channel="#b", id="2"), 1.0)
    store.add(body(id="3", **{"try": 1}), 1.0)
    store.add(body(id="4", state="up_for_retry"), 1.0)
    assert store.messages_of(WHAT) == []
    for number, channel in enumerate(("#a", "#b", "#a", "#a")):
        alert = store.waiting(channel)[0]
        store.set_state(alert.number, "sent", 2.0, f"C{number}", f"{number}.0")
    assert [(found.place, found.ts) for found in store.messages_of(WHAT)] == [("C0", "0.0"), ("C1", "1.0")]


def test_only_one_of_many_gets_a_try(store: Store) -> None:
    got = Counter[bool]()
    barrier = threading.Barrier(20)

    def claim(person: int) -> None:
        barrier.wait()
        got[store.claim(WHAT, f"U{person}", 1.0)] += 1

    threads = [threading.Thread(target=claim, args=(person,)) for person in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {True: 1, False: 19}


def test_released_try_can_be_had_again(store: Store) -> None:
    store.claim(WHAT, "U1", 1.0)
    store.release(WHAT)
    assert store.person(WHAT) is None
    assert store.claim(WHAT, "U2", 2.0)
    store.set_press(WHAT, "running")
    assert (store.presses("running"), store.presses("claimed")) == ([(WHAT, "U2")], [])


def test_thread_gets_old(store: Store) -> None:
    store.begin_thread("#a", "sales.load", "1.1", 10.0)
    assert (store.thread("#a", "sales.load", 9.0), store.thread("#a", "sales.load", 10.0)) == ("1.1", None)
    store.end_thread("#a", "sales.load")
    assert store.thread("#a", "sales.load", 9.0) is None


def test_folded_alerts_are_counted_by_what_they_say(store: Store) -> None:
    for number in range(3):
        store.add(body(id=str(number), **{"try": number}), 1.0)
    for alert, line, now in zip(store.waiting("#a"), ("x", "y", "x"), (1.0, 2.0, 3.0), strict=True):
        store.fold(alert, line, now)
    (summary,) = store.summaries()
    assert (summary.counts, summary.since, summary.until, summary.shown) == ({"x": 2, "y": 1}, 1.0, 3.0, 0)
    store.show_summary(summary, "C1", "1.1")
    (summary,) = store.summaries()
    assert (summary.place, summary.ts, summary.shown) == ("C1", "1.1", 3)
    store.end_summary("#a")
    assert store.summaries() == []


def test_old_things_are_forgotten_and_waiting_ones_are_not(store: Store) -> None:
    for number in range(3):
        store.add(body(id=str(number), **{"try": number}), 1.0)
    sent, sending, _ = store.waiting("#a")
    store.set_state(sent.number, "sent", 1.0, "C1", "1.1")
    store.set_state(sending.number, "sending", 1.0)
    store.claim(WHAT, "U1", 1.0)
    store.begin_thread("#a", "sales.load", "1.1", 1.0)
    store.forget(2.0)
    assert (len(store.waiting("#a")), len(store.in_state("sending")), store.person(WHAT)) == (1, 1, None)
    # The same alert is news again.
    assert store.add(json.loads(json.dumps(sent.body)), 3.0)


def test_silence_begins_once(store: Store) -> None:
    store.set_silent("Host x", 1.0)
    store.set_silent("Host x", 2.0)
    assert store.silent() == {"Host x": 1.0}
    store.set_silent("Host x", None)
    assert store.silent() == {}


@pytest.mark.parametrize("content", [b"no database at all, but long enough for one" * 99, bytes(range(256)) * 99])
def test_store_that_is_broken_is_set_aside_and_begun_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "alerts.db"
    path.write_bytes(content)
    (tmp_path / "alerts.db-wal").write_bytes(content)
    assert Store(path).add(body(), 1.0)
    assert (tmp_path / "alerts.db.broken").read_bytes() == content
    assert f"{path} is broken" in caplog.text
    assert Store(path).channels() == ["#a"]


def test_store_with_a_spoilt_page_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "alerts.db"
    store = Store(path)
    store.add(body(), 1.0)
    store.connection.close()
    # The first page has the tables.
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 3996 + path.read_bytes()[4096:])
    assert Store(path).channels() == []


def test_store_that_is_locked_or_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    path = tmp_path / "alerts.db"
    Store(path).add(body(), 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "connect", staticmethod(full))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            Store(path)
    assert Store(path).channels() == ["#a"]
