"""Bring this host's alerts to Redis, where the service on another host takes them: unit airflow-alerts.service.

Also says every `BEAT` seconds that the host is alive. Redis may be away as long as it likes: alerts wait in their folder.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time

import redis

from airfield_slack import outbox

# Keys, shared with the service.
ALERTS = "airfield:alerts"
HOST = "airfield:host:"
# Seconds between looks at the folder, and between signs of life.
PAUSE = 1.0
BEAT = 30.0
# Seconds after which a sign of life is none any more.
ALIVE = 180
# Seconds after which an alert is no news.
OLD = 86_400

log = logging.getLogger(__name__)


class Forwarder:
    """What the unit does, one step at a time."""

    def __init__(self, broker: redis.Redis, name: str = "") -> None:
        self.broker = broker
        self.name = name or socket.gethostname()
        self.beaten = float("-inf")

    def step(self) -> None:
        """Forward what is there.

        :raises redis.RedisError: where Redis does not take it; it is left in the folder.
        """
        if time.monotonic() - self.beaten >= BEAT:
            self.broker.set(HOST + self.name, int(time.time()), ex=ALIVE)
            self.beaten = time.monotonic()
        for path in outbox.waiting():
            try:
                text = path.read_text(encoding="utf-8")
                alert = json.loads(text)
                age = time.time() - alert["time"]
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError, RecursionError):
                # Written by somebody else, or cut off by a full disk or a power cut.
                log.error("%s is no alert and was removed", path)
                path.unlink()
                continue
            if age > OLD:
                log.error("An alert for %s was dropped, as it is %.0f hours old: %s", alert.get("channel"), age / 3600, text)
            else:
                # Twice where this process ends before the next line: the service knows it by its id.
                self.broker.lpush(ALERTS, text)
            path.unlink()


def main() -> None:
    """Until SIGTERM. The first argument is the host's name in the inventory."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Not for ever where a connection hangs.
    broker = redis.Redis.from_url(os.environ["AIRFIELD_SLACK_BROKER_URL"], socket_timeout=10, socket_connect_timeout=10)
    forwarder = Forwarder(broker, *sys.argv[1:])
    works = True
    while not stop.wait(PAUSE if works else 5 * PAUSE):
        try:
            forwarder.step()
            if not works:
                log.info("Redis takes alerts again")
            works = True
        except redis.RedisError as error:
            if works:
                log.warning("Redis takes no alerts (%s): they wait in %s", error, outbox.folder())
            works = False


if __name__ == "__main__":
    main()
