"""What the health of a cluster needs to know of one host: units, files, disks, and what the host's own services answer.

The module airflow_info uses this. The roles airflow_slack and host_health also install this very file as a program for the
system's Python, which a timer starts: it needs nothing but Python's own library. It changes nothing that it looks at, needs no
inventory, and every question has a time-out, so that a service that hangs does not hang the answer.
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import argparse
import calendar
import configparser
import glob
import grp
import hashlib
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

UNITS = "/etc/systemd/system"
STATE = "/var/lib/airfield"
RUNNING = "/run/airfield"
CONFIGURATION = "/etc/airflow/airflow.cfg"
# Stands at the head of every unit that is ours.
MARK = "Managed by Airfield"
# What is asked of a unit. `Type` and what follows are empty for units that have no such thing.
PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,Result,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths,"
    "ActiveEnterTimestampMonotonic,InactiveEnterTimestampMonotonic,Type,MainPID,NRestarts,ReadWritePaths,"
    "NextElapseUSecRealtime,NextElapseUSecMonotonic,LastTriggerUSec,Listen"
)
# What Airflow and the services write to; not all are on every host.
DISKS = (
    "/",
    "/var/lib",
    "/var/log/airflow",
    "/var/lib/airflow",
    "/var/lib/airfield",
    "/opt/airflow",
    "/tmp",  # noqa: S108
    "/var/log",
    "/var/log/journal",
    "/var/lib/mysql",
    "/var/lib/postgresql",
    "/var/lib/redis",
    "/var/lib/seaweedfs",
)
# Seconds: for a program or a service of this host, for a file system, and for the database with the start of its driver.
PATIENCE = 5.0
DISK_PATIENCE = 2.0
DATABASE_PATIENCE = 20.0
# Seconds for which the timer's program takes the database's last answer: asking costs half a second of processor time.
DATABASE_PAUSE = 240
# Seconds after which what the timer has published is none any more: a few of its runs.
PUBLISHED = 300
KEY = "airfield:health:"

# Run by the release's Python: it has the drivers. Gets the URL by standard input, and prints one JSON object.
DATABASE_PROBE = """
import datetime, json, sys
import sqlalchemy
result = {"error": ""}
try:
    url = sqlalchemy.engine.make_url(sys.stdin.read())
    kind = url.get_backend_name()
    arguments = {"postgresql": {"connect_timeout": 5, "options": "-c statement_timeout=5000"},
                 "mysql": {"connect_timeout": 5, "read_timeout": 10}, "mariadb": {"connect_timeout": 5, "read_timeout": 10}}
    engine = sqlalchemy.create_engine(url, connect_args=arguments.get(kind, {}))
    with engine.connect() as connection:
        def rows(query, **values):
            return [tuple(row) for row in connection.execute(sqlalchemy.text(query), values)]
        if kind == "postgresql":
            rows_of = "select setting from pg_settings where name = "
            reserved = rows(rows_of + "'superuser_reserved_connections'")[0][0]
            result["connections"] = {
                # What kind of process another account's is, PostgreSQL does not say to this one.
                "used": rows("select count(*) from pg_stat_activity where datid is not null")[0][0],
                "most": int(rows(rows_of + "'max_connections'")[0][0]) - int(reserved)}
            result["bytes"] = rows("select pg_database_size(current_database())")[0][0]
        elif kind in ("mysql", "mariadb"):
            connection.execute(sqlalchemy.text("set time_zone = '+00:00'"))
            result["connections"] = {
                "used": int(rows("show global status like 'Threads_connected'")[0][1]),
                "most": int(rows("show global variables like 'max_connections'")[0][1])}
            size = "select sum(data_length + index_length) from information_schema.tables where table_schema = database()"
            result["bytes"] = int(rows(size)[0][0] or 0)
        now = datetime.datetime.now(datetime.timezone.utc)
        # By the database's clock, which wrote none of these: Airflow's processes did, each with its host's.
        def age(moment):
            if moment is None:
                return None
            if isinstance(moment, str):
                moment = datetime.datetime.fromisoformat(moment)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.timezone.utc)
            return round((now - moment).total_seconds(), 1)
        tables = set(sqlalchemy.inspect(engine).get_table_names())
        if "job" in tables:
            found = rows("select job_type, hostname, max(latest_heartbeat) from job where state = 'running'"
                         " and job_type <> 'LocalTaskJob' group by job_type, hostname")
            result["jobs"] = [{"job": job, "hostname": host, "age": age(beat)} for job, host, beat in found]
        if "import_error" in tables:
            found = rows("select filename, stacktrace from import_error order by filename")
            result["import_errors"] = [{"file": file, "error": ([line for line in (trace or "").splitlines() if line.strip()]
                                                                or [""])[-1].strip()[:200]} for file, trace in found[:20]]
            result["import_error_count"] = len(found)
        if "dag_warning" in tables:
            found = rows("select w.dag_id, w.warning_type, w.message from dag_warning w join dag d on d.dag_id = w.dag_id"
                         " where not d.is_paused order by w.dag_id")
            result["warnings"] = [{"dag": dag, "kind": str(kind), "message": str(words)[:200]}
                                  for dag, kind, words in found[:20]]
        if "task_instance" in tables:
            found = rows("select queue, count(*), min(queued_dttm) from task_instance where state = 'queued' group by queue")
            result["queued"] = [{"queue": queue, "tasks": count, "age": age(since)} for queue, count, since in found]
            result["running"] = dict(rows("select hostname, count(*) from task_instance"
                                          " where state in ('running', 'restarting') group by hostname"))
            pools = {pool: {"slots": slots, "used": 0, "waiting": 0}
                     for pool, slots in rows("select pool, slots from slot_pool")}
            found = rows("select pool, state, count(*), sum(pool_slots) from task_instance"
                         " where state in ('scheduled', 'queued', 'running') group by pool, state")
            for name, state, count, slots in found:
                pool = pools.setdefault(name, {"slots": None, "used": 0, "waiting": 0})
                pool["waiting" if state == "scheduled" else "used"] += count if state == "scheduled" else int(slots)
            result["pools"] = pools
