"""What the service must not forget: alerts on their way, messages that are there, buttons that were pressed. SQLite."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from airfield_slack.button import Try

log = logging.getLogger(__name__)

# States of an alert: waiting; sending; sent; doubt, when nobody knows whether Slack has it, and noticed, once the channel has
# been told of that; folded into a summary; dropped.
SCHEMA = """
create table if not exists alert (
  number integer primary key,
  key text not null unique,
  body text not null,
  channel text not null,
  -- The try that has failed for good, as JSON; null for all else.
  failure text,
  received real not null,
  state text not null default 'waiting',
  settled real,
  -- Where its message is: Slack wants its own id of the channel for changes.
  place text,
  ts text
) strict;
create index if not exists alert_state on alert (state, channel, number);
create index if not exists alert_failure on alert (failure);
-- The first message of a task's failures, under which the others go.
create table if not exists thread (
  channel text not null,
  subject text not null,
  ts text not null,
  at real not null,
  primary key (channel, subject)
) strict;
-- The summary of a channel, while alerts are folded into it.
create table if not exists summary (
  channel text not null primary key,
  place text,
  ts text,
  since real not null,
  until real not null,
  counts text not null,
  shown integer not null
) strict;
-- One row for each try that somebody has had run again.
create table if not exists press (
  failure text not null primary key,
  person text not null,
  at real not null,
  state text not null
) strict;
-- What was said of hosts and components, so that it is said once.
create table if not exists silence (
  what text not null primary key,
  since real not null
) strict;
-- Up to when something was looked at.
create table if not exists mark (
  name text not null primary key,
  at real not null
) strict;
"""


@dataclass(frozen=True)
class Alert:
    """An alert as it is kept."""

    number: int
    body: dict[str, Any]
    channel: str
    received: float
    place: str | None = None
    ts: str | None = None


@dataclass
class Summary:
    """A message that stands for many alerts."""

    channel: str
    place: str | None
    ts: str | None
    since: float
    until: float
    counts: dict[str, int]
    # How many alerts the message in Slack speaks of.
    shown: int


def key_of(body: Mapping[str, Any]) -> str:
    """What makes an alert the same as another: a task's death may be told by its worker and by the DAG processor."""
    if body["kind"] != "task":
        return str(body["id"])
    names = ("channel", "state", "dag", "run", "task", "map_index", "try")
    return json.dumps([body[name] for name in names])


def failure_of(body: Mapping[str, Any]) -> Try | None:
    """The try that may be run again."""
    if body["kind"] != "task" or body["state"] != "failed":
        return None
    return Try(body["dag"], body["run"], body["task"], body["map_index"], body["try"])


def name_of(what: Try) -> str:
    return json.dumps(astuple(what))


