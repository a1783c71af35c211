"""Remove old rows from the metadata database, once a backup has them, and say how many of which table.

A timer starts this as Airflow's account. Airflow's own `db clean` does the work, without its archive tables: the backup is
the archive, and those tables would fill the same disk. Celery's results, which nothing else removes, go with them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

HOUR = 3600
# What Airflow's command says of each table, dry or not.
TABLE, ROWS = re.compile(r"^Checking table (\w+)$"), re.compile(r"^Found (\d+) rows meeting deletion criteria\.$")
# And of one that it could not clean, after which Airflow 2 ends as if nothing had been.
FAILURE = "Encountered error when attempting to clean table"
# An archive table that a killed or a careless `db clean` has left, with the time in its name.
LEFTOVER = re.compile(r"_airflow_deleted__\w+?__(\d{14})(__b\d+)?")


class CleanError(Exception):
    """What went wrong, and the remedy, for people."""


def backup_time(report: Path, now: float, hours: int) -> float:
    """When the last backup was made.

    :raises CleanError: where there is none that is young enough to have all that is removed.
    """
    remedy = "Remedy: `systemctl start airfield-backup`, or see why it fails: `journalctl -u airfield-backup`."
    try:
        found = json.loads(report.read_bytes())["last"]
        last = {"time": float(found["time"]), "tested": found["tested"]}
    except (FileNotFoundError, KeyError) as error:
        reason = "there is no backup" if isinstance(error, FileNotFoundError) or error.args == ("last",) else ""
        raise CleanError(f"Nothing was removed, since {reason or f'{report} is broken'}. {remedy}") from None
    except OSError as error:
        raise CleanError(f"Nothing was removed, since {report} cannot be read: {error.strerror}. {remedy}") from None
    except (ValueError, TypeError, RecursionError):
        raise CleanError(f"Nothing was removed, since {report} is broken. {remedy}") from None
    age = (now - last["time"]) / HOUR
    if age > hours:
        raise CleanError(f"Nothing was removed, since the last backup is {age:.0f} hours old, and may be {hours}. {remedy}")
    if last["tested"] is False:
        raise CleanError(f"Nothing was removed, since the last backup has failed its test. {remedy}")
    return float(last["time"])


def count(output: str) -> dict[str, int]:
    """Rows of each table, by what Airflow's command has said."""
    rows, table = {}, ""
    for line in output.splitlines():
        if match := TABLE.match(line):
            table = match[1]
        elif (match := ROWS.match(line)) and table:
            rows[table], table = int(match[1]), ""
    return rows


def clean(before: datetime, batch_size: int, dry: bool) -> dict[str, int]:
    """Let Airflow remove what is older; returns rows by table."""
    command = ["airflow", "db", "clean", "--yes", "--skip-archive", "--clean-before-timestamp", before.isoformat()]
    if not version("apache-airflow").startswith("2."):
        command += ["--batch-size", str(batch_size), "--error-on-cleanup-failure"]
    done = subprocess.run(
        command + ["--dry-run"] * dry, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode or FAILURE in done.stdout:
        raise CleanError("Airflow could not remove all of it: " + "\n".join(done.stdout.splitlines()[-10:]))
    return count(done.stdout)


def leftovers(tables: list[str], backup: float) -> list[str]:
    """Archive tables that the backup has."""
    found = []
    for name in tables:
        if match := LEFTOVER.fullmatch(name):
            made = datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            if made.timestamp() < backup:
                found.append(name)
    return sorted(found)


def drop_leftovers(url: str, backup: float, dry: bool) -> list[str]:
    """Drop archive tables that the backup has; returns their names."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    names = leftovers(sqlalchemy.inspect(engine).get_table_names(), backup)
    if names and not dry:
        with engine.begin() as connection:
            for name in names:
                connection.execute(sqlalchemy.text(f"drop table {name}"))
    return names


def clean_results(url: str, before: datetime, dry: bool) -> dict[str, int]:
    """Remove old results of Celery from their own database; returns rows by table."""
    import sqlalchemy

    if not url.startswith("db+"):
        return {}
    engine = sqlalchemy.create_engine(url.removeprefix("db+"))
    if not sqlalchemy.inspect(engine).has_table("celery_taskmeta"):
        return {}
    with engine.begin() as connection:
        what = "select count(*)" if dry else "delete"
        done = connection.execute(sqlalchemy.text(f"{what} from celery_taskmeta where date_done < :before"), {"before": before})
        return {"celery_taskmeta": int(done.scalar() or 0) if dry else int(done.rowcount)}


def run(arguments: argparse.Namespace, now: float) -> dict[str, Any]:
    """Look whether it may be, do it, and return the report."""
    backup = backup_time(arguments.backup, now, arguments.backup_hours)
    before = datetime.fromtimestamp(now, UTC).replace(microsecond=0) - timedelta(days=arguments.days)
    dropped = drop_leftovers(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], backup, arguments.dry_run)
    rows = clean(before, arguments.batch_size, arguments.dry_run)
    rows |= clean_results(os.environ["AIRFLOW__CELERY__RESULT_BACKEND"], before, arguments.dry_run)
    return {
        "time": now,
        "before": before.isoformat(),
        "dry_run": arguments.dry_run,
        "rows": {table: number for table, number in sorted(rows.items()) if number},
        "dropped": dropped,
    }


def write_file(path: Path, value: Any) -> None:
    """Put a JSON file in place in one step; a power cut leaves the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}")
    try:
        with temporary.open("w") as stream:
            stream.write(json.dumps(value, indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        # What a full disk has taken of it.
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, required=True, help="age of rows that stay")
    parser.add_argument("--batch-size", type=int, required=True, help="rows that are removed in one transaction")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--backup", type=Path, default=Path("/var/lib/airfield/backup.json"), help="what is known of the last")
    parser.add_argument("--backup-hours", type=int, default=24, help="age that it may have")
    parser.add_argument(
        "--report", type=Path, default=Path("/var/lib/airflow/database-clean.json"), help="where the report goes"
    )
    arguments = parser.parse_args()
    # A word in the URL counts more.
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    try:
        report = run(arguments, time.time())
    except CleanError as error:
        sys.exit(str(error))
    print(json.dumps(report))
    if not arguments.dry_run:
        try:
            write_file(arguments.report, report)
        except OSError as error:
            sys.exit(
                f"The rows were removed, but {arguments.report} could not be written: {error.strerror}. Remedy: make room on "
                "its file system."
            )


if __name__ == "__main__":
    main()