except Exception as error:
    result["error"] = str(getattr(error, "orig", error)).strip() or type(error).__name__
print(json.dumps(result))
"""


# Asking ------------------------------------------------------------------------------------------------------------------


def read(path: str) -> str | None:
    """The text of a file; None where there is none that can be read."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            return stream.read()
    except OSError:
        return None


def within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function; what has not ended by then is left to itself.

    :raises TimeoutError: it has not ended in time.
    """
    answer: dict[str, Any] = {}

    def work() -> None:
        try:
            answer["result"] = function(*arguments)
        except Exception as error:  # raised again below, in the caller's thread
            answer["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if "error" in answer:
        raise answer["error"]
    return answer["result"]


def ask(*command: str, given: str | None = None, seconds: float = PATIENCE) -> str:
    """What a program prints.

    :raises OSError: it is not there, has failed, or has not ended in time.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=seconds, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} has not ended within {seconds:g} s") from None
    if done.returncode:
        raise OSError((done.stderr or done.stdout).strip()[-500:] or f"{command[0]} has ended with {done.returncode}")
    return done.stdout


def environment_of(path: str) -> dict[str, str]:
    """The variables in an environment file of ours (module_utils/environment_file.py, which this program has not)."""
    rows = re.findall(r'^(\w+)="((?:[^"\\]|\\.)*)"$', read(path) or "", re.MULTILINE)
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in rows}


def report(path: str) -> dict[str, Any]:
    """A record of ours. One that cannot be read says why as `unreadable`; where there is none it is empty."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        return {"unreadable": f"{path}: {error}"}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {"unreadable": f"{path} is {f'no JSON: {error}' if text.strip() else 'empty'}"}
    if not isinstance(content, dict):
        return {"unreadable": f"{path} holds no record"}
    return content


# Units -------------------------------------------------------------------------------------------------------------------


def our_units(folder: str = UNITS) -> list[str]:
    """Names of the units of ours, and of those of others that have a drop-in of ours."""
    found = {
        os.path.basename(path)
        for pattern in ("airflow-*", "airfield-*", "seaweedfs*")
        for kind in ("service", "socket", "timer")
        for path in glob.glob(f"{folder}/{pattern}.{kind}")
        if MARK in (read(path) or "")[:500]
    }
    found |= {os.path.basename(os.path.dirname(path))[: -len(".d")] for path in glob.glob(f"{folder}/*.d/airfield.conf")}
    return sorted(found)


def process_state(pid: str) -> str:
    """The letter that /proc has for the state of a process; empty where it is not there."""
    return ((read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split() or [""])[0]


def seconds_since(microseconds: str, now: float) -> float | None:
    """Age of a moment of systemd's, by the monotonic clock; None where it never was."""
    return round(now - int(microseconds) / 1e6, 1) if microseconds not in ("", "0") else None


