#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_info
short_description: Report what a run needs to know of a host, in one module run
version_added: "0.1.0"
description:
  - Gathers what the plays of this collection decide by (instead of M(ansible.builtin.setup), which costs twice as much
    and knows nothing of Airflow), tries the connections that the host will need, and reads the state of the metadata
    database. Changes nothing.
  - Its action plugin also measures how far the host's clock is from the controller's.
options:
  packages:
    description: Debian packages to look up.
    type: list
    elements: str
    default: []
  paths:
    description: Paths of whose file systems the free space is reported. A path need not exist yet.
    type: list
    elements: path
    default: []
  account:
    description: User to look up.
    type: str
  groups:
    description: Further groups that the user shall be in.
    type: list
    elements: str
    default: []
  group:
    description: Primary group that the user shall have.
    type: str
  uid:
    description: Number that the user shall have.
    type: int
  gid:
    description: Number that the group shall have.
    type: int
  links:
    description: Symbolic links whose targets are reported, such as those that point to an installed version.
    type: list
    elements: path
    default: []
  resolve:
    description: Host names to look up as this host's programs would.
    type: list
    elements: str
    default: []
  connect:
    description: TCP services to connect to.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the service is, for messages.
        type: str
        required: true
      host:
        description: Host name or address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
      mysql:
        description: Read the version of the server, which MySQL and MariaDB tell whoever connects.
        type: bool
        default: false
  services:
    description: Services whose state is reported, as patterns of systemd.
    type: list
    elements: str
    default: []
  unit_texts:
    description: Texts with sections of a service's unit, by a name for each, that systemd shall look at.
    type: dict
    default: {}
  calendars:
    description: Schedules in the form of C(OnCalendar=), by a name for each, that systemd shall look at.
    type: dict
    default: {}
  folders:
    description: Folders that must be there.
    type: list
    elements: str
    default: []
  own_paths:
    description: Files that Airfield writes here, to see whether somebody else has.
    type: list
    elements: str
    default: []
  stores:
    description: Servers to look at, of C(mysql), C(postgresql), C(redis) and C(seaweedfs).
    type: list
    elements: str
    default: []
  base:
    description: Directory of the releases.
    type: path
    default: /opt/airflow
  database:
    description: Ask the metadata database for its state, with the secrets of a component on this host.
    type: dict
    suboptions:
      environment_file:
        description: Environment file that holds E(AIRFLOW__DATABASE__SQL_ALCHEMY_CONN).
        type: path
        required: true
      release:
        description: Directory of the release whose migrations count.
        type: path
        required: true
  health:
    description: Report what the health of the cluster needs to know of the host, RV(health), and nothing else. Takes a second
      on hosts that ask the metadata database, and never more than half a minute.
    type: bool
    default: false
  timeout:
    description: Seconds until a connection attempt counts as failed.
    type: int
    default: 5
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Has nothing to show.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Look at the host
  airfield.metal.airflow_info:
    packages: [tzdata, redis-server]
    paths: [/opt/airflow, /var/log/airflow]
    resolve: [web1]
    connect:
      - {name: broker, host: redis.example.org, port: 6379}
  register: host
"""

RETURN = r"""
account:
  description: The user O(account); empty where there is none.
  returned: always
  type: dict
  sample: {uid: 50000, gid: 50000, group: airflow, missing_groups: [], surplus_groups: []}
architecture:
  description: Machine architecture, as uname gives it.
  returned: always
  type: str
  sample: x86_64
address:
  description: Address of the interface that leads to other networks.
  returned: always
  type: str
  sample: 192.0.2.21
backup:
  description:
    - What a host that backs the cluster up knows of it; empty elsewhere, and before the first backup.
    - C(error) says what is wrong, with the remedy; also that the last backup was killed, or that this cannot be read.
    - C(broken) has archives that count as none, and why.
  returned: always
  type: dict
