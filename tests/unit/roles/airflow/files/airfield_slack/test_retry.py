"""A press runs one task instance again, once, for those who may."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airfield_slack.airflow_client import AirflowError
from airfield_slack.button import Try, sign
from airfield_slack.retry import PAUSE, Retry
from airfield_slack.store import Alert, Store

KEY = "key of the cluster"
WHAT = Try("sales", "r", "load", -1, 2)
BODY = {"id": "1", "kind": "task", "channel": "#a", "state": "failed", "dag": "sales", "run": "r", "task": "load"}


class Cluster:
    """Airflow and Slack as far as a press goes."""

    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.zone = ZoneInfo("UTC")
        self.store = Store(path)
        self.editors = {"alice": {"sales"}, "bob": set[str]()}
        self.instance: dict[str, Any] | None = {"state": "failed", "try_number": 2}
        self.notes: list[str] = []
        self.messages: list[str] = []
        self.ended: list[Try] = []
        self.fails: set[str] = set()
        everything: Any = self
        people = {"U1": "alice", "U2": "bob"}
        self.retry = Retry(self.store, everything, everything, KEY, people, lambda: self.now)
        self.store.add({**BODY, "map_index": -1, "try": 2}, self.now)
        self.store.set_state(1, "sent", self.now, "C1", "1.1")

    def check(self, name: str) -> None:
        if name in self.fails:
            raise AirflowError(f"{name} fails.")

    def may_edit(self, username: str, dag: str) -> bool:
        self.check("may_edit")
        return dag in self.editors[username]

    def task_instance(self, what: Try) -> dict[str, Any] | None:
        self.check("task_instance")
        return self.instance

    def clear(self, what: Try, note: str) -> int:
        self.check("clear")
        assert what == WHAT
        self.notes.append(note)
        self.instance = {"state": None, "try_number": 2}
        return 1

    def end_threads(self, what: Try) -> None:
        self.ended.append(what)

    def update(self, alert: Alert, notes: list[str]) -> bool:
        if "update" in self.fails:
            return False
        self.messages += notes
        return True

    def press(self, person: str = "U1", value: object = None, name: str = "Alice A.") -> str:
        actions = [{"value": sign(KEY, WHAT, 2000.0) if value is None else value}]
        return self.retry.handle({"user": {"id": person, "username": name}, "actions": actions})

    def look(self) -> None:
        self.now += PAUSE
        self.retry.step()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "alerts.db")


def test_task_runs_again_and_the_message_says_for_whom_and_what_came_of_it(cluster: Cluster) -> None:
    assert cluster.press() == ""
    assert cluster.notes == ["Retried from Slack by Alice A. (U1), Airflow user alice"]
    cluster.look()
    assert cluster.messages == [":arrows_counterclockwise: <@U1> has had it run again at 1970-01-01 00:16:43 UTC"]
    for cluster.instance in ({"state": "queued", "try_number": 2}, {"state": "running", "try_number": 3}):
        cluster.look()
    assert len(cluster.messages) == 1
    cluster.instance = {"state": "success", "try_number": 3}
    cluster.look()
    cluster.look()
    assert cluster.ended == [WHAT]
    assert cluster.messages[1:] == [":white_check_mark: It succeeded at 1970-01-01 00:16:52 UTC, run again by <@U1>"]


@pytest.mark.parametrize(
    ("instance", "words"),
    [({"state": "failed", "try_number": 3}, ":x: It ended again as failed"), (None, ":x: It ended again as removed")],
)
def test_other_ends_are_told_too(cluster: Cluster, instance: dict[str, Any] | None, words: str) -> None:
    cluster.press()
    cluster.instance = instance
    cluster.look()
    assert cluster.messages[1].startswith(words)
    assert cluster.ended == []


def test_second_press_changes_nothing(cluster: Cluster) -> None:
    cluster.press()
    for person in ("U1", "U2"):
        assert cluster.press(person) == "<@U1> has had this try run again already. Nothing was changed."
    assert len(cluster.notes) == 1


def test_hundred_presses_at_once_are_one(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    # All look before the first one is through.
    monkeypatch.setattr(cluster, "task_instance", lambda what: {"state": "failed", "try_number": 2})
    barrier = threading.Barrier(100)
    answers = []

    def press() -> None:
        barrier.wait()
        answers.append(cluster.press())

    threads = [threading.Thread(target=press) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(cluster.notes), answers.count("")) == (1, 1)


@pytest.mark.parametrize(
    ("person", "value", "answer"),
    [
        ("U3", None, "Airflow does not know you (U3). Ask its operators to add you to airflow_slack_users."),
        ("U2", None, "Airflow's user bob may not edit DAG sales. Nothing was changed."),
        ("U1", "x.y", "This button does not work: it was not made here. Nothing was changed."),
        ("U1", sign("another key", WHAT, 2000.0), "This button does not work: it was not made here. Nothing was changed."),
        ("U1", sign(KEY, WHAT, 900.0), "This button does not work: it is too old. Nothing was changed."),
    ],
)
def test_who_may_not_is_told_so_and_changes_nothing(cluster: Cluster, person: str, value: object, answer: str) -> None:
    assert cluster.press(person, value) == answer
    assert (cluster.notes, cluster.store.person(WHAT)) == ([], None)


def test_press_of_several_buttons_is_none(cluster: Cluster) -> None:
    value = sign(KEY, WHAT, 2000.0)
    body = {"user": {"id": "U1"}, "actions": [{"value": value}, {"value": value}]}
    assert "not made here" in cluster.retry.handle(body)
    assert cluster.notes == []


@pytest.mark.parametrize(
    ("instance", "answer"),
    [
        ({"state": "failed", "try_number": 3}, "sales.load is past this try: it is now failed, try 3. Nothing was changed."),
        ({"state": "success", "try_number": 2}, "sales.load is past this try: it is now success, try 2. Nothing was changed."),
        ({"state": None, "try_number": 2}, "sales.load is past this try: it is now waiting, try 2. Nothing was changed."),
        (None, "Airflow has no sales.load in this run any more. Nothing was changed."),
    ],
)
def test_stale_button_changes_nothing(cluster: Cluster, instance: dict[str, Any] | None, answer: str) -> None:
    cluster.instance = instance
    assert cluster.press() == answer
    assert (cluster.notes, cluster.messages, cluster.store.person(WHAT)) == ([], [], None)


def test_what_airflow_does_not_clear_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "clear", lambda what, note: 0)
    assert cluster.press() == "Airflow found nothing to run again of sales.load. Nothing was changed."
    assert cluster.store.person(WHAT) is None


@pytest.mark.parametrize("fault", ["may_edit", "task_instance", "clear"])
def test_button_works_once_airflow_does(cluster: Cluster, fault: str) -> None:
    cluster.fails = {fault}
    assert cluster.press() == f"{fault} fails. Nothing was changed: try again."
    cluster.fails = set()
    assert cluster.press() == ""


def test_press_that_the_end_of_the_service_cut_off_can_be_made_again(cluster: Cluster) -> None:
    cluster.store.claim(WHAT, "U1", cluster.now)
    cluster.retry.recover()
    assert cluster.press() == ""


def test_message_is_changed_once_slack_takes_it(cluster: Cluster) -> None:
    cluster.fails = {"update"}
    cluster.press()
    cluster.look()
    cluster.fails = {"task_instance"}
    cluster.look()
    cluster.fails = set()
    cluster.instance = {"state": "success", "try_number": 3}
    cluster.look()
    assert [message.split(" ")[0] for message in cluster.messages] == [":arrows_counterclockwise:", ":white_check_mark:"]