def moment(shown: str) -> int:
    """A time of systemd's in UTC, as seconds since 1970; 0 where it never was."""
    try:
        return calendar.timegm(time.strptime(shown, "%a %Y-%m-%d %H:%M:%S UTC"))
    except ValueError:
        return 0


def describe_unit(shown: Mapping[str, str], folder: str = UNITS) -> dict[str, Any]:
    """A unit of what `systemctl show` says of it."""
    name, now = shown["Id"], time.monotonic()
    drop_ins = [path for path in shown.get("DropInPaths", "").split() if f"/{name}.d/" in path or "/system.control/" in path]
    last_part = shown.get("NextElapseUSecMonotonic", "infinity") in ("", "infinity", "0")
    return {
        "load": shown.get("LoadState", ""),
        "active": shown.get("ActiveState", ""),
        "sub": shown.get("SubState", ""),
        "result": shown.get("Result", ""),
        "enabled": shown.get("UnitFileState", ""),
        "reload": shown.get("NeedDaemonReload") == "yes",
        "type": shown.get("Type", ""),
        "restarts": int(shown.get("NRestarts") or 0),
        "active_seconds": seconds_since(shown.get("ActiveEnterTimestampMonotonic", ""), now),
        "inactive_seconds": seconds_since(shown.get("InactiveEnterTimestampMonotonic", ""), now),
        "process": process_state(shown["MainPID"]) if shown.get("MainPID", "0") != "0" else "",
        "has_next_run": bool(shown.get("NextElapseUSecRealtime")) or not last_part,
        "last_trigger": moment(shown.get("LastTriggerUSec", "")),
        "listen": shown.get("Listen", "").split(" ")[0],
        "ours": shown.get("FragmentPath", "").startswith(folder),
        # Those of packages are in /usr/lib: nobody has made them by hand.
        "drop_ins": [path for path in drop_ins if path.startswith(("/etc/", "/run/")) and not path.endswith("/airfield.conf")],
        "writes": [path.lstrip("-+") for path in shown.get("ReadWritePaths", "").split()],
    }


