"""Logs on an Airflow host: upload what tasks have left, keep the rest within bounds, and tell of a disk that fills up.

The module airflow_logs uses this. Role airflow_logs also installs this very file as a program for the release's Python, which
a timer starts.
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import argparse
import fcntl
import glob
import io
import json
import logging
import os
import signal
import stat
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

LOG = logging.getLogger("airfield.local_logs")
# Whoever makes a folder or an empty log for a task opens the log at once.
SETTLED = 3600
# Logs in a row that could not be uploaded, after which the store counts as away.
PATIENCE = 3
# How a run ends while all that is wrong was told by one before it: no second alert (airfield_slack.unit_ended).
TOLD_BEFORE = 75


class Unused:
    """A file that no process has open for writing, as the kernel says (a lease, fcntl(2)): not the log of a running task.

    Whoever opens it meanwhile gets it at once, and `remove` leaves it then.

    :raises OSError: it is in use, or gone.
    """

    def __init__(self, path: str) -> None:
        self.path, self.taken = path, False
        self.file = io.FileIO(path)

    def __enter__(self) -> Unused:
        try:
            signal.signal(signal.SIGIO, self.give)
            fcntl.fcntl(self.file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError:
            self.file.close()
            raise
        return self

    def __exit__(self, *dummy: object) -> None:
        self.file.close()

    def give(self, *dummy: object) -> None:
        self.taken = True
        fcntl.fcntl(self.file, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def remove(self) -> None:
        if not self.taken:
            os.unlink(self.path)


def find_logs(folder: str) -> list[str]:
    """Task logs below a folder that are not empty: Airflow empties those that it has uploaded."""
    found = []
    for path in glob.glob("dag_id=*/**/*.log", root_dir=folder, recursive=True):
        with suppress(FileNotFoundError):
            if os.path.getsize(os.path.join(folder, path)):
                found.append(path)
    return sorted(found)


def append(remote: Any, text: str, place: str) -> bool:
    """Append a text to what the store has; returns whether it could be.

    As Airflow's own upload, but for a log that is there and cannot be read, which that would write over, and for one that
    has arrived without an answer, which that would write twice.
    """
    before = remote.hook.read_key(place) if remote.s3_log_exists(place) else ""
    if before.endswith(text):
        return True
    gap = "\n" if before and not before.endswith("\n") else ""
    return bool(remote.write(before + gap + text, place, append=False))


def upload(folder: str, paths: list[str]) -> list[str] | None:
    """Bring logs to where Airflow looks for them and remove them; returns those that could not be, None where they belong here.

    Airflow is imported here, with the environment of its service.
    """
    try:
        from airflow.logging_config import get_remote_task_log
    except ImportError:  # Airflow 2
        from airflow.providers.amazon.aws.log.s3_task_handler import S3RemoteLogIO

        remote = S3RemoteLogIO.from_config()
    else:
        remote = get_remote_task_log()
    if remote is None:
        return None
    left: list[str] = []
    failures = 0
    for path in paths:
        if failures == PATIENCE:
            left.append(path)
            continue
        with suppress(FileNotFoundError, BlockingIOError), Unused(os.path.join(folder, path)) as log:
            try:
                done = append(remote, log.file.read().decode(errors="replace"), os.path.join(remote.remote_base, path))
            except Exception as error:  # boto's errors share no base
                LOG.error("%s: %s: %s", path, type(error).__name__, error)
                done = False
            failures = 0 if done else failures + 1
            if done:
                log.remove()
            else:
                left.append(path)
    return left


def remove(path: str) -> bool:
    """Remove a file unless it is in use; returns whether it could be."""
    try:
        with Unused(path) as log:
            log.remove()
            return not log.taken
    except OSError:
        return False


def prune(folder: str, days: float, limit: int, waiting: Collection[str], now: float) -> list[str]:
    """Remove logs older than so many days, and the oldest beyond so many bytes; returns those that nobody else has.

    :arg waiting: logs that are not uploaded yet. They stay whatever their age, and are the last to go for their size.
    """
    logs: list[tuple[bool, float, int, str]] = []
    for entry in os.walk(folder):
        for path in (os.path.join(entry[0], name) for name in entry[2]):
            with suppress(FileNotFoundError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    logs.append((os.path.relpath(path, folder) in waiting, status.st_mtime, status.st_size, path))
    total = sum(log[2] for log in logs)
    lost = []
    for waits, changed, size, path in sorted(logs):
        is_old = not waits and now - changed > days * 86400
        is_empty = size == 0 and now - changed > SETTLED
        is_too_much = size > 0 and total > limit
        if (is_old or is_empty or is_too_much) and remove(path):
            total -= size
            if waits:
                lost.append(os.path.relpath(path, folder))
    for path in (entry[0] for entry in os.walk(folder, topdown=False)):
        with suppress(OSError):
            if path != folder and now - os.stat(path).st_mtime > SETTLED:
                os.rmdir(path)
    return lost


def full_disks(paths: Iterable[str], percent: float) -> dict[str, str]:
    """The file systems of these paths that are fuller than so many percent, each once and with what there is to say."""
    found = {}
    seen = set()
    for path in paths:
        if not os.path.exists(path) or os.stat(path).st_dev in seen:
            continue
        seen.add(os.stat(path).st_dev)
        disk = os.statvfs(path)
        # As df has it: what is kept for root is nobody's.
        taken = disk.f_blocks - disk.f_bfree
        shares = {
            "": 100 * taken / max(taken + disk.f_bavail, 1),
            " of files": 100 * (disk.f_files - disk.f_ffree) / max(disk.f_files, 1),
        }
        for kind, share in shares.items():
            if share > percent:
                found[path] = (
                    f"The file system of {path} is {share:.0f} % full{kind}, more than the {percent:g} of "
                    f"airflow_disk_alert_percent; {disk.f_bavail * disk.f_frsize // 2**20} MB are left. Remedy: make room."
                )
    return found


def recall(path: str) -> set[str]:
    """What the last run has told; nothing where that cannot be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            told = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return set()
    return {name for name in told if isinstance(name, str)} if isinstance(told, list) else set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default="/var/log/airflow", help="where the logs are")
    parser.add_argument("--upload", action="store_true", help="bring the logs of tasks to the object store")
    parser.add_argument("--days", type=float, required=True, help="age beyond which logs are removed")
    parser.add_argument("--max-mb", type=int, required=True, help="size of all logs beyond which the oldest are removed")
    parser.add_argument("--disk", action="append", default=[], help="a path on a file system to look at")
    parser.add_argument("--disk-percent", type=float, required=True, help="how full a file system may be")
    parser.add_argument("--state", default="/run/airflow-logs/told.json", help="what runs remember")
    arguments = parser.parse_args()
    # Airflow, once imported, has a format of its own for all others.
    LOG.handlers, LOG.propagate = [logging.StreamHandler(sys.stdout)], False
    problems: dict[str, str] = {}
    left: list[str] | None = None
    logs = find_logs(arguments.folder) if arguments.upload else []
    if logs:
        # Airflow would make a file for the database that is not its business here.
        os.environ.setdefault("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite://")
        try:
            left = upload(arguments.folder, logs)
        except Exception as error:  # whatever Airflow does not like: the rest is to be done all the same
            LOG.error("%s: %s", type(error).__name__, error)
            left = logs
        if left:
            problems["upload"] = (
                f"{len(left)} logs of tasks could not be uploaded, {left[0]} among them; they stay here, and are tried again. "
                "Remedy: see that the bucket answers, and that airflow_logs and airflow_logs_secret_key are right."
            )
    # Those of running tasks are not uploaded yet, either.
    waiting = set() if left is None else {path for path in logs if os.path.exists(os.path.join(arguments.folder, path))}
    disk = os.statvfs(arguments.folder)
    # A small partition is not to be full for want of a smaller number.
    limit = min(arguments.max_mb * 2**20, int(disk.f_blocks * disk.f_frsize * arguments.disk_percent / 100))
    for path in prune(arguments.folder, arguments.days, limit, waiting, time.time()):
        LOG.error("%s is lost: it was not uploaded yet, and the logs need more than airflow_local_log_max_mb.", path)
    problems |= full_disks(arguments.disk, arguments.disk_percent)
    told = recall(arguments.state)
    # In memory: no power cut leaves half of it, but a kill might.
    with open(arguments.state + ".new", "w", encoding="utf-8") as stream:
        json.dump(sorted(problems), stream)
    os.replace(arguments.state + ".new", arguments.state)
    for message in problems.values():
        LOG.error(message)
    if problems:
        raise SystemExit(1 if set(problems) - told else TOLD_BEFORE)


if __name__ == "__main__":
    main()
