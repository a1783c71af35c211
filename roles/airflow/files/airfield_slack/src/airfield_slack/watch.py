"""What nobody calls back about: hosts that are silent, and components that Airflow itself misses."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from airfield_slack.airflow_client import Airflow, AirflowError
from airfield_slack.forward import HOST
from airfield_slack.store import Store

# Seconds between looks, and for which something must be silent before it is told: longer than a host takes to restart.
PAUSE = 15.0
PATIENCE = 300.0
API = "Airflow's API server"
WRITABLE = "airfield:watch"
REDIS = "Redis"

log = logging.getLogger(__name__)


@dataclass
class Watch:
    """Alerts once for each silence, and once for its end. One thread calls `step`."""

    store: Store
    airflow: Airflow
    broker: redis.Redis
    channel: str
    hosts: Sequence[str]
    name: str
    clock: Callable[[], float] = time.time
    patience: float = PATIENCE
    next_look: float = 0.0
    # What is missed, and since when.
    missed: dict[str, float] = field(default_factory=dict)

    def step(self) -> None:
        now = self.clock()
        if now < self.next_look:
            return
        self.next_look = now + PAUSE
        told = self.store.silent()
        for what, works in self.look().items():
            if works:
                self.missed.pop(what, None)
                if what in told:
                    self.tell(what, "recovered", f"It was silent for {(now - told[what]) / 60:.0f} minutes.", now)
                    self.store.set_silent(what, None)
                continue
            since = self.missed.setdefault(what, now)
            if what not in told and now - since >= self.patience:
                self.tell(what, "failed", f"Nothing was heard of it for {(now - since) / 60:.0f} minutes.", now)
                self.store.set_silent(what, since)

    def look(self) -> dict[str, bool]:
        """What was asked, and whether it answered. What cannot be known now is left out."""
        found: dict[str, bool] = {}
        try:
            # One that is full, or cannot write to its disk, answers and takes nothing.
            self.broker.set(WRITABLE, int(self.clock()), ex=60)
            # Hosts say through Redis that they are alive: without it nothing is known of them.
            alive = self.broker.mget([HOST + host for host in self.hosts]) if self.hosts else []
            found |= {f"Host {host}": beat is not None for host, beat in zip(self.hosts, alive, strict=True)}
            found[REDIS] = True
        except redis.RedisError as error:
            log.warning("Redis does not answer, or takes nothing: %s", error)
            found[REDIS] = False
            # After an outage hosts get the time to say it again.
            self.missed = {what: at for what, at in self.missed.items() if not what.startswith("Host ")}
        try:
            health: Mapping[str, Any] = self.airflow.health()
            found[API] = True
            # No state: there never was one.
            found |= {
                f"Airflow's {component.replace('_', ' ')}": state["status"] == "healthy"
                for component, state in health.items()
                if state.get("status")
            }
        except AirflowError as error:
            log.warning("%s", error)
            found[API] = False
        return found

    def tell(self, what: str, state: str, reason: str, now: float) -> None:
        log.warning("%s: %s. %s", what, state, reason)
        if self.channel:
            alert = {"id": str(uuid.uuid4()), "kind": "host", "channel": self.channel, "state": state, "what": what}
            self.store.add({**alert, "reason": reason, "time": now, "host": self.name}, now)