def units(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The units as systemd knows them now, by one question.

    :raises OSError: systemd does not answer.
    """
    names = list(names)
    if not names:
        return {}
    shown = ask("systemctl", "show", f"--property={PROPERTIES}", "--", *names)
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.split("\n\n")]
    return {block["Id"]: describe_unit(block) for block in blocks if "Id" in block}


def uptime() -> float | None:
    """Seconds since the host's services were started; in a container, those of the container."""
    try:
        shown = ask("systemctl", "show", "--property=UserspaceTimestampMonotonic", "--value")
    except OSError:
        return None
    return seconds_since(shown.strip(), time.monotonic())


# Files -------------------------------------------------------------------------------------------------------------------


def is_that_of(number: int, names: Callable[[int], Any], given: str) -> bool:
    """Whether an account or a group is the one with this name or number."""
    try:
        return given in (str(number), names(number)[0])
    except KeyError:
        return given == str(number)


def difference(path: str, recorded: Mapping[str, str]) -> str:
    """How a file differs from what was written; empty where it does not."""
    try:
        status = os.stat(path)
        with open(path, "rb") as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if digest != recorded["sha256"]:
        return "has another content"
    mode = f"{status.st_mode & 0o7777:04o}"
    if mode != recorded["mode"]:
        return f"has mode {mode} instead of {recorded['mode']}"
    owner, dummy, group = recorded["owner"].partition(":")
    if not is_that_of(status.st_uid, pwd.getpwuid, owner) or not is_that_of(status.st_gid, grp.getgrgid, group):
        return f"belongs to {status.st_uid}:{status.st_gid} instead of {recorded['owner']}"
    return ""


def drift(folder: str = STATE) -> list[dict[str, str]]:
    """The files that are not as the last run has written them (module_utils/written.py), each with how it differs."""
    found = []
    for record in sorted(glob.glob(f"{folder}/*.written.json")):
        files = report(record)
        if "unreadable" in files:
            found.append({"path": record, "unit": "", "how": "cannot be read"})
            continue
        for path, recorded in sorted(files.items()):
            how = difference(path, recorded)
            if how:
                found.append({"path": path, "unit": os.path.basename(record)[: -len(".written.json")], "how": how})
    return found


def pending(written: str = STATE, running: str = RUNNING) -> list[str]:
    """The services whose process was started from something else than what is there now (module airflow_service)."""
    found = []
    for path in sorted(glob.glob(f"{written}/*.fingerprint")):
        mark = read(os.path.join(running, os.path.basename(path)))
        if mark is not None and mark != read(path):
            found.append(os.path.basename(path)[: -len(".fingerprint")])
    return found


def disks(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The file systems of these paths, each once and under the first path, as far as they are there."""
    found: list[dict[str, Any]] = []
    seen = set()
    for path in paths:
        try:
            if not within(DISK_PATIENCE, os.path.exists, path):
                continue
            device = within(DISK_PATIENCE, os.stat, path).st_dev
            if device in seen:
                continue
            seen.add(device)
            disk = within(DISK_PATIENCE, os.statvfs, path)
        except OSError as error:
            found.append({"path": path, "error": str(error)})
            continue
        # As df has it: what is kept for root is nobody's.
        taken = disk.f_blocks - disk.f_bfree
        found.append(
            {
                "path": path,
                "percent": round(100 * taken / max(taken + disk.f_bavail, 1)),
                "files_percent": round(100 * (disk.f_files - disk.f_ffree) / max(disk.f_files, 1)),
                "free_mb": disk.f_bavail * disk.f_frsize // 2**20,
                "read_only": bool(disk.f_flag & os.ST_RDONLY),
            }
        )
    return found


def journal_limit(folders: Iterable[str] = ("/etc/systemd", "/etc/systemd/journald.conf.d")) -> bool:
    """Whether somebody has said how large the journal may become."""
    texts = [read(path) or "" for folder in folders for path in glob.glob(f"{folder}/*.conf") if "journal" in path]
    return any(re.search(r"^\s*SystemMaxUse\s*=\s*\S", text, re.MULTILINE) for text in texts)


def lock(now: float, path: str = f"{STATE}/run.lock") -> dict[str, Any]:
    """Who holds the lock of the cluster, with the seconds since its last renewal; empty where nobody does."""
    try:
        idle = abs(now - os.stat(path).st_mtime)
    except OSError:
        return {}
    return {"who": "somebody", "playbook": "a playbook", **report(path), "idle": round(idle)}


def written(record: Mapping[str, Any]) -> float:
    """When a report of backups was written."""
    times = [record.get("attempted"), begun(record).get("time")]
    return max((float(moment) for moment in times if isinstance(moment, (int, float))), default=0.0)


def begun(record: Mapping[str, Any]) -> dict[str, Any]:
    """The backup that has not said how it ended; empty where there is none."""
    found = record.get("begun")
    return found if isinstance(found, dict) else {}


def backups(
    now: float,
    state: str = STATE,
    settings: str = "/etc/airflow/backup.json",
    spare: str = "/run/airfield/backup-report.json",
    processes: str = "/proc",
) -> dict[str, Any]:
    """What is known of the backups, with ages in hours by this host's clock.

    :arg spare: the report that found no room on the disk.
    """
    known = max(report(f"{state}/backup.json"), report(spare), key=written)
    if begun(known) and "airfield_backup" not in (read(f"{processes}/{begun(known).get('pid')}/cmdline") or ""):
        known["error"] = "it was killed before its end"
    broken = known.get("broken")
    known["broken"] = {str(name): str(why) for name, why in broken.items()} if isinstance(broken, dict) else {}
    for name in ("last", "tested"):
        if isinstance(known.get(name), dict) and isinstance(known[name].get("time"), int | float):
            known[name] = {**known[name], "age_hours": round((now - known[name]["time"]) / 3600, 2)}
        elif name in known:
            known["unreadable"] = f"{state}/backup.json has no time for its {name}"
            del known[name]
    wanted = report(settings)
    known["test_days"] = wanted.get("test_days", 0) if wanted.get("scratch_url") else 0
    known["directory"] = wanted.get("directory", "")
    return known


def worker_queues(path: str = f"{STATE}/worker-queues.env") -> dict[str, Any]:
    """The queues that the worker of this host has, and for how many seconds; empty where there is none."""
    try:
        changed = os.stat(path).st_mtime
    except OSError:
        return {}
    names = environment_of(path).get("AIRFIELD_WORKER_QUEUES", "").split(",")
    return {"queues": [name for name in names if name], "seconds": round(time.time() - changed)}


def airflow_options(path: str = CONFIGURATION) -> configparser.ConfigParser:
    """airflow.cfg, or nothing of it where it cannot be read."""
    options = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        options.read_string(read(path) or "")
    except configparser.Error:
        return configparser.ConfigParser(interpolation=None)
    return options


def slots(options: configparser.ConfigParser) -> int:
    """Tasks that the worker of this host runs at most."""
    most = options.get("celery", "worker_autoscale", fallback="").partition(",")[0]
    number = most or options.get("celery", "worker_concurrency", fallback="")
    return int(number) if number.isdigit() else 0


def certificates(options: configparser.ConfigParser) -> list[dict[str, Any]]:
    """The certificates that Airflow's web server has, with the days that are left."""
    found = []
    for section, option in (("api", "ssl_cert"), ("webserver", "web_server_ssl_cert")):
        path = options.get(section, option, fallback="")
        if path:
            try:
                # Not documented, and the only way without another program; what it says has its form since Python 2.6.
                shown = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]
                left = (ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()) / 86400
                found.append({"path": path, "days": round(left, 1)})
            except Exception as error:  # whatever there is in the file
                found.append({"path": path, "error": str(error) or type(error).__name__})
    return found


# Services ----------------------------------------------------------------------------------------------------------------


class Redis:
    """As much of a client of Redis as is needed here.

    :raises OSError: Redis does not answer, or refuses.
    """

    def __init__(self, url: str, seconds: float = PATIENCE) -> None:
        parts = urlsplit(url)
        self.socket: socket.socket = socket.create_connection((parts.hostname or "", parts.port or 6379), seconds)
        if parts.scheme == "rediss":
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=parts.hostname)
        self.stream = self.socket.makefile("rb")
        if parts.password:
            user = [unquote(parts.username)] if parts.username else []
            self.call("AUTH", *user, unquote(parts.password))
        database = parts.path.strip("/")
        if database not in ("", "0"):
            self.call("SELECT", database)

    def call(self, *words: str) -> Any:
        parts = [word.encode() for word in words]
        text = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.socket.sendall(b"*%d\r\n%s" % (len(parts), text))
        return self.answer()

    def answer(self) -> Any:
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("Redis has closed the connection")
        kind, rest = line[:1], line[1:-2].decode(errors="replace")
        if kind == b"-":
            raise OSError(rest)
        if kind == b"$":
            return None if rest == "-1" else self.stream.read(int(rest) + 2)[:-2].decode(errors="replace")
        if kind == b"*":
            return [self.answer() for dummy in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


# What is kept of all that Redis says of itself.
REDIS_FACTS = (
    "redis_version",
    "role",
    "loading",
    "used_memory",
    "maxmemory",
    "maxmemory_policy",
    "connected_clients",
    "maxclients",
    "rejected_connections",
    "evicted_keys",
    "aof_enabled",
    "aof_last_write_status",
    "aof_last_bgrewrite_status",
    "rdb_last_bgsave_status",
    "uptime_in_seconds",
)


def redis_facts(url: str) -> dict[str, Any]:
    """What the broker says of itself; `error` where it does not."""
    try:
        redis = Redis(url)
        text = redis.call("INFO")
        redis.close()
    except (OSError, ValueError) as error:  # a URL with a port that is none
        return {"error": str(error).replace(unquote(urlsplit(url).password or "") or "\0", "********")}
    found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    kept = {name: found[name] for name in REDIS_FACTS if name in found}
    return {"error": "", **{name: int(value) if value.isdigit() else value for name, value in kept.items()}}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *dummy: Any) -> None:
        """A page elsewhere says nothing of this service."""


