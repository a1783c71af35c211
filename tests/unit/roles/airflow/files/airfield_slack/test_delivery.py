"""Alerts arrive in Slack, here its stand-in with Slack's rules: in order, not too many, each at most once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import slack_cloud
from airfield_slack import button, delivery, message
from airfield_slack.delivery import Delivery, Limits
from airfield_slack.forward import OLD
from airfield_slack.store import Store
from slack_sdk import WebClient

KEY = "key of the cluster"
TASK = {"kind": "task", "state": "failed", "dag": "sales", "run": "r", "task": "load", "map_index": -1, "try": 1, "tries": 1}

MISSING = ":grey_question: Slack did not answer: this may be missing above"


class Way:
    """From the store to the stand-in, with one clock for both."""

    def __init__(self, path: Path, cloud: slack_cloud.SlackCloud, timeout: int = 30) -> None:
        self.path, self.cloud, self.count = path, cloud, 0
        self.now = 1_000_000.0
        self.start(timeout)

    def start(self, timeout: int = 30) -> None:
        client = WebClient(self.cloud.bot_token, base_url=self.cloud.url, retry_handlers=[], timeout=timeout)
        self.store = Store(self.path)
        self.delivery = Delivery(self.store, client, ZoneInfo("Asia/Seoul"), KEY, Limits(5, 300.0), lambda: self.now)
        self.delivery.recover()

    def put(self, **changes: Any) -> None:
        self.count += 1
        body = {**TASK, "id": str(self.count), "channel": "#data-alerts", "task": f"task{self.count}", "time": self.now}
        rest = {"logical_date": None, "reason": "", "log_url": "http://web1:8080/log", "host": "worker1"}
        self.store.add({**body, **rest, **changes}, self.now)

    def go(self, seconds: float) -> None:
        """Let the time pass, with a step wherever one is wanted."""
        end = self.now + seconds
        while self.now < end:
            self.now += min(self.delivery.step(), end - self.now)
        self.delivery.step()

    def texts(self, channel: str = "data-alerts") -> list[str]:
        return [found.text.split("Failed: ")[-1] for found in self.cloud.messages(channel)]

    def statuses(self) -> list[int | None]:
        return [request.status for request in self.cloud.requests]


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    found: list[Way] = []

    def clock() -> float:
        return found[0].now if found else 1_000_000.0

    with slack_cloud.SlackCloud(channels=("data-alerts", "other"), clock=clock) as cloud:
        found.append(Way(tmp_path / "alerts.db", cloud))
        yield found[0]


def test_alerts_arrive_in_order_and_no_faster_than_slack_allows(way: Way) -> None:
    for _ in range(5):
        way.put()
    way.go(1.0)
    assert len(way.texts()) == 1
    way.go(30)
    assert way.texts() == [f"sales.task{number}" for number in range(1, 6)]
    assert way.statuses() == [200] * 5


def test_channels_do_not_wait_for_each_other(way: Way) -> None:
    for channel in ("#data-alerts", "#other"):
        way.put(channel=channel)
    way.delivery.step()
    assert (len(way.texts()), len(way.texts("other"))) == (1, 1)


def test_channel_that_does_not_work_stops_no_other_and_gets_its_alerts_once_it_does(way: Way) -> None:
    way.put(channel="#unknown")
    way.put()
    way.go(200)
    assert way.texts() == ["sales.task2"]
    way.cloud.add_channel("unknown")
    way.go(delivery.RETRY_MOST + 5)
    assert way.texts("unknown") == ["sales.task1"]


def test_message_has_a_button_that_stands_for_its_try(way: Way) -> None:
    way.put(map_index=2)
    way.go(1)
    (found,) = way.cloud.messages("data-alerts")
    (actions,) = [block for block in found.attachments[0]["blocks"] if block["type"] == "actions"]
    (value,) = [element["value"] for element in actions["elements"] if element["action_id"] == message.RETRY]
    assert button.verify(KEY, value, way.now) == button.Try("sales", "r", "task1", 2, 1)
    with pytest.raises(button.ForgedError):
        button.verify(KEY, value, way.now + delivery.BUTTON + 1)


@pytest.mark.parametrize("change", [{"state": "success"}, {"state": "up_for_retry"}, {"kind": "run"}])
def test_what_cannot_be_run_again_has_no_button(way: Way, change: dict[str, str]) -> None:
    way.put(**change)
    way.go(1)
    (found,) = way.cloud.messages("data-alerts")
    assert message.RETRY not in str(found.attachments)


def test_failures_of_one_task_are_under_the_first(way: Way) -> None:
    for run in ("r1", "r2", "r3"):
        way.put(task="load", run=run)
    way.put(task="other")
    way.go(30)
    first, second, third, other = way.cloud.messages("data-alerts")
    assert (first.thread_ts, second.thread_ts, third.thread_ts, other.thread_ts) == (None, first.ts, first.ts, None)


@pytest.mark.parametrize("end", ["success", "retry", "a day"])
def test_thread_ends(way: Way, end: str) -> None:
    way.put(task="load", run="r1")
    way.go(5)
    if end == "success":
        way.put(task="load", run="r2", state="success")
    if end == "retry":
        way.delivery.end_threads(button.Try("sales", "r1", "load", -1, 1))
    way.go(delivery.THREAD + 1 if end == "a day" else 5)
    way.put(task="load", run="r3")
    way.go(5)
    assert [found.thread_ts for found in way.cloud.messages("data-alerts")] == [None] * (3 if end == "success" else 2)


def test_hundred_failures_at_once_are_five_messages_and_a_summary(way: Way) -> None:
    for number in range(100):
        way.put(dag="sales" if number < 60 else "stock", task="load", map_index=number)
    way.go(60)
    texts = way.texts()
    assert texts[:5] == [f"sales.load[{number}]" for number in range(5)]
    assert len(texts) == 6
    summary = way.cloud.messages("data-alerts")[-1]
    assert summary.text.startswith(":red_circle: 95 more alerts between ")
    assert 429 not in way.statuses()
    way.put(task="late")
    way.go(60)
    summary = way.cloud.messages("data-alerts")[-1]
    assert (len(way.texts()), summary.updates) == (6, 1)
    assert summary.text.startswith(":red_circle: 96 more alerts between ")
    assert "1 x :red_circle: Failed: sales.late" in str(summary.attachments)


def test_thread_is_as_old_as_its_first_message(way: Way) -> None:
    for run in ("r1", "r2", "r3"):
        way.put(task="load", run=run)
        way.go(0.6 * delivery.THREAD)
    first, second, third = way.cloud.messages("data-alerts")
    assert (first.thread_ts, second.thread_ts, third.thread_ts) == (None, first.ts, None)


def test_flood_is_one_of_its_channel_alone(way: Way) -> None:
    for _ in range(7):
        way.put()
    way.put(channel="#other")
    way.go(30)
    way.put(channel="#other")
    way.go(30)
    assert way.texts("other") == ["sales.task8", "sales.task9"]


def test_alerts_of_the_last_minutes_count_for_the_flood(way: Way) -> None:
    for _ in range(6):
        way.put()
        way.go(50)
    assert len(way.texts()) == 6
    assert way.cloud.messages("data-alerts")[-1].text.startswith(":red_circle: 1 more alert between ")


def test_summary_waits_for_what_came_before(way: Way) -> None:
    for _ in range(20):
        way.put()
    way.go(3)
    assert way.texts()[-1].startswith("sales.task")
    way.go(10)
    assert "15 more alerts" in way.texts()[-1]


def test_summary_is_not_changed_all_the_time(way: Way) -> None:
    for _ in range(60):
        way.put()
        way.go(1)
    way.go(delivery.UPDATE_INTERVAL + 1)
    summary = way.cloud.messages("data-alerts")[-1]
    assert "55 more alerts" in summary.text
    assert 8 <= summary.updates <= 12


def test_summary_ends_with_the_flood(way: Way) -> None:
    for _ in range(7):
        way.put()
    way.go(60)
    way.go(way.delivery.limits.window + 10)
    way.put(task="later")
    way.go(10)
    assert way.texts()[-1] == "sales.later"
    assert len(way.texts()) == 7


@pytest.mark.parametrize("fault", ["refuse", "error", "ratelimit"])
def test_outage_of_ten_minutes_costs_no_alert_and_doubles_none(way: Way, fault: str) -> None:
    way.cloud.fault(fault)
    for _ in range(4):
        way.put()
        way.go(150)
    assert way.texts() == []
    way.cloud.heal()
    way.go(delivery.RETRY_MOST + 30)
    assert way.texts() == [f"sales.task{number}" for number in range(1, 5)]


def test_retry_after_is_honoured(way: Way) -> None:
    way.cloud.fault("ratelimit", retry_after=40)
    way.put()
    way.delivery.step()
    way.cloud.heal()
    way.go(39)
    assert len(way.cloud.requests) == 1
    way.go(2)
    assert way.texts() == ["sales.task1"]


@pytest.mark.parametrize("fault", ["slow", "hang"])
def test_what_slack_may_have_is_not_sent_again(way: Way, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    way.start(timeout=1)
    way.put()
    with way.cloud.fault(fault):
        way.delivery.step()
    way.go(600)
    way.put()
    way.go(10)
    assert way.texts() == (["sales.task1"] if fault == "slow" else []) + [MISSING, "sales.task2"]
    notice = way.cloud.messages("data-alerts")[-2]
    assert notice.attachments[0]["blocks"][0]["text"]["text"] == ":red_circle: Failed: sales.task1"
    assert "Nobody knows whether Slack has alert :red_circle: Failed: sales.task1" in caplog.text


def test_what_was_on_its_way_when_the_service_was_killed_is_not_sent_again(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    way.put()
    way.put()
    way.store.set_state(way.store.waiting("#data-alerts")[0].number, "sending", way.now)
    way.start()
    way.go(10)
    assert way.texts() == ["sales.task2", MISSING]
    assert "this service ended meanwhile" in caplog.text


def test_notice_of_what_may_be_missing_waits_for_slack_and_is_one(way: Way) -> None:
    way.start(timeout=1)
    for _ in range(2):
        way.put()
    with way.cloud.fault("hang"):
        way.go(5)
    way.put()
    way.cloud.fault("error")
    way.go(600)
    assert way.texts() == []
    way.cloud.heal()
    way.go(600)
    assert way.texts() == ["sales.task3", MISSING]
    notice = way.cloud.messages("data-alerts")[-1].attachments[0]["blocks"][0]["text"]["text"]
    assert notice.splitlines() == [f":red_circle: Failed: sales.task{number}" for number in (1, 2)]


def test_notice_that_slack_may_have_is_not_sent_again(way: Way) -> None:
    way.start(timeout=1)
    way.put()
    with way.cloud.fault("hang"):
        way.go(1)
    with way.cloud.fault("slow"):
        way.go(5)
    way.go(600)
    assert way.texts() == [MISSING]


class KilledError(BaseException):
    """As a process ends that is killed: nothing catches it."""


@pytest.mark.parametrize("arrived", [True, False])
def test_alert_with_which_the_service_was_killed_is_not_sent_again(
    way: Way, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    call = WebClient.api_call

    def killed(client: WebClient, method: str, **arguments: Any) -> None:
        if arrived:
            call(client, method, **arguments)
        raise KilledError

    way.put()
    with monkeypatch.context() as patch:
        patch.setattr(WebClient, "api_call", killed)
        with pytest.raises(KilledError):
            way.delivery.step()
    way.start()
    way.go(60)
    assert way.texts() == ["sales.task1"] * arrived + [MISSING]


def test_alert_of_yesterday_is_dropped_with_a_word(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    way.cloud.fault("refuse")
    way.put()
    way.go(1)
    way.now += OLD + 60
    way.cloud.heal()
    way.go(60)
    assert way.texts() == []
    assert "Alert :red_circle: Failed: sales.task1 for #data-alerts was dropped: it is 24 hours old" in caplog.text


def test_message_is_changed_in_place(way: Way) -> None:
    way.put()
    way.go(1)
    (alert,) = way.store.messages_of(button.Try("sales", "r", "task1", -1, 1))
    assert way.delivery.update(alert, ["run again by <@U1>"])
    (found,) = way.cloud.messages("data-alerts")
    assert found.updates == 1
    assert "run again by <@U1>" in str(found.attachments)
    assert message.RETRY not in str(found.attachments)
    way.cloud.fault("error")
    assert not way.delivery.update(alert, ["again"])


def test_longest_alert_is_taken_and_can_be_changed(way: Way) -> None:
    way.put(dag="d" * 250, run="r" * 250, task="t" * 250, reason="<" * 500, log_url="http://web1/" + "x" * 1500)
    way.go(1)
    what = button.Try("d" * 250, "r" * 250, "t" * 250, -1, 1)
    (alert,) = way.store.messages_of(what)
    assert way.delivery.update(alert, ["note"])
