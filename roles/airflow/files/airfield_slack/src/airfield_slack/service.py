"""Send alerts to Slack and answer its buttons: unit airflow-slack.service, on one host of the cluster.

Non-secret settings come from a file of JSON, secrets from the environment:

- AIRFLOW_CONN_SLACK: Airflow's connection `slack` as JSON, whose password is the bot's token.
- AIRFIELD_SLACK_APP_TOKEN: for Socket Mode; empty, there are no buttons.
- AIRFIELD_SLACK_BUTTON_KEY: signs buttons.
- AIRFIELD_SLACK_BROKER_URL: Redis.
- AIRFIELD_SLACK_AIRFLOW_PASSWORD: of the service's user of Airflow.
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
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import redis
from slack_bolt import Ack, App, Respond
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from airfield_slack.airflow_client import Airflow, Airflow2
from airfield_slack.delivery import Delivery, Limits
from airfield_slack.forward import ALERTS
from airfield_slack.health_watch import HealthWatch, load, make_plan
from airfield_slack.message import LOG, RETRY
from airfield_slack.retry import Retry
from airfield_slack.store import Store
from airfield_slack.untold import Untold, log_url, log_url_2
from airfield_slack.watch import Watch

TAKEN = ALERTS + ":taken"
# Seconds for an answer of Slack's; nobody waits for it here.
SLACK_TIMEOUT = 90
# Presses that are worked on at a time.
WORKERS = 4
# Seconds for which the store remembers.
MEMORY = 30 * 86_400.0

log = logging.getLogger(__name__)


def make_client(connection: dict[str, Any]) -> WebClient:
    """Slack's Web API by Airflow's connection: the extras base_url and proxy as the provider has them."""
    extra = connection.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    options = {name: extra[name] for name in ("base_url", "proxy") if extra.get(name)}
    # Its own way to try again could post a message twice.
    return WebClient(connection["password"], timeout=SLACK_TIMEOUT, retry_handlers=[], **options)


class Receiver:
    """Takes alerts from Redis into the store; each is in one of them at any time."""

    def __init__(self, broker: redis.Redis, store: Store, default_channel: str = "") -> None:
        self.broker, self.store, self.default_channel = broker, store, default_channel
        self.works = True

    def step(self) -> None:
        """Take what comes within a second."""
        try:
            # What this process, or the one before, has taken and not kept comes first.
            text: Any = self.broker.lindex(TAKEN, -1) or self.broker.blmove(ALERTS, TAKEN, 1, "RIGHT", "LEFT")
            if text is not None:
                self.keep(text)
                self.broker.lrem(TAKEN, 1, text)
            if not self.works:
                log.info("Redis gives alerts again")
            self.works = True
        except redis.RedisError as error:
            if self.works:
                log.warning("Redis gives no alerts: %s", error)
            self.works = False
            time.sleep(1)

    def keep(self, text: str) -> None:
        try:
            body = json.loads(text)
            # What comes from systemd names none.
            body["channel"] = body["channel"] or self.default_channel
            if not body["channel"]:
                log.warning("An alert for no channel, as there is no default: %s", text)
                return
            new = self.store.add(body, time.time())
        except (ValueError, KeyError, TypeError):
            log.error("This is no alert: %r", text[:500])
            return
        log.info("Alert %s for %s%s", body["id"], body["channel"], "" if new else " is known")


def make_handler(retry: Retry, client: WebClient, app_token: str, workers: Executor) -> SocketModeHandler:
    """What hears of presses, by Socket Mode. Slack hears within its 3 seconds that they came."""
    app = App(client=client, token_verification_enabled=False)

    def reply(body: dict[str, Any], respond: Respond) -> None:
        try:
            answer = retry.handle(body)
            if answer:
                respond(text=answer, response_type="ephemeral", replace_original=False)
        except Exception:
            log.exception("A press was not answered")

    @app.action(RETRY)
    def press(ack: Ack, body: dict[str, Any], respond: Respond) -> None:
        ack()
        workers.submit(reply, body, respond)

    @app.action(LOG)
    def follow(ack: Ack) -> None:
        # Slack opens the link itself, and wants to hear that we know.
        ack()

    return SocketModeHandler(app, app_token, proxy=client.proxy)


def connect(handler: SocketModeHandler, stop: threading.Event) -> None:
    """Keep connected until the end. Slack may be away at the start; later the client itself connects again."""
    pause = 2.0
    while not stop.is_set():
        try:
            handler.connect()
            break
        except Exception as error:
            log.warning("Slack gives no connection for buttons (%s): tried again in %.0f s", error, pause)
            stop.wait(pause)
            pause = min(60.0, 2 * pause)
    stop.wait()
    handler.close()


def forever(stop: threading.Event, step: Callable[[], float | None], pause: float) -> None:
    """Take step after step; what goes wrong in one is told and does not end the others."""
    while not stop.is_set():
        wait: float | None = pause
        try:
            wait = step()
        except Exception:
            log.exception("This step did not work; it is taken again")
            wait = 5.0
        stop.wait(pause if wait is None else wait)


def make_health_watch(settings: dict[str, Any], store: Store, broker: redis.Redis) -> HealthWatch:
    health = settings["health"]
    rules = load(health["rules"])
    return HealthWatch(store, broker, settings["default_channel"], rules, make_plan(rules, health), socket.gethostname())


def say_ready() -> None:
    """Tell systemd that this has started: sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect("\0" + path[1:] if path.startswith("@") else path)
            connection.sendall(b"READY=1")


def main() -> None:
    """Until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    secret = os.environ
    store = Store(settings["store"])
    client = make_client(json.loads(secret["AIRFLOW_CONN_SLACK"]))
    timeouts = {"socket_timeout": 10, "socket_connect_timeout": 10}
    broker = redis.Redis.from_url(secret["AIRFIELD_SLACK_BROKER_URL"], decode_responses=True, **timeouts)
    airflow_2 = settings.get("api") == "v1"
    client_of_airflow = Airflow2 if airflow_2 else Airflow
    airflow = client_of_airflow(settings["airflow_url"], settings["airflow_user"], secret["AIRFIELD_SLACK_AIRFLOW_PASSWORD"])
    app_token = secret.get("AIRFIELD_SLACK_APP_TOKEN", "")
    key = secret["AIRFIELD_SLACK_BUTTON_KEY"] if app_token else ""
    limits = Limits(settings["flood_alerts"], settings["flood_window"])
    delivery = Delivery(store, client, ZoneInfo(settings["timezone"]), key, limits)
    delivery.recover()
    retry = Retry(store, airflow, delivery, key, settings["users"])
    retry.recover()
    watch = Watch(store, airflow, broker, settings["default_channel"], settings["hosts"], socket.gethostname())
    untold = Untold(store, airflow, settings["default_channel"], settings["base_url"], page=log_url_2 if airflow_2 else log_url)
    receiver = Receiver(broker, store, settings["default_channel"])

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    steps: list[tuple[Callable[[], float | None], float]] = [
        (receiver.step, 0.0),
        (delivery.step, 1.0),
        (retry.step, 1.0),
        (watch.step, 1.0),
        (untold.step, 1.0),
        (make_health_watch(settings, store, broker).step, 1.0),
        (lambda: store.forget(time.time() - MEMORY), 3600.0),
    ]
    threads = [threading.Thread(target=forever, args=(stop, step, pause)) for step, pause in steps]
    for thread in threads:
        thread.start()
    say_ready()
    with ThreadPoolExecutor(WORKERS) as workers:
        if app_token:
            connect(make_handler(retry, client, app_token, workers), stop)
        stop.wait()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