broken:
  description: What is recorded on the host and cannot be read any more, one sentence each with its remedy.
  returned: always
  type: list
  elements: str
  contains:
    last:
      description: The last backup, with C(name), C(rows), C(bytes), C(sha256), C(airflow_version), C(revisions), C(seconds)
        that it took, C(tested), and C(age_hours).
      type: dict
    tested:
      description: The last one that was also restored, to see that it can be; likewise.
      type: dict
    error:
      description: Why the last attempt failed; empty where it did not.
      type: str
cluster:
  description: Name of the cluster that the host belongs to; empty where no run has said so.
  returned: always
  type: str
clock_offset:
  description: Seconds by which the host's clock is ahead of the controller's; the measurement's uncertainty is taken off.
  returned: always
  type: float
cpus:
  description: Number of processors.
  returned: always
  type: int
current:
  description: Release that C(current) points to; empty where there is none.
  returned: always
  type: str
database:
  description: State of the metadata database.
  returned: when O(database) was given
  type: dict
  contains:
    error:
      description: What the driver said where it could not connect.
      type: str
    cluster:
      description: Name of the cluster that it belongs to; empty where no run has said so.
      type: str
    migrated:
      description: Whether the schema is the release's newest.
      type: bool
    revisions:
      description: Applied revision of each chain of migrations; empty in an empty database.
      type: dict
    mysql:
      description: The server, as in RV(mysql_servers), with C(driver), C(charset) of the database and C(variables) that count;
        empty where it is another kind of database.
      type: dict
    queued:
      description: Number of tasks that Airflow has sent and no worker has begun.
      type: int
    running:
      description: Number of tasks that Airflow knows to be running on each worker, by the name that the worker has for itself.
      type: dict
      sample: {worker1: 3}
    users:
      description: Number of users.
      type: int
dags:
  description: Revisions of the DAGs on the host.
  returned: always
  type: dict
  contains:
    current:
      description: Revision that C(dags/current) points to; empty where none was delivered.
      type: str
    revisions:
      description: Complete revisions.
      type: list
      elements: str
    requirements:
      description: Python packages that the current revision needs.
      type: list
      elements: str
disks:
  description: Free megabytes of the file system of each path in O(paths).
  returned: always
  type: dict
distribution:
  description: ID and VERSION_ID of /etc/os-release.
  returned: always
  type: dict
  sample: {id: debian, version: "12"}
fernet_keys:
  description: SHA-256 of each Fernet key with which each component here, and the command line (C(cli)), was started, first of
    the one that encrypts; an empty list for a process that was started from something else than what is on the disk.
  returned: always
  type: dict
  sample: {cli: [9f86d081884c...], scheduler: []}
health:
  description: Units, files that differ from what a run has written, disks, and what the host's services answer. It is for
    M(airfield.metal.airflow_status), whose result has what is to be relied on.
  returned: when O(health) was given, and then nothing else
  type: dict
hostname:
  description: Name that Airflow's processes on this host go by.
  returned: always
  type: str
ids:
  description: Who has the names and numbers that the account shall have.
  returned: always
  type: dict
  contains:
    user:
      description: The user O(account), with C(uid), C(gid), C(shell) and C(home); empty where there is none.
      type: dict
    uid:
      description: Name of the user with O(uid); empty where it is free.
      type: str
    group:
      description: Number of O(group); null where there is none.
      type: int
    gid:
      description: Name of the group with O(gid); empty where it is free.
      type: str
    home:
      description: Owner of C(/var/lib/airflow), with C(user), C(uid), C(group) and C(gid); empty where that does not exist.
      type: dict
other_groups:
  description: Groups of the user O(account) that neither O(groups) nor an earlier run has given it.
  returned: always
  type: list
  elements: str
links:
  description: Target of each path in O(links); empty where there is no link.
  returned: always
  type: dict
memory_mb:
  description: Memory of the host in megabytes.
  returned: always
  type: int
mysql_servers:
  description: Servers among O(connect) that greet as MySQL does, with C(host), C(port) and C(version).
  returned: always
  type: list
  elements: dict
  sample: [{host: db.example.org, port: 3306, version: 8.4.6}]
package_index:
  description: Whether apt has a list of available packages.
  returned: always
  type: bool
packages:
  description: Those of O(packages) that are installed.
  returned: always
  type: list
  elements: str
