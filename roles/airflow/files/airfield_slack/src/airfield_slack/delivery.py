"""Alerts on their way to Slack: not too many, not too fast, each at most once.

At most once means: what Slack may have got is not sent again. A status of 500 and above counts as not got.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from zoneinfo import ZoneInfo

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from airfield_slack import button, message
from airfield_slack.forward import OLD
from airfield_slack.store import Alert, Store, Summary, failure_of

# Slack takes one message a second for a channel; its clock is not ours.
INTERVAL = 1.05
# Seconds between changes of one message: Slack takes about 50 a minute, of all messages.
UPDATE_INTERVAL = 5.0
# Seconds until a channel is tried again that did not work: the first time, and at most.
RETRY_FIRST = 2.0
RETRY_MOST = 60.0
# For how long failures of a task belong under the first, in seconds.
THREAD = 86_400.0
# Seconds until a button no longer works.
BUTTON = 7 * 86_400.0

log = logging.getLogger(__name__)


@dataclass
class Limits:
    """More alerts than `alerts` in `window` seconds become one summary."""

    alerts: int = 10
    window: float = 300.0


@dataclass
class Channel:
    """When a channel may be written to next, and why not before."""

    free_at: float = 0.0
    pause: float = 0.0
    problem: str = ""


@dataclass
class Delivery:
    """Sends what waits in the store. One thread calls `step`."""

    store: Store
    client: WebClient
    zone: ZoneInfo
    # Signs buttons; empty, there are none.
    key: str = ""
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time
    channels: dict[str, Channel] = field(default_factory=dict)

    def recover(self) -> None:
        """After a start: what the process before had begun to send may be there."""
        # Sent or not, it is not sent again.
        for alert in self.store.in_state("sending"):
            self.doubt(alert, "this service ended meanwhile")

    def doubt(self, alert: Alert, why: str) -> None:
        log.error("Nobody knows whether Slack has alert %s (%s): it is not sent again", message.title(alert.body), why)
        self.store.set_state(alert.number, "doubt", self.clock())

    def step(self) -> float:
        """Send to each channel what may be sent now; returns the seconds until there is more to do, at most 1."""
        now = self.clock()
        for name in self.store.channels():
            self.drop_old(name, now)
            self.fold(name, now)
            waiting = self.store.waiting(name)
            if waiting and now >= self.channel(name).free_at:
                self.send(waiting[0])
        for summary in self.store.summaries():
            if now >= self.channel(summary.channel).free_at and not self.store.waiting(summary.channel):
                self.show(summary, now)
        doubts: dict[str, list[Alert]] = {}
        for alert in self.store.in_state("doubt"):
            doubts.setdefault(alert.channel, []).append(alert)
        for name, alerts in doubts.items():
            if now >= self.channel(name).free_at:
                self.notice(name, alerts, now)
        soonest = [self.channel(name).free_at for name in self.store.channels()]
        return max(0.02, min([1.0, *(at - self.clock() for at in soonest)]))

    def channel(self, name: str) -> Channel:
        return self.channels.setdefault(name, Channel())

    def drop_old(self, name: str, now: float) -> None:
        for alert in self.store.waiting(name):
            age = now - alert.body["time"]
            if age > OLD:
                log.error("Alert %s for %s was dropped: it is %.0f hours old", message.title(alert.body), name, age / 3600)
                self.store.set_state(alert.number, "dropped", now)

    def fold(self, name: str, now: float) -> None:
        """Count in a summary what is too much for a message each. The oldest ones have a message."""
        sent = self.store.sent_since(name, now - self.limits.window)
        waiting = self.store.waiting(name)
        since = [summary.since for summary in self.store.summaries() if summary.channel == name]
        if since:
            much = [alert for alert in waiting if alert.received > since[0]]
        else:
            much = waiting[max(0, self.limits.alerts - sent) :]
        for alert in much:
            self.store.fold(alert, message.title(alert.body), now)

    def end_threads(self, what: button.Try) -> None:
        """Let the next failure of a task be a message of its own."""
        for alert in self.store.messages_of(what):
            self.store.end_thread(alert.channel, self.subject(alert))

    def subject(self, alert: Alert) -> str:
        """What an alert is about, for threads; empty where it stands alone."""
        body = alert.body
        return f"{body['dag']}.{body['task']}" if body["kind"] == "task" else ""

    def send(self, alert: Alert) -> None:
        """Post one alert. The store knows before that it may be there."""
        body, subject, now = alert.body, self.subject(alert), self.clock()
        thread = self.store.thread(alert.channel, subject, now - THREAD) if subject and body["state"] != "success" else None
        content = message.build(body, self.zone, self.button(body))
        self.store.set_state(alert.number, "sending", now)
        answer = self.call(alert.channel, "chat.postMessage", channel=alert.channel, thread_ts=thread, **content)
        if answer is None:
            self.store.set_state(alert.number, "waiting", now)
        elif not answer:
            self.doubt(alert, "it did not answer")
        else:
            self.store.set_state(alert.number, "sent", self.clock(), answer["channel"], answer["ts"])
            if subject and body["state"] == "success":
                self.store.end_thread(alert.channel, subject)
            elif subject and thread is None:
                self.store.begin_thread(alert.channel, subject, answer["ts"], now)

    def button(self, body: dict[str, Any]) -> str:
        """The value of the *Retry* button, for the last try of a task that has failed."""
        what = failure_of(body)
        if what is None or not self.key:
            return ""
        try:
            return button.sign(self.key, what, self.clock() + BUTTON)
        except ValueError as error:
            log.warning("An alert has no button: %s", error)
            return ""

    def show(self, summary: Summary, now: float) -> None:
        """Post a summary or bring it up to date, and end it when the flood is over."""
        if summary.shown < sum(summary.counts.values()):
            content = message.summary(summary.counts, summary.since, summary.until, self.zone)
            if summary.ts is None:
                answer = self.call(summary.channel, "chat.postMessage", channel=summary.channel, **content)
            else:
                answer = self.call(summary.channel, "chat.update", channel=summary.place, ts=summary.ts, **content)
                self.hold(summary.channel, UPDATE_INTERVAL)
            # One that may be there and whose place is unknown cannot be changed: what comes is a new one.
            if answer:
                self.store.show_summary(summary, answer["channel"], answer["ts"])
            elif answer is not None and summary.ts is None:
                total = sum(summary.counts.values())
                log.error("Nobody knows whether Slack has a summary of %d alerts for %s", total, summary.channel)
                self.store.end_summary(summary.channel)
        elif now - summary.until > self.limits.window:
            self.store.end_summary(summary.channel)

    def notice(self, name: str, alerts: list[Alert], now: float) -> None:
        """Say which alerts a channel may lack. Like them it is sent once."""
        content = message.missing([message.title(alert.body) for alert in alerts])
        answer = self.call(name, "chat.postMessage", channel=name, **content)
        if answer is not None:
            for alert in alerts:
                self.store.set_state(alert.number, "noticed", now)

    def update(self, alert: Alert, notes: list[str], retry: str = "") -> bool:
        """Change an alert's message; returns False where that must be tried again."""
        content = message.build(alert.body, self.zone, retry, notes)
        return bool(self.call(alert.channel, "chat.update", channel=alert.place, ts=alert.ts, **content))

    def hold(self, name: str, seconds: float) -> None:
        """Leave a channel alone for some time."""
        channel = self.channel(name)
        channel.free_at = max(channel.free_at, self.clock() + seconds)

    def call(self, name: str, method: str, **arguments: Any) -> dict[str, Any] | None:
        """Slack's answer; None where it surely did nothing, and an empty one where nobody knows."""
        self.hold(name, INTERVAL)
        try:
            given = {key: value for key, value in arguments.items() if value is not None}
            answer = self.client.api_call(method, json=given)
        except SlackApiError as error:
            self.put_off(name, *self.reason(error))
            return None
        except URLError as error:
            # urllib's word for what goes wrong before the request is out.
            self.put_off(name, str(error.reason))
            return None
        except (OSError, HTTPException) as error:
            self.put_off(name, f"{type(error).__name__} {error}".strip())
            return {}
        channel = self.channel(name)
        if channel.problem:
            log.info("Slack takes messages for %s again", name)
        channel.pause, channel.problem = 0.0, ""
        data = answer.data
        return data if isinstance(data, dict) else {}

    @staticmethod
    def reason(error: SlackApiError) -> tuple[str, float]:
        """Why Slack refused, and for how many seconds it is to be left alone."""
        response = error.response
        wait = float(response.headers.get("Retry-After", 0)) if response.status_code == 429 else 0.0
        return str(response.get("error") or f"status {response.status_code}"), wait

    def put_off(self, name: str, problem: str, wait: float = 0.0) -> None:
        """Leave a channel alone for longer each time, but for what Slack itself asks for."""
        channel = self.channel(name)
        channel.pause = wait or min(RETRY_MOST, max(RETRY_FIRST, 2 * channel.pause))
        self.hold(name, channel.pause)
        if problem != channel.problem:
            log.warning("Slack takes no message for %s (%s): alerts wait", name, problem)
        channel.problem = problem
