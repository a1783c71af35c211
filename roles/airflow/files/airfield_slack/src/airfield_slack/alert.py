"""What a DAG's author writes: callbacks that alert a channel."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from airfield_guard.environment import redact

from airfield_slack import outbox

# What is shown of an exception, in characters.
REASON = 500
# Airflow 3 says nothing more of a task that it misses.
LOST = "Airflow has lost the task's process, or its host. Its log may say more."

log = logging.getLogger(__name__)


class SlackAlert:
    """Callbacks that alert a channel: `failure`, `success` and `retry`.

    Use them where Airflow takes callbacks, for a task, for `default_args` or for a DAG. A callback costs milliseconds: it
    writes a file, and another process sends it. It never raises.

    :param channel: name of the channel, `#` included, or its id. The bot must be a member of it.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def failure(self, context: Mapping[str, Any]) -> None:
        """For `on_failure_callback`, which Airflow calls when no try is left."""
        self.put("failed", context)

    def success(self, context: Mapping[str, Any]) -> None:
        """For `on_success_callback`."""
        self.put("success", context)

    def retry(self, context: Mapping[str, Any]) -> None:
        """For `on_retry_callback`: a try has failed and there will be another."""
        self.put("up_for_retry", context)

    def put(self, state: str, context: Mapping[str, Any]) -> None:
        """Leave an alert in the outbox of this host."""
        try:
            outbox.put(describe(self.channel, state, context))
        except Exception:
            # An alert must not cost a task its outcome.
            log.exception("The alert for %s was lost", self.channel)


def describe(channel: str, state: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """An alert, ready for JSON, of the context that Airflow 3 or 2.11 gives to a callback."""
    # Airflow 3 has none for a run that somebody has started without one, and tells none of a run whose end no task has made.
    logical_date = context.get("logical_date")
    alert: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "kind": "task",
        "channel": channel,
        "state": state,
        # These two are in every context; a task instance is not.
        "dag": context["dag"].dag_id,
        "run": context["run_id"],
        "logical_date": logical_date.isoformat() if isinstance(logical_date, datetime) else None,
    }
    if "reason" in context:
        # Only the callback of a whole DAG has one; what it may have of a task instance is the last one's, and in part.
        return alert | {"kind": "run", "reason": redact(str(context["reason"] or "")), "log_url": run_url(alert)}
    ti = context["ti"]
    return alert | {
        "task": ti.task_id,
        "map_index": number(ti, "map_index", -1),
        "try": number(ti, "try_number", 1),
        "tries": number(ti, "max_tries", 0) + 1,
        "reason": words_of(context.get("exception")) or ("" if state == "success" else LOST),
        "log_url": str(getattr(ti, "log_url", None) or ""),
    }


def number(ti: Any, name: str, default: int) -> int:
    """An attribute that not every context's task instance has."""
    value = getattr(ti, name, None)
    return value if isinstance(value, int) else default


def words_of(exception: Any) -> str:
    """An exception in one short text; Airflow 2.11 gives some as texts."""
    if exception is None:
        return ""
    text = str(exception)
    if isinstance(exception, BaseException):
        text = f"{type(exception).__name__}: {text}" if text else type(exception).__name__
    # Before it is cut, which would leave half a secret.
    text = redact(text)
    return text if len(text) <= REASON else text[: REASON - 1] + "…"


def run_url(alert: Mapping[str, Any]) -> str:
    """The page of a run of a DAG."""
    from airflow import __version__
    from airflow.configuration import conf

    dag, run = quote(alert["dag"], safe=""), quote(alert["run"], safe="")
    if __version__.startswith("2."):
        return conf.get("webserver", "base_url") + f"/dags/{dag}/grid?dag_run_id={run}"
    # The fallback is what `log_url` of a task instance has.
    return conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/") + f"/dags/{dag}/runs/{run}"
