"""Restart a component of this host that is there and does nothing: frozen, deadlocked, or deaf.

A timer starts this. Each run takes one look at scheduler, DAG processor, triggerer and web server, and compares it with
those before, which are kept below /run. Nothing is restarted for what it waits for: heartbeats are in the database, so they
say something of a component only while the web server says that the database is well; and whatever cannot be asked is
unknown. Workers have a watchdog of their own, as what counts for them are tasks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

# Units, by what tells of their health: a document of the whole cluster has them by this name, an address of their own answers.
HEARTBEATS = {"airflow-dag-processor": "dag_processor", "airflow-triggerer": "triggerer"}
ADDRESSES = ("airflow-scheduler", "airflow-api-server", "airflow-webserver")
# Of these the answer depends on the database.
WITH_DATABASE = ("airflow-scheduler",)
# Seconds that one answer gets.
ANSWER_TIMEOUT = 5
# Seconds after which a look is too old to compare with: two periods and a bit.
LOOK_VALID = 75


@dataclass(frozen=True)
class Look:
    """A component as it is now."""

    main: int
    # Whether a signal has stopped its main process. One under a debugger is not.
    frozen: bool
    # Whether it works; None where nobody can tell.
    healthy: bool | None


@dataclass(frozen=True)
class History:
    """What is known of a main process since it was first seen."""

    main: int
    seen: float
    # Whether it has ever been healthy: one that starts takes its time.
    worked: bool = False
    frozen_since: float | None = None
    ill_since: float | None = None


@dataclass(frozen=True)
class Patience:
    """Seconds until a component is restarted."""

    frozen: int
    ill: int
    # Of one that has not worked since its start.
    start: int


def follow(before: History | None, look: Look, now: float) -> History:
    """The history as it stands after one more look."""
    if before is None or before.main != look.main or not 0 <= now - before.seen <= LOOK_VALID:
        before = History(look.main, now, worked=bool(before and before.main == look.main and before.worked))
    # What is unknown neither begins nor goes on.
    ill_since = (now if before.ill_since is None else before.ill_since) if look.healthy is False else None
    frozen_since = (now if before.frozen_since is None else before.frozen_since) if look.frozen else None
    return replace(
        before, seen=now, worked=before.worked or look.healthy is True, frozen_since=frozen_since, ill_since=ill_since
    )


def reason(history: History, now: float, patience: Patience) -> str:
    """Why the component must be restarted; empty where it need not."""
    if history.frozen_since is not None and now - history.frozen_since >= patience.frozen:
        return f"a signal has stopped its main process for {now - history.frozen_since:.0f} s"
    if history.ill_since is not None:
        ill = now - history.ill_since
        if ill >= (patience.ill if history.worked else patience.start):
            return f"its process is there, and for {ill:.0f} s it gave no sign of life"
    return ""


def is_healthy(unit: str, document: Mapping[str, Any] | None, answers: Mapping[str, bool]) -> bool | None:
    """Whether a component works, by the cluster's health document and by its own address; None where nobody can tell."""
    database = ((document or {}).get("metadatabase") or {}).get("status") == "healthy"
    if unit in HEARTBEATS:
        part = ((document or {}).get(HEARTBEATS[unit]) or {}) if database else {}
        return part["status"] == "healthy" if part.get("status") else None
    if unit not in answers:
        return None
    if not answers[unit] and unit in WITH_DATABASE and not database:
        return None
    return answers[unit]


def fetch(url: str) -> bytes | None:
    """What an address answers with status 200; None for anything else."""
    try:
        # Never through a proxy: these are addresses of the cluster.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=ANSWER_TIMEOUT) as answer:
            return bytes(answer.read()) if answer.status == 200 else None
    except (OSError, ValueError, urllib.error.URLError):
        return None


def main_processes(units: list[str]) -> dict[str, int]:
    """The main process of each unit that runs; one that starts, stops or is down is others' business."""
    command = ["systemctl", "show", "--property=Id,ActiveState,MainPID", *(f"{unit}.service" for unit in units)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {}
    for block in output.strip().split("\n\n"):
        state = dict(line.split("=", 1) for line in block.splitlines())
        if state.get("ActiveState") == "active" and state.get("MainPID", "0") != "0":
            found[state["Id"].removesuffix(".service")] = int(state["MainPID"])
    return found


def is_frozen(process: int) -> bool:
    """Whether a signal has stopped a process."""
    try:
        # The name before it is in parentheses, and may hold anything.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def recall(path: Path) -> dict[str, History]:
    """What the last run left; nothing where that cannot be read."""
    try:
        return {unit: History(**body) for unit, body in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def take_looks(monitor: str, addresses: Mapping[str, str]) -> dict[str, Look]:
    """A look at every component that runs here."""
    running = main_processes([*HEARTBEATS, *ADDRESSES])
    frozen = {unit: is_frozen(process) for unit, process in running.items()}
    answers = {unit: fetch(addresses[unit]) is not None for unit in running if unit in addresses}
    body = fetch(monitor) if set(running) & {*HEARTBEATS, *WITH_DATABASE} else None
    try:
        document = json.loads(body) if body else None
    except ValueError:
        document = None
    return {
        unit: Look(process, frozen[unit], is_healthy(unit, document if isinstance(document, dict) else None, answers))
        for unit, process in running.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--monitor", required=True, help="address of the cluster's health document")
    parser.add_argument("--address", action="append", default=[], help="unit=address that answers while it works")
    parser.add_argument("--frozen", type=int, default=60, help="seconds that a component may be stopped by a signal")
    parser.add_argument("--ill", type=int, default=180, help="seconds that it may give no sign of life")
    parser.add_argument("--start", type=int, default=600, help="the same of one that has not worked since its start")
    parser.add_argument("--state", type=Path, default=Path("/run/airfield/watchdog.json"), help="what runs remember")
    arguments = parser.parse_args()
    patience = Patience(arguments.frozen, arguments.ill, arguments.start)
    before = recall(arguments.state)
    looks = take_looks(arguments.monitor, dict(pair.split("=", 1) for pair in arguments.address))
    now = time.monotonic()
    history = {unit: follow(before.get(unit), look, now) for unit, look in looks.items()}
    arguments.state.write_text(json.dumps({unit: asdict(body) for unit, body in history.items()}))
    for unit, body in history.items():
        why = reason(body, now, patience)
        # Not twice for the same process, nor one that has ended meanwhile.
        if why and main_processes([unit]).get(unit) == body.main:
            print(f"Restarting {unit}: {why}.", flush=True)
            # It would not hear a request to end; its unit starts it again, and says so as after a crash.
            subprocess.run(["systemctl", "kill", "--kill-whom=all", "--signal=KILL", f"{unit}.service"], check=True)


if __name__ == "__main__":
    main()
