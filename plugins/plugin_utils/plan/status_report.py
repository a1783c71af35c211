"""How the state of a cluster is shown: to people as a table with a line for each finding, to programs as one document."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.airfield.metal.plugins.plugin_utils.plan import health

# Of the table, in characters, and the hosts beyond which it leaves out those that are well: what a terminal shows.
WIDTH = 80
ROWS = 30
# Of the document: raised when a field goes or changes its meaning; fields are added without it.
VERSION = 1
MARKS = {health.CRITICAL: "CRITICAL", health.WARNING: "WARNING", health.NOTE: "note"}


def count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def is_finding(finding: health.Finding) -> bool:
    return finding.severity != health.NOTE


def summary(plan: health.Plan, findings: Sequence[health.Finding]) -> str:
    """The last line."""
    real = [finding for finding in findings if is_finding(finding)]
    if not real:
        services = sum(name in health.SERVICES for names in plan.components.values() for name in names)
        return f"{count(len(plan.components), 'host')}, {count(services, 'service')}, all well"
    hosts = {finding.host for finding in real if finding.host}
    # What is about no single host is about the cluster.
    return count(len(real), "finding") + (f" on {count(len(hosts), 'host')}" if hosts else "")


def age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def runs(host: health.Host, components: Sequence[str]) -> list[str]:
    """The services of a host as the table names them, a worker with its queues."""
    names = [name for name in health.SERVICES if name in components]
    queues = ",".join(health.ordinary_queues(host)) or "no queue"
    return [f"worker[{queues}]" if name == "worker" and not host.silent else name for name in names]


def state(host: health.Host, findings: Sequence[health.Finding]) -> str:
    if host.silent:
        return "NO ANSWER"
    number = sum(finding.host == host.name and is_finding(finding) for finding in findings)
    return count(number, "finding").upper() if number else "well"


def fullest(host: health.Host) -> str:
    percents = [disk["percent"] for disk in host.facts.get("disks") or () if "percent" in disk]
    return f"{max(percents)} %" if percents else "-"


def table(plan: health.Plan, hosts: Mapping[str, health.Host], findings: Sequence[health.Finding]) -> list[str]:
    """A row for each host, as wide as a screen; of many hosts, for those that are not well."""
    rows = [("HOST", ["RUNS"], "DISK", "UP", "STATE")]
    left_out = 0
    for name, components in plan.components.items():
        host = hosts[name]
        word = state(host, findings)
        if word == "well" and len(plan.components) > ROWS:
            left_out += 1
            continue
        rows.append((name, runs(host, components) or ["-"], fullest(host), age(host.facts.get("uptime")), word))
    first = min(24, max(len(row[0]) for row in rows))
    last = max(len(row[4]) for row in rows)
    # Four gaps of two, and five characters each for a percentage and an age.
    middle = WIDTH - first - last - 5 - 6 - 8
    lines = []
    for name, names, disk, up, word in rows:
        wrapped = textwrap.wrap(" ".join(names), middle, break_on_hyphens=False)
        beginnings = textwrap.wrap(name, first) or [""]
        for number in range(max(len(wrapped), len(beginnings))):
            left = (beginnings[number] if number < len(beginnings) else "").ljust(first)
            what = (wrapped[number] if number < len(wrapped) else "").ljust(middle)
            rest = f"{disk:>5}  {up:>6}  {word}" if number == 0 else ""
            lines.append(f"{left}  {what}  {rest}".rstrip())
    if left_out:
        lines.append(f"{count(left_out, 'host')} more, which are well")
    return lines


def text(plan: health.Plan, hosts: Mapping[str, health.Host], findings: Sequence[health.Finding]) -> str:
    """All of it, for people."""
    lines = table(plan, hosts, findings)
    told = [f"{MARKS[finding.severity]}  {finding.line()}" for finding in findings]
    if told:
        lines += ["", *told]
    return "\n".join([*lines, "", summary(plan, findings)])


def document(
    plan: health.Plan, hosts: Mapping[str, health.Host], findings: Sequence[health.Finding], now: float
) -> dict[str, Any]:
    """All of it, for programs; module airflow_status documents the fields."""
    rows = [{name: value for name, value in asdict(finding).items() if name != "young"} for finding in findings]
    cluster = health.Cluster(plan, hosts)
    database = cluster.database()
    run = cluster.run()
    return {
        "version": VERSION,
        "time": round(now),
        "well": not any(map(is_finding, findings)),
        "summary": summary(plan, findings),
        "run": {name: run.get(name) for name in ("who", "playbook", "since")} if run else None,
        "findings": [row for row in rows if row["severity"] != health.NOTE],
        "notes": [row for row in rows if row["severity"] == health.NOTE],
        "hosts": [
            {
                "host": name,
                "answers": not hosts[name].silent,
                "components": list(components),
                "uptime_seconds": hosts[name].facts.get("uptime"),
                "release": hosts[name].facts.get("release", ""),
                "dags": hosts[name].part("dags").get("dags", ""),
                "resources": hosts[name].part("dags").get("resources", ""),
                "queues": health.ordinary_queues(hosts[name]),
                "clock_offset_seconds": hosts[name].clock,
                "disks": [disk for disk in hosts[name].facts.get("disks") or () if "percent" in disk],
                "findings": sum(finding.host == name and is_finding(finding) for finding in findings),
            }
            for name, components in plan.components.items()
        ],
        "database": {name: database.get(name) for name in ("bytes", "connections")},
        "broker": next((dict(host.part("broker")) for host in cluster.seen() if host.part("broker")), {}),
        "queued": database.get("queued", []),
        "backup": next((dict(host.part("backup")) for host in cluster.seen() if host.part("backup").get("last")), {}),
    }


def with_inventory(line: str, inventories: Sequence[str], installed: bool) -> str:
    """A remedy's command as it is to be typed by whoever has typed this one.

    :arg installed: whether the playbooks were named as those of an installed collection.
    """
    given = "".join(f"-i {inventory} " for inventory in inventories)
    if installed:
        line = re.sub(r"(?<=ansible-playbook )(?:playbooks/)?(\w+)\.yml", r"airfield.metal.\1", line)
    return line.replace("ansible-playbook ", f"ansible-playbook {given}")