python:
  description: Version of the system's Python, major and minor.
  returned: always
  type: str
  sample: "3.11"
releases:
  description: Complete releases on the host.
  returned: always
  type: list
  elements: str
resources:
  description: Revisions of the files beside the DAGs on the host, as in RV(dags).
  returned: always
  type: dict
services:
  description: State of each service that matches O(services).
  returned: always
  type: dict
  sample: {airflow-worker: active}
stores:
  description: What there is of each of O(stores), with C(ours), the reasons why it is C(foreign), and its C(clients).
  returned: always
  type: dict
unmarked:
  description: Those of O(own_paths) that are there and that Airfield did not write.
  returned: always
  type: list
  elements: str
timezone:
  description: Time zone of the host's clock.
  returned: always
  type: str
  sample: Etc/UTC
units:
  description: Service units of Airflow, and of its backups, that Airfield has installed, without their suffix.
  returned: always
  type: list
  elements: str
unanswered:
  description: Those of O(connect) that did not answer, each with what was tried and what came of it.
  returned: always
  type: list
  elements: str
worker_queues:
  description: Queues that the host's Celery worker has at its next start; empty where none was ever started.
  returned: always
  type: list
  elements: str
calendar_problems:
  description: Those of O(calendars) that never come, each with C(given) and C(reason).
  returned: always
  type: dict
missing_folders:
  description: Those of O(folders) that are none.
  returned: always
  type: list
  elements: str
unit_problems:
  description: What systemd does not understand of each of O(unit_texts), a line each.
  returned: always
  type: dict
unresolvable:
  description: Those of O(resolve) that have no address here.
  returned: always
  type: list
  elements: str
upgrade:
  description: What the last upgrade to another version has noted on this host; empty where there was none.
  returned: always
  type: dict
  contains:
    from:
      description: Version before.
      type: str
    to:
      description: Version after.
      type: str
    releases:
      description: Release of each host before.
      type: dict
    backup:
      description: The backup that was made before, with C(name) and C(moment); empty where none was wanted.
      type: dict
    stopped_at:
      description: When Airflow was stopped for it, in seconds since the epoch; 0 before that.
      type: float
    state:
      description: How far it came; V(prepared), V(stopped), V(migrating), V(migrated) or V(done).
      type: str
"""

import contextlib
import glob
import grp
import hashlib
import json
import os
import platform
import pwd
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import (
    catalogue,
    dag_source,
    environment_file,
    host_health,
    stores,
    systemd,
)
from ansible_collections.airfield.metal.plugins.module_utils.files import read_json, read_text

# Run by the release's Python: it has the drivers. Prints one JSON object.
DATABASE_PROBE = """
import json, os, sys
import sqlalchemy
heads = json.load(sys.stdin)
# A word in the URL counts more.
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
result = {"error": "", "cluster": "", "revisions": {}, "users": 0, "queued": 0, "running": {}, "mysql": {}}
try:
    engine = sqlalchemy.create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    if engine.dialect.name in ("mysql", "mariadb"):
        with engine.connect() as connection:
            names = "'version', 'explicit_defaults_for_timestamp', 'log_bin', 'log_bin_trust_function_creators'"
            query = sqlalchemy.text("show global variables where variable_name in (" + names + ")")
            variables = dict(map(tuple, connection.execute(query)))
            charset = connection.execute(sqlalchemy.text("select @@character_set_database")).scalar()
        where = {"host": engine.url.host or "localhost", "port": engine.url.port or 3306}
        result["mysql"] = {**where, "version": variables.pop("version"), "charset": charset, "variables": variables}
    tables = set(sqlalchemy.inspect(engine).get_table_names())
    with engine.connect() as connection:
        for table in heads:
            if table in tables:
                row = connection.execute(sqlalchemy.text("select version_num from " + table)).fetchone()
                if row:
                    result["revisions"][table] = row[0]
        if "airfield_cluster" in tables:
            row = connection.execute(sqlalchemy.text("select name from airfield_cluster")).fetchone()
            result["cluster"] = row[0] if row else ""
        if "ab_user" in tables:
            result["users"] = connection.execute(sqlalchemy.text("select count(*) from ab_user")).scalar()
        if "task_instance" in tables:
            query = "select hostname, count(*) from task_instance where state in ('running', 'restarting') group by hostname"
            result["running"] = dict(map(tuple, connection.execute(sqlalchemy.text(query))))
            query = "select count(*) from task_instance where state = 'queued'"
            result["queued"] = connection.execute(sqlalchemy.text(query)).fetchone()[0]
