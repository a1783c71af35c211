"""Tell what status.yml would call a finding: what every host publishes of itself, held against the inventory."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import redis

from airfield_slack.store import Store

# Of each host's name; the timer airfield-health of that host sets it each minute (module_utils/host_health.py).
KEY = "airfield:health:"
# Seconds between looks, and for which something must be wrong before it is told. With the timer's minute and a message's way
# that makes less than five minutes for all.
PAUSE = 20.0
PATIENCE = 180.0
# Of what a host publishes, in bytes; it is about ten thousand.
LONGEST = 1_000_000
# Before the names of what is told, beside those of what is silent (watch.py).
MARK = "health:"
# What others tell sooner: units by their last process (unit_ended.py), silence and heartbeats by watch.py, disks of Airflow's
# hosts by their unit airflow-logs.
UNITS_TELL = {"unit-failed", "unit-restarting"}
WATCH_TELLS = {"host-silent", "heartbeat-old"}

log = logging.getLogger(__name__)


def load(path: str) -> ModuleType:
    """The rules, which are no part of the release: plugin_utils/plan/health.py."""
    spec = importlib.util.spec_from_file_location("airfield_health", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look for their module.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make_plan(rules: ModuleType, settings: Mapping[str, Any]) -> Any:
    """What the inventory says, of the service's settings."""
    components = rules.components_of(settings["placement"], settings["services"], settings["housekeeping"])
    for name in settings["leaving"]:
        components.pop(name, None)
    return rules.Plan(components, version=settings["version"], disk_percent=float(settings["disk_percent"]))


@dataclass
class HealthWatch:
    """Alerts once for each thing that is wrong, and once for its end. One thread calls `step`."""

    store: Store
    broker: redis.Redis
    channel: str
    rules: ModuleType
    plan: Any
    name: str
    clock: Callable[[], float] = time.time
    next_look: float = 0.0
    # What is wrong, and since when.
    seen: dict[str, float] = field(default_factory=dict)

    def step(self) -> None:
        now = self.clock()
        if now < self.next_look:
            return
        self.next_look = now + PAUSE
        try:
            hosts = self.hosts()
        except redis.RedisError:
            # Told by watch.py; hosts get the time to say it again.
            self.seen.clear()
            return
        found = self.rules.find(self.plan, hosts)
        wrong = self.wrong(found)
        # What a run explains is neither wrong nor well.
        open_ones = {self.key(finding) for finding in found}
        for key in set(self.seen) - set(wrong):
            del self.seen[key]
        told = {key: at for key, at in self.store.silent().items() if key.startswith(MARK)}
        for key, (title, lines) in wrong.items():
            since = self.seen.setdefault(key, now)
            if key not in told and now - since >= PATIENCE:
                self.tell(title, "failed", "\n".join(lines), now)
                self.store.set_silent(key, since)
        for key, since in told.items():
            if key not in open_ones and self.is_known(key, hosts):
                self.tell(self.title(key), "recovered", f"It lasted {(now - since) / 60:.0f} minutes.", now)
                self.store.set_silent(key, None)

    def hosts(self) -> dict[str, Any]:
        """What each host has published last; one that has not is silent."""
        names = list(self.plan.components)
        texts = self.broker.mget([KEY + name for name in names]) if names else []
        return {name: self.host(name, text) for name, text in zip(names, texts, strict=True)}

    def host(self, name: str, text: str | bytes | None) -> Any:
        if text is None:
            return self.rules.Host(
                name, silent="it has published nothing for minutes, see `journalctl -u airfield-health` there"
            )
        try:
            host = self.rules.Host(name, facts=json.loads(text) if len(text) < LONGEST else None)
            # Nobody vouches for what is in Redis: what the rules cannot read must not keep them from the other hosts.
            self.rules.find(replace(self.plan, components={name: self.plan.components[name]}), {name: host})
        except Exception as error:  # whatever there is in place of what is expected
            log.warning("What %s has published makes no sense: %s", name, type(error).__name__)
            return self.rules.Host(name, silent="it has published what makes no sense")
        return host

    @staticmethod
    def key(finding: Any) -> str:
        return f"{MARK}{finding.kind} {finding.host} {finding.component}"

    def title(self, key: str) -> str:
        kind, host, component = key.removeprefix(MARK).split(" ", 2)
        title: str = self.rules.KINDS[kind].title if kind in self.rules.KINDS else kind
        return f"{host or 'The cluster'}: {title}"

    def wrong(self, found: list[Any]) -> dict[str, tuple[str, list[str]]]:
        """What is to be told, by its key, with a line for each finding."""
        wrong: dict[str, tuple[str, list[str]]] = {}
        for finding in found:
            if finding.severity != self.rules.NOTE and not self.is_told_elsewhere(finding):
                wrong.setdefault(self.key(finding), (self.title(self.key(finding)), []))[1].append(finding.line())
        return wrong

    def is_told_elsewhere(self, finding: Any) -> bool:
        components = self.plan.components.get(finding.host, ())
        if "alerts" not in components:
            # A host that only has services has neither units nor signs of life that tell.
            return False
        if finding.kind == "disk-full":
            return "logs" in components
        if finding.kind == "service-silent":
            return finding.component in ("api-server", "webserver")
        return finding.kind in WATCH_TELLS | UNITS_TELL

    def is_known(self, key: str, hosts: Mapping[str, Any]) -> bool:
        """Whether there is an answer that could say that it is well again."""
        host = key.removeprefix(MARK).split(" ", 2)[1]
        if host:
            return host not in hosts or not hosts[host].silent
        return bool(self.rules.Cluster(self.plan, hosts).database())

    def tell(self, what: str, state: str, reason: str, now: float) -> None:
        log.warning("%s: %s. %s", what, state, reason)
        if self.channel:
            alert = {"id": str(uuid.uuid4()), "kind": "host", "channel": self.channel, "state": state, "what": what}
            self.store.add({**alert, "reason": reason, "time": now, "host": self.name}, now)