def http(url: str) -> str:
    """What is wrong with what answers there; empty where nothing is."""
    # No proxy: it is this host.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
    try:
        with opener.open(url, timeout=PATIENCE) as answer:
            answer.read(100_000)
    except urllib.error.HTTPError as error:
        return f"GET {url}: status {error.code}"
    except (OSError, ValueError) as error:
        return f"GET {url}: {getattr(error, 'reason', None) or error}"
    return ""


def addresses(known: Mapping[str, Any], options: configparser.ConfigParser) -> dict[str, list[str]]:
    """The pages by which services of this host say that they work, by unit; one of them must answer."""
    found = {}
    pages = {"airflow-api-server.service": ("api", "port", "api", "/api/v2/version"),
             "airflow-webserver.service": ("webserver", "web_server_port", "webserver", "/health")}  # fmt: skip
    for unit, (section, option, base, page) in pages.items():
        if unit in known:
            port = options.get(section, option, fallback="8080")
            prefix = urlsplit(options.get(base, "base_url", fallback="")).path.rstrip("/")
            found[unit] = list(dict.fromkeys(f"http://127.0.0.1:{port}{start}{page}" for start in ("", prefix)))
    where = known.get("seaweedfs-s3.socket", {}).get("listen", "")
    if where:
        # The proxy, which the socket starts, and the gateway behind it.
        found["seaweedfs-s3.socket"] = [f"http://{where.replace('0.0.0.0', '127.0.0.1')}/healthz"]  # noqa: S104
    return found