except Exception as error:
    result["error"] = str(getattr(error, "orig", error)).strip()
result["migrated"] = result["revisions"] == heads
print(json.dumps(result))
"""
# What is in the record of an upgrade.
UPGRADE = ("from", "to", "releases", "state")
NO_DATABASE = {
    "error": "",
    "cluster": "",
    "revisions": {},
    "users": 0,
    "queued": 0,
    "running": {},
    "mysql": {},
    "migrated": False,
}


def distribution() -> dict[str, str]:
    """ID and VERSION_ID of the operating system."""
    rows = {}
    with open("/etc/os-release", encoding="utf-8") as stream:
        for line in stream:
            name, dummy, value = line.strip().partition("=")
            rows[name] = value.strip('"')
    return {"id": rows.get("ID", ""), "version": rows.get("VERSION_ID", "")}


def look_up_account(name: str, groups: Iterable[str], given: Iterable[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """Numbers and group of a user, with what its groups lack and have too much, and groups that it has from others.

    :arg given: groups that an earlier run has given it.
    """
    try:
        user = pwd.getpwnam(name)
        group = grp.getgrgid(user.pw_gid).gr_name
    except KeyError:
        return {}, []
    members = {entry.gr_name for entry in grp.getgrall() if name in entry.gr_mem}
    unnamed = sorted(members - {group, *groups})
    account = {
        "uid": user.pw_uid,
        "gid": user.pw_gid,
        "group": group,
        "missing_groups": [name for name in groups if name not in members | {group}],
        "surplus_groups": [name for name in unnamed if name in given],
    }
    return account, [name for name in unnamed if name not in given]


def groups_given(path: str = "/var/lib/airfield/account.json") -> list[str]:
    """Groups that an earlier run has given to the account."""
    groups = read_json(path)[0].get("groups")
    return [name for name in groups if isinstance(name, str)] if isinstance(groups, list) else []


def user_name(uid: int) -> str:
    """Name of the user with a number; empty where it is free."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""


def group_name(gid: int) -> str:
    """Name of the group with a number; empty where it is free."""
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return ""


def look_up_ids(params: Mapping[str, Any], home: str = "/var/lib/airflow") -> dict[str, Any]:
    """Who has the names and the numbers that the account shall have."""
    found: dict[str, Any] = {"user": {}, "uid": "", "group": None, "gid": "", "home": {}}
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam(params["account"] or "")
        found["user"] = {"uid": user.pw_uid, "gid": user.pw_gid, "shell": user.pw_shell, "home": user.pw_dir}
    with contextlib.suppress(KeyError):
        found["group"] = grp.getgrnam(params["group"] or "").gr_gid
    if params["uid"] is not None:
        found["uid"] = user_name(params["uid"])
    if params["gid"] is not None:
        found["gid"] = group_name(params["gid"])
    with contextlib.suppress(OSError):
        owner = os.stat(home)
        found["home"] = {
            "user": user_name(owner.st_uid),
            "uid": owner.st_uid,
            "group": group_name(owner.st_gid),
            "gid": owner.st_gid,
        }
    return found


def memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def free_mb(path: str) -> int:
    """Free space for root in the file system that a path is, or will be, on."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize // 2**20


def installed_packages(names: Iterable[str], status: str = "/var/lib/dpkg/status") -> list[str]:
    """Those of the names that dpkg has installed; reads its database, as starting dpkg-query costs more."""
    wanted, found, name = set(names), [], ""
    if not wanted:
        return []
    with open(status, encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("Package: "):
                name = line[9:].rstrip()
            elif line.startswith("Status: ") and name in wanted and line.rstrip().endswith(" ok installed"):
                found.append(name)
    return found


def own_address() -> str:
    """Address of the interface with the default route; a UDP socket that is connected but sends nothing tells."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return ""


