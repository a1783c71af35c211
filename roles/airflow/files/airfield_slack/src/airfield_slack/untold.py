"""Failures that no callback has told: Airflow 3 calls none for a task whose process was killed, for its memory say."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from airfield_slack.airflow_client import Airflow, AirflowError
from airfield_slack.button import Try
from airfield_slack.channel import channel_of
from airfield_slack.store import Store

MARK = "untold"
# Seconds between looks, and for which a callback's alert may be on its way.
PAUSE = 30.0
GRACE = 120.0
# Seconds that are looked at again: when a task ends, and when Airflow hears of it, are two moments.
OVERLAP = 600.0
REASON = "No callback has told it: the process was killed, or somebody has marked the task as failed. Its log may say more."

log = logging.getLogger(__name__)


@dataclass
class Untold:
    """Alerts the channel of their DAG. One thread calls `step`."""

    store: Store
    airflow: Airflow
    # Where no alerts are wanted but of DAGs that ask for them, this is empty, and nothing is looked for.
    channel: str
    # Airflow's, for people.
    base_url: str
    clock: Callable[[], float] = time.time
    page: Callable[[str, Try], str] | None = None
    next_look: float = field(default=0.0)

    def step(self) -> None:
        now = self.clock()
        if not self.channel or now < self.next_look:
            return
        self.next_look = now + PAUSE
        # What failed before there were alerts is no news.
        mark = self.store.mark(MARK) or now + OVERLAP
        try:
            for found in self.airflow.failures(mark - OVERLAP, now - GRACE):
                what = Try(found["dag_id"], found["dag_run_id"], found["task_id"], found["map_index"], found["try_number"])
                if not self.store.knows(what):
                    self.tell(what, found)
        except AirflowError as error:
            log.warning("What has failed is not known now: %s", error)
            return
        self.store.set_mark(MARK, max(mark, now - GRACE))

    def tell(self, what: Try, found: dict[str, Any]) -> None:
        dag = self.airflow.dag(what.dag) or {}
        values = {name: param.get("value") for name, param in (dag.get("params") or {}).items()}
        channel = channel_of((tag["name"] for tag in dag.get("tags", ())), values, self.channel)
        if not channel:
            return
        alert: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "kind": "task",
            "channel": channel,
            "state": "failed",
            "dag": what.dag,
            "run": what.run,
            "logical_date": found["logical_date"],
            "task": what.task,
            "map_index": what.map_index,
            "try": what.number,
            "tries": found["max_tries"] + 1,
            "reason": REASON,
            "log_url": (self.page or log_url)(self.base_url, what),
            "host": found["hostname"] or "",
            "time": datetime.fromisoformat(found["end_date"]).astimezone(UTC).timestamp(),
        }
        self.store.add(alert, self.clock())


def log_url(base_url: str, what: Try) -> str:
    """The page with the log of a try, as Airflow's `log_url` has it for callbacks."""
    dag, run, task = (quote(name, safe="") for name in (what.dag, what.run, what.task))
    index = f"/mapped/{what.map_index}" if what.map_index >= 0 else ""
    return f"{base_url.rstrip('/')}/dags/{dag}/runs/{run}/tasks/{task}{index}?try_number={what.number}"


def log_url_2(base_url: str, what: Try) -> str:
    """The same of Airflow 2, whose page shows the last try first."""
    dag, run, task = (quote(name, safe="") for name in (what.dag, what.run, what.task))
    index = f"&map_index={what.map_index}" if what.map_index >= 0 else ""
    return f"{base_url.rstrip('/')}/dags/{dag}/grid?dag_run_id={run}&task_id={task}{index}&tab=logs"