def ask_pages(pages: Iterable[str]) -> str:
    """What is wrong with the first page, where none of them answers as it should."""
    faults = []
    for page in pages:
        fault = http(page)
        if not fault:
            return ""
        faults.append(fault)
    return faults[0]


# What each of Airflow's variables leads to.
PEERS = {
    "AIRFLOW__CELERY__BROKER_URL": "broker",
    "AIRFLOW__CELERY__RESULT_BACKEND": "result backend",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "metadata database",
}
PORTS = {"redis": 6379, "rediss": 6379, "postgresql": 5432, "mysql": 3306, "http": 80, "https": 443}


def place_of(url: str) -> tuple[str, int] | None:
    """Host and port of a URL; None where it names no host that listens."""
    try:
        parts = urlsplit(url.removeprefix("db+"))
        port = parts.port or PORTS.get(parts.scheme.partition("+")[0], 0)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None


def peers(options: configparser.ConfigParser, folder: str = "/etc/airflow") -> dict[str, tuple[str, int]]:
    """What the processes of this host connect to, by what it is, as their environment files and airflow.cfg say."""
    urls = {"API server": options.get("core", "execution_api_server_url", fallback="")}
    for path in sorted(glob.glob(f"{folder}/*.env")):
        variables = environment_of(path)
        urls |= {what: variables[name] for name, what in PEERS.items() if name in variables}
        try:
            connection = json.loads(variables.get("AIRFLOW_CONN_AIRFLOW_LOGS", "{}"))
            urls["object store"] = connection["extra"]["endpoint_url"]
        except (ValueError, KeyError, TypeError):
            continue
    places = {what: place_of(url) for what, url in urls.items()}
    return {what: place for what, place in places.items() if place}


def connect(place: tuple[str, int]) -> str:
    """What keeps this host from a connection; empty where it has one."""
    try:
        socket.create_connection(place, PATIENCE).close()
    except (OSError, UnicodeError) as error:
        return f"{place[0]}:{place[1]}: {error}"
    return ""


def secret(name: str, folder: str = "/etc/airflow") -> str:
    """A secret of a control host's components; empty where the host has none."""
    for component in ("cli", "scheduler"):
        value = environment_of(f"{folder}/{component}.env").get(name)
        if value:
            return value
    return ""


def database(url: str, python: str = "/opt/airflow/current/bin/python") -> dict[str, Any]:
    """What the metadata database says of the cluster; `error` where it does not."""
    try:
        answer: dict[str, Any] = json.loads(ask(python, "-c", DATABASE_PROBE, given=url, seconds=DATABASE_PATIENCE))
    except (OSError, ValueError) as error:
        answer = {"error": str(error)}
    # A driver's message may hold what it was given.
    for part in filter(None, (url, urlsplit(url).password, unquote(urlsplit(url).password or ""))):
        answer["error"] = answer["error"].replace(part, "********")
    return {**answer, "time": time.time()}