def unresolvable(names: Iterable[str]) -> list[str]:
    missing = []
    for name in names:
        try:
            socket.getaddrinfo(name, None)
        except (OSError, UnicodeError):
            missing.append(name)
    return missing


def unanswered(services: Iterable[Mapping[str, Any]], timeout: int) -> list[str]:
    """What of the services does not accept a connection, with what was tried."""
    failed = []
    for service in services:
        try:
            socket.create_connection((service["host"], service["port"]), timeout).close()
        except (OSError, UnicodeError) as error:
            failed.append("{name}: tried TCP {host}:{port}".format(**service) + f" for {timeout} s: {error}")
    return failed


def mysql_servers(services: Iterable[Mapping[str, Any]], timeout: int) -> list[dict[str, Any]]:
    """Those of the services that greet as MySQL and MariaDB do, with the version in the greeting: no login is needed for it.

    A server shuts out a host after a hundred connections without a login, and counts anew with every login from it; those of
    Airflow's are far more frequent than runs.
    """
    found = []
    for service in services:
        if not service["mysql"]:
            continue
        try:
            with socket.create_connection((service["host"], service["port"]), timeout) as connection:
                greeting = connection.makefile("rb").read(4 + 64)
        except (OSError, UnicodeError):
            continue  # told by unanswered
        # Three bytes of length, a number, the protocol, the version, and a zero.
        if len(greeting) > 5 and greeting[4] == 10:
            version = greeting[5:].partition(b"\0")[0].decode(errors="replace")
            found.append({"host": service["host"], "port": service["port"], "version": version})
    return found


def timezone() -> str:
    try:
        return os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    except OSError:
        return ""


def worker_queues(path: str = "/var/lib/airfield/worker-queues.env") -> list[str]:
    """What module airflow_worker wrote for the worker's next start."""
    queues = environment_file.parse(read_text(path)).get("AIRFIELD_WORKER_QUEUES", "")
    return [queue for queue in queues.split(",") if queue]


def fernet_keys(
    environments: str = "/etc/airflow", written: str = "/var/lib/airfield", running: str = "/run/airfield"
) -> dict[str, list[str]]:
    """Hashes of the keys that each holder has, as far as its process was started from the present files (airflow_service)."""
    found = {}
    for path in sorted(glob.glob(environments + "/*.env")):
        keys = environment_file.parse(read_text(path)).get("AIRFLOW__CORE__FERNET_KEY")
        if keys is not None:
            name = os.path.basename(path)[: -len(".env")]
            marks = [read_text(f"{folder}/airflow-{name}.fingerprint") for folder in (written, running)]
            hashes = [hashlib.sha256(key.strip().encode()).hexdigest() for key in keys.split(",")]
            found[name] = hashes if marks[0] == marks[1] else []
    return found


def backup_report(
    now: float,
    path: str = "/var/lib/airfield/backup.json",
    spare: str = "/run/airfield/backup-report.json",
    processes: str = "/proc",
) -> dict[str, Any]:
    """What the last backup has left, with ages by this host's clock."""
    remedy = "Remedy: `systemctl start airfield-backup` on this host"
    found = []
    # In memory is what found no room on the disk.
    for place in (path, spare):
        report, problem = read_json(place)
        found.append((max(number(report.get("attempted")), begun_at(report)), report, problem))
    written, report, problem = max(found, key=lambda row: row[0])
    error = str(report.get("error") or "")
    if problem:
        error = f"{problem} {remedy}, which makes it anew."
    for name in ("last", "tested"):
        if name in report and not (isinstance(report[name], dict) and isinstance(report[name].get("time"), (int, float))):
            del report[name]
            error = f"{error or path + ' is broken.'} {remedy}, which makes it anew."
        elif name in report:
            report[name]["age_hours"] = round((now - report[name]["time"]) / 3600, 2)
    if begun_at(report) and not is_backup(report["begun"].get("pid"), processes):
        hours = round((now - begun_at(report)) / 3600, 1)
        error = f"The backup that was begun {hours} hours ago was killed before its end. {remedy}."
    return {**report, "error": error} if report or error else {}


