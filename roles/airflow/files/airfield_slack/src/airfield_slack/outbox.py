"""Where the alerts of a host lie until they are sent: a folder with one file for each."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path("/var/lib/airflow/alerts")
# More than this is no news: the disk is needed for other things.
MOST = 20_000

log = logging.getLogger(__name__)


def folder() -> Path:
    """The folder on this host; tests have another."""
    return Path(os.environ.get("AIRFIELD_SLACK_OUTBOX", FOLDER))


def put(alert: Mapping[str, Any]) -> None:
    """Leave an alert. Costs no network and does not wait for the disk.

    :raises OSError: where there is a folder and it cannot be written to.
    """
    place = folder()
    try:
        if len(os.listdir(place)) >= MOST:
            log.error("The outbox %s is full: an alert was dropped", place)
            return
    except FileNotFoundError:
        # As on an author's own machine.
        log.warning("There is no outbox %s: an alert for %s was not sent", place, alert["channel"])
        return
    # In the order of time, by name.
    name = f"{time.time_ns():020}-{alert['id']}"
    text = json.dumps({**alert, "time": time.time(), "host": socket.gethostname()})
    temporary = place / f".{name}"
    with open(temporary, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
        stream.write(text)
    temporary.rename(place / f"{name}.json")


def waiting() -> Iterator[Path]:
    """The files of all alerts that lie here, oldest first."""
    yield from sorted(folder().glob("[0-9]*.json"))