def collect(before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All of it.

    :arg before: the timer's last findings, of which the database's answer is taken where it is young enough.
    """
    began, now = time.monotonic(), time.time()
    found: dict[str, Any] = {"time": now, "error": "", "uptime": uptime(), "hostname": airflow_hostname()}
    try:
        known = units(our_units())
    except OSError as error:
        known = {}
        found["error"] = f"systemd does not answer: {error}"
    options = airflow_options()
    writes = [path for unit in known.values() if unit["active"] == "active" for path in unit["writes"]]
    kept = backups(now)
    found |= {
        "units": known,
        "drift": drift(),
        "pending": pending(),
        "disks": disks([*DISKS, *([kept["directory"]] if kept["directory"] else []), *writes]),
        "journal_limit": journal_limit(),
        "lock": lock(now),
        "backup": kept,
        "upgrade": report(f"{STATE}/upgrade.json"),
        "worker": worker_queues() | ({"slots": slots(options)} if "airflow-worker.service" in known else {}),
        "certificates": certificates(options),
        "release": link("/opt/airflow/current"),
        "dags": {kind: link(f"/opt/airflow/{kind}/current") for kind in ("dags", "resources")},
        "pages": {},
        "peers": {},
        "broker": {},
        "database": {},
    }
    questions: list[tuple[str, str, Callable[[], Any]]] = [
        ("pages", unit, partial(ask_pages, pages)) for unit, pages in addresses(known, options).items()
    ]
    questions += [("peers", what, partial(connect, place)) for what, place in peers(options).items()]
    # Of a host that runs the scheduler: whoever runs tasks has neither.
    if "airflow-scheduler.service" in known:
        broker, url = secret("AIRFLOW__CELERY__BROKER_URL"), secret("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
        if broker.startswith(("redis://", "rediss://")):
            questions.append(("broker", "", partial(redis_facts, broker)))
        last = (before or {}).get("database") or {}
        if now - last.get("time", 0) < DATABASE_PAUSE and not last.get("error"):
            found["database"] = last
        elif url:
            questions.append(("database", "", partial(database, url)))
    answers: dict[tuple[str, str], Any] = {}

    def answer(place: str, part: str, question: Callable[[], Any]) -> None:
        answers[place, part] = question()

    threads = [threading.Thread(target=answer, args=question, daemon=True) for question in questions]
    for thread in threads:
        thread.start()
    end = time.monotonic() + DATABASE_PATIENCE + PATIENCE
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    for place, part, _question in questions:
        told = answers.get((place, part), "no answer in time" if part else {"error": "no answer in time"})
        if part:
            found[place][part] = told
        else:
            found[place] = told
    found["seconds"] = round(time.monotonic() - began, 2)
    return found


def link(path: str) -> str:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return ""


def airflow_hostname() -> str:
    """This host's name as Airflow's own getfqdn finds it; that of Python's socket module may differ."""
    name = socket.gethostname()
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM, flags=socket.AI_CANONNAME)
    except OSError:
        return name
    return next((canonical for *dummy, canonical, address in rows if canonical), name)


def write(path: str, content: Mapping[str, Any]) -> None:
    """Leave a record in one step, for root alone."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        json.dump(content, stream)
    os.replace(temporary, path)


def main() -> None:
    """What a timer starts: leave the facts on this host, and publish them where there is somebody to read them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="the host's name in the inventory")
    parser.add_argument("--state", default=f"{STATE}/health.json", help="where the facts are left")
    arguments = parser.parse_args()
    found = collect(report(arguments.state))
    url = os.environ.get("AIRFIELD_SLACK_BROKER_URL", "")
    try:
        write(arguments.state, found)
    except OSError as error:
        # The disk may be what there is to tell of.
        sys.stderr.write(f"{arguments.state} cannot be written: {error}\n")
    if url:
        try:
            redis = Redis(url)
            redis.call("SET", KEY + arguments.name, json.dumps(found), "EX", str(PUBLISHED))
            redis.close()
        except (OSError, ValueError) as error:
            # Told by whoever misses it: the service that talks to Slack.
            sys.stderr.write(f"Redis does not take this host's state: {type(error).__name__}\n")


if __name__ == "__main__":
    main()