def number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def begun_at(report: Mapping[str, Any]) -> float:
    """When a backup has begun that has not said how it has ended; 0 where there is none."""
    begun = report.get("begun")
    return number(begun.get("time")) if isinstance(begun, dict) else 0.0


def is_backup(pid: Any, processes: str) -> bool:
    """Whether a process makes a backup."""
    try:
        with open(f"{processes}/{pid}/cmdline", "rb") as stream:
            return b"airfield_backup" in stream.read()
    except OSError:
        return False


def service_states(module: AnsibleModule, patterns: list[str]) -> dict[str, str]:
    """Active state of the loaded services that match."""
    if not patterns:
        return {}
    command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service", *patterns]
    rc, stdout, stderr = module.run_command(command, check_rc=True)
    rows = [line.split(None, 4) for line in stdout.splitlines()]
    return {row[0][: -len(".service")]: row[2] for row in rows if row[1] == "loaded"}


def unit_problems(module: AnsibleModule, texts: Mapping[str, str]) -> dict[str, list[str]]:
    """What systemd does not understand of each text, in a unit that has nothing else."""
    units = {f"{name}.service": f"[Service]\nExecStart=/bin/true\n{text}" for name, text in texts.items()}
    return {name[: -len(".service")]: lines for name, lines in systemd.unit_problems(module, units).items()}


def cluster_name(path: str = "/var/lib/airfield/cluster.json") -> str:
    """Which cluster a run has said that the host belongs to."""
    try:
        return str(json.loads(read_text(path) or "{}").get("name", ""))
    except ValueError:
        return ""  # cut short by a loss of power; the next run writes it anew


def postgresql_databases(module: AnsibleModule) -> list[str]:
    """Databases of the running server that somebody has made."""
    query = "select datname from pg_database where not datistemplate and datname <> 'postgres' order by 1"
    rc, stdout, dummy = module.run_command(["runuser", "-u", "postgres", "--", "psql", "-AtXc", query], cwd="/")
    return stdout.split() if rc == 0 else []


def link_target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def delivered(root: str) -> dict[str, Any]:
    """What module airflow_dags has brought to the host."""
    current = link_target(os.path.join(root, "current"))
    marks = {
        os.path.basename(path)[: -len(".complete")]: dag_source.read_mark(path)[0] for path in glob.glob(root + "/*.complete")
    }
    return {
        "current": current,
        # Without one that a power cut has spoilt: it is brought anew.
        "revisions": sorted(revision for revision, mark in marks.items() if mark),
        "requirements": marks.get(current, {}).get("requirements", []),
    }


def broken_records(base: str, lib: str = "/var/lib/airfield") -> list[str]:
    """What of a host's state cannot be read and cannot be guessed, with the remedy."""
    dummy, problem = catalogue.read(os.path.join(base, "current"), ("heads", "options"))
    problems = [problem] if problem else []
    dummy, problem = read_json(lib + "/upgrade.json", UPGRADE)
    if problem:
        problems.append(
            f"{problem} It said how far an upgrade had come. Remedy: remove it. If an upgrade was under way, run "
            "playbooks/upgrade.yml with its version again, or site.yml where all hosts have that version."
        )
    for root in (base + "/dags", base + "/resources"):
        mark = os.path.join(root, link_target(os.path.join(root, "current")) + ".complete")
        dummy, problem = dag_source.read_mark(mark)
        if problem:
            problems.append(
                f"{problem} It said which packages the delivered files need. Remedy: remove it and run "
                "playbooks/deploy_dags.yml."
            )
    return problems