class Store:
    """The file. Safe for threads; each method is one transaction."""

    def __init__(self, path: Path | str) -> None:
        self.lock = threading.RLock()
        try:
            self.connection = self.connect(path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") not in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
                raise
            aside = Path(f"{path}.broken")
            log.error("%s is broken (%s), and begun anew: it is %s now. What was not sent yet is lost.", path, error, aside)
            Path(path).replace(aside)
            for leftover in ("-wal", "-shm"):
                Path(f"{path}{leftover}").unlink(missing_ok=True)
            self.connection = self.connect(path)

    @staticmethod
    def connect(path: Path | str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            connection.executescript(SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with self.lock:
            self.connection.execute("begin immediate")
            try:
                yield self.connection
            except BaseException:
                self.connection.execute("rollback")
                raise
            self.connection.execute("commit")

    # Alerts

    def add(self, body: Mapping[str, Any], now: float) -> bool:
        """Take an alert; returns False for one that is known."""
        what = failure_of(body)
        with self.transaction() as base:
            row = base.execute(
                "insert into alert (key, body, channel, failure, received) values (?, ?, ?, ?, ?) on conflict do nothing",
                (key_of(body), json.dumps(body), body["channel"], name_of(what) if what else None, now),
            )
            return row.rowcount == 1

    def channels(self) -> list[str]:
        """Channels for which alerts wait."""
        with self.lock:
            rows = self.connection.execute("select distinct channel from alert where state = 'waiting' order by 1").fetchall()
        return [row["channel"] for row in rows]

    def waiting(self, channel: str) -> list[Alert]:
        """What waits for a channel, in order."""
        with self.lock:
            rows = self.connection.execute(
                "select * from alert where state = 'waiting' and channel = ? order by number", (channel,)
            ).fetchall()
        return [self.alert(row) for row in rows]

    @staticmethod
    def alert(row: sqlite3.Row) -> Alert:
        body = json.loads(row["body"])
        return Alert(row["number"], body, row["channel"], row["received"], row["place"], row["ts"])

    def knows(self, what: Try) -> bool:
        """Whether an alert of this failure is here, in whatever channel and state."""
        with self.lock:
            return self.connection.execute("select 1 from alert where failure = ?", (name_of(what),)).fetchone() is not None

    def messages_of(self, what: Try) -> list[Alert]:
        """The alerts of a try that have a message in Slack."""
        with self.lock:
            rows = self.connection.execute(
                "select * from alert where ts is not null and failure = ?", (name_of(what),)
            ).fetchall()
        return [self.alert(row) for row in rows]

    def set_state(self, number: int, state: str, now: float, place: str | None = None, ts: str | None = None) -> None:
        with self.transaction() as base:
            base.execute(
                "update alert set state = ?, settled = ?, place = ?, ts = ? where number = ?", (state, now, place, ts, number)
            )

    def in_state(self, state: str) -> list[Alert]:
        """All alerts in a state, in order."""
        with self.lock:
            rows = self.connection.execute("select * from alert where state = ? order by number", (state,)).fetchall()
        return [self.alert(row) for row in rows]

    def sent_since(self, channel: str, since: float) -> int:
        """How many alerts went to a channel, each with a message of its own."""
        with self.lock:
            row = self.connection.execute(
                "select count(*) from alert where channel = ? and state in ('sent', 'doubt') and settled > ?",
                (channel, since),
            ).fetchone()
        return int(row[0])

    def forget(self, before: float) -> None:
        """Remove what is settled for long, whatever it was."""
        with self.transaction() as base:
            base.execute("delete from alert where state not in ('waiting', 'sending') and settled < ?", (before,))
            base.execute("delete from thread where at < ?", (before,))
            base.execute("delete from press where at < ?", (before,))

    # Threads

    def thread(self, channel: str, subject: str, since: float) -> str | None:
        """The message under which an alert belongs, where there is one that is young enough."""
        with self.lock:
            row = self.connection.execute(
                "select ts from thread where channel = ? and subject = ? and at > ?", (channel, subject, since)
            ).fetchone()
        return row["ts"] if row else None

    def begin_thread(self, channel: str, subject: str, ts: str, now: float) -> None:
        with self.transaction() as base:
            base.execute("insert or replace into thread values (?, ?, ?, ?)", (channel, subject, ts, now))

    def end_thread(self, channel: str, subject: str) -> None:
        with self.transaction() as base:
            base.execute("delete from thread where channel = ? and subject = ?", (channel, subject))

    # Summaries

    def fold(self, alert: Alert, line: str, now: float) -> None:
        """Count an alert in its channel's summary instead of sending it."""
        with self.transaction() as base:
            row = base.execute("select * from summary where channel = ?", (alert.channel,)).fetchone()
            counts = json.loads(row["counts"]) if row else {}
            counts[line] = counts.get(line, 0) + 1
            base.execute(
                "insert into summary values (?1, null, null, ?2, ?2, ?3, 0)"
                " on conflict (channel) do update set until = ?2, counts = ?3",
                (alert.channel, now, json.dumps(counts)),
            )
            base.execute("update alert set state = 'folded', settled = ? where number = ?", (now, alert.number))

    def summaries(self) -> list[Summary]:
        with self.lock:
            rows = self.connection.execute("select * from summary order by channel").fetchall()
        return [Summary(**{**dict(row), "counts": json.loads(row["counts"])}) for row in rows]

    def show_summary(self, summary: Summary, place: str | None, ts: str | None) -> None:
        """Note that Slack shows a summary as it is given here, and where."""
        with self.transaction() as base:
            base.execute(
                "update summary set place = ?, ts = ?, shown = ? where channel = ?",
                (place, ts, sum(summary.counts.values()), summary.channel),
            )

    def end_summary(self, channel: str) -> None:
        with self.transaction() as base:
            base.execute("delete from summary where channel = ?", (channel,))

    # Buttons

    def claim(self, what: Try, person: str, now: float) -> bool:
        """Take a try to run it again; returns False where somebody has."""
        with self.transaction() as base:
            row = base.execute(
                "insert into press values (?, ?, ?, 'claimed') on conflict do nothing", (name_of(what), person, now)
            )
            return row.rowcount == 1

    def release(self, what: Try) -> None:
        """Nothing came of it: let it be pressed again."""
        with self.transaction() as base:
            base.execute("delete from press where failure = ?", (name_of(what),))

    def set_press(self, what: Try, state: str) -> None:
        with self.transaction() as base:
            base.execute("update press set state = ? where failure = ?", (state, name_of(what)))

    def presses(self, state: str) -> list[tuple[Try, str]]:
        """Tries whose running again is in this state, and who wanted it."""
        with self.lock:
            rows = self.connection.execute("select * from press where state = ? order by at", (state,)).fetchall()
        return [(Try(*json.loads(row["failure"])), row["person"]) for row in rows]

    def person(self, what: Try) -> str | None:
        """Who has had a try run again."""
        with self.lock:
            row = self.connection.execute("select person from press where failure = ?", (name_of(what),)).fetchone()
        return row["person"] if row else None

    # Silences

    def silent(self) -> dict[str, float]:
        with self.lock:
            return {row["what"]: row["since"] for row in self.connection.execute("select * from silence")}

    def set_silent(self, what: str, now: float | None) -> None:
        """Note that something is silent, or with None that it is not."""
        with self.transaction() as base:
            if now is None:
                base.execute("delete from silence where what = ?", (what,))
            else:
                base.execute("insert or ignore into silence values (?, ?)", (what, now))

    # Marks

    def mark(self, name: str) -> float | None:
        with self.lock:
            row = self.connection.execute("select at from mark where name = ?", (name,)).fetchone()
        return row["at"] if row else None

    def set_mark(self, name: str, at: float) -> None:
        with self.transaction() as base:
            base.execute("insert or replace into mark values (?, ?)", (name, at))