def probe_database(module: AnsibleModule, params: Mapping[str, str]) -> dict[str, Any]:
    """State of the metadata database, by the release's own drivers."""
    description = os.path.join(params["release"], "airfield.json")
    if not os.path.exists(description) or not os.path.exists(params["environment_file"]):
        return {**NO_DATABASE, "error": ""}
    declared, problem = catalogue.read(params["release"], ("heads",))
    if problem:
        return {**NO_DATABASE, "error": problem}
    name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    secrets = environment_file.parse(read_text(params["environment_file"]))
    dummy, stdout, stderr = module.run_command(
        [os.path.join(params["release"], "bin/python"), "-c", DATABASE_PROBE],
        data=json.dumps(declared["heads"]),
        environ_update={name: secrets[name]},
    )
    try:
        # The driver's message may hold the URL.
        return json.loads(stdout.replace(json.dumps(secrets[name])[1:-1], "********"))
    except ValueError:
        return {**NO_DATABASE, "error": stderr.replace(secrets[name], "********")}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "paths": {"type": "list", "elements": "path", "default": []},
            "account": {"type": "str"},
            "groups": {"type": "list", "elements": "str", "default": []},
            "group": {"type": "str"},
            "uid": {"type": "int"},
            "gid": {"type": "int"},
            "links": {"type": "list", "elements": "path", "default": []},
            "resolve": {"type": "list", "elements": "str", "default": []},
            "connect": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "host": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "mysql": {"type": "bool", "default": False},
                },
            },
            "services": {"type": "list", "elements": "str", "default": []},
            "unit_texts": {"type": "dict", "default": {}},
            "calendars": {"type": "dict", "default": {}},
            "folders": {"type": "list", "elements": "str", "default": []},
            "own_paths": {"type": "list", "elements": "str", "default": []},
            "stores": {"type": "list", "elements": "str", "default": []},
            "base": {"type": "path", "default": "/opt/airflow"},
            "database": {
                "type": "dict",
                "options": {
                    "environment_file": {"type": "path", "required": True},
                    "release": {"type": "path", "required": True},
                },
            },
            "health": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["health"]:
        module.exit_json(changed=False, health=host_health.collect())
    base = params["base"]
    account, other_groups = look_up_account(params["account"] or "", params["groups"], groups_given())
    result = {
        "account": account,
        "other_groups": other_groups,
        "ids": look_up_ids(params),
        "architecture": platform.machine(),
        "address": own_address(),
        "backup": backup_report(time.time()),
        "broken": broken_records(base),
        "calendar_problems": systemd.calendar_problems(module, params["calendars"]),
        "cluster": cluster_name(),
        "cpus": os.cpu_count(),
        "current": os.path.basename(link_target(os.path.join(base, "current"))),
        "dags": delivered(os.path.join(base, "dags")),
        "disks": {path: free_mb(path) for path in params["paths"]},
        "distribution": distribution(),
        "fernet_keys": fernet_keys(),
        "hostname": host_health.airflow_hostname(),
        "links": {path: link_target(path) for path in params["links"]},
        "memory_mb": memory_mb(),
        "missing_folders": [path for path in params["folders"] if not os.path.isdir(path)],
        "mysql_servers": mysql_servers(params["connect"], params["timeout"]),
        "package_index": bool(glob.glob("/var/lib/apt/lists/*_Packages*")),
        "packages": installed_packages(params["packages"]),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "releases": sorted(path.split("/")[-2] for path in glob.glob(base + "/releases/*/.complete")),
        "resources": delivered(os.path.join(base, "resources")),
        "services": service_states(module, params["services"]),
        "timezone": timezone(),
        "stores": stores.look(params["stores"], lambda: postgresql_databases(module)),
        "unmarked": stores.unmarked(params["own_paths"]),
        "units": sorted(
            name for pattern in ("airflow-*", "airfield-backup", "airfield-database-clean") for name in stores.units(pattern)
        ),
        "worker_queues": worker_queues(),
        "unanswered": unanswered(params["connect"], params["timeout"]),
        "upgrade": read_json("/var/lib/airfield/upgrade.json", UPGRADE)[0],
        "unresolvable": unresolvable(params["resolve"]),
        "unit_problems": unit_problems(module, params["unit_texts"]),
    }
    if params["database"]:
        result["database"] = probe_database(module, params["database"])
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
