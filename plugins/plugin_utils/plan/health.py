"""What is wrong with a cluster, of the facts of all its hosts and of what the inventory says: pure functions.

The playbook status.yml uses this. Role airflow_slack also installs this very file for the service that talks to Slack, which
tells what status.yml would show without anybody asking: it needs nothing but Python's own library.
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# Severities. What is critical or a warning counts as a finding, a note does not.
CRITICAL, WARNING, NOTE = "critical", "warning", "note"

# Seconds after a start for which a component or a host may still be on its way: three times what the slowest needs on a busy
# machine of two cores (the API server, 60 s).
START = 180.0
# Seconds: Airflow's own [scheduler] scheduler_health_check_threshold and its siblings are 30, at a heartbeat each 5.
HEARTBEAT = 60.0
# Seconds for which a task may wait for a queue that nobody has (a worker may come), and beside free slots.
UNSERVED = 60.0
SLOW = 600.0
# Seconds for which a worker may have no queues but its own: the time limit of a drain, airflow_worker_drain_timeout.
FENCED = 600.0
# Percent of Redis' memory (usual rule for alerts: 80), of database or client connections, and of a disk that is nearly lost.
MEMORY = 80.0
CONNECTIONS = 80.0
LOST = 95.0
# Hours after which a nightly backup is missing twice, and days beyond airflow_backup_test_days for its test.
BACKUP = 50.0
TEST_GRACE = 1.0
# Days for which a certificate must be good at least.
CERTIFICATE = 14.0
# Restarts by itself, the last one within START, after which a unit does not work but dies again and again.
RESTARTS = 3
# Lines of one kind for one host.
LINES = 5

SITE = "`ansible-playbook site.yml`"
DIFFERENCE = f"`ansible-playbook site.yml --check --diff` shows the difference, {SITE} brings it back"


@dataclass(frozen=True)
class Kind:
    """A kind of finding, as docs/operators.md lists it."""

    severity: str
    title: str
    limit: str = ""
    # Whether a run, or the start of a host, may explain it.
    passes: bool = False


KINDS = {
    "host-silent": Kind(CRITICAL, "a host does not answer", "SSH, or a module that fails there", passes=True),
    "not-installed": Kind(CRITICAL, "a host has nothing of what the inventory gives it", passes=True),
    "unit-missing": Kind(CRITICAL, "a unit that the inventory wants is not there", passes=True),
    "unit-stopped": Kind(CRITICAL, "a service does not run", passes=True),
    "unit-failed": Kind(CRITICAL, "a unit has failed", passes=True),
    "unit-restarting": Kind(
        CRITICAL, "a service dies again and again", f"{RESTARTS} times, the last one within {START:g} s", passes=True
    ),
    "unit-frozen": Kind(CRITICAL, "a service was stopped by a signal (SIGSTOP) and hangs"),
    "unit-disabled": Kind(WARNING, "a service or timer would not start at boot", passes=True),
    "unit-unexpected": Kind(WARNING, "a component runs where the inventory has none", passes=True),
    "timer-stopped": Kind(CRITICAL, "a timer does not run", passes=True),
    "timer-ended": Kind(CRITICAL, "a timer has no next run"),
    "file-changed": Kind(WARNING, "a file is not as the last run has written it", passes=True),
    "drop-in": Kind(WARNING, "a unit of Airfield's has a drop-in that is none of Airfield's", passes=True),
    "reload-pending": Kind(WARNING, "systemd has not read a unit that was changed", passes=True),
    "restart-pending": Kind(WARNING, "a service runs with other files than are there now", passes=True),
    "release-differs": Kind(WARNING, "a host has another release than the inventory says, or than the others", passes=True),
    "dags-differ": Kind(CRITICAL, "a host has other DAGs or resources than the scheduler", passes=True),
    "disk-full": Kind(WARNING, "a file system fills up", f"airflow_disk_alert_percent (85); critical from {LOST:g} %"),
    "disk-broken": Kind(CRITICAL, "a file system is read-only, or does not answer"),
    "journal-unlimited": Kind(WARNING, "nothing limits the journal of a host"),
    "clock-skewed": Kind(CRITICAL, "a clock differs from the others'", "airflow_maximum_clock_skew (2 s)"),
    "service-silent": Kind(CRITICAL, "a service runs and does not answer", "5 s", passes=True),
    "peer-silent": Kind(CRITICAL, "a host does not reach what it needs", "a TCP connection within 5 s", passes=True),
    "broker-memory": Kind(WARNING, "Redis' memory fills up", f"{MEMORY:g} % of redis_maxmemory; critical from {LOST:g} %"),
    "broker-persistence": Kind(CRITICAL, "Redis cannot write to its disk, and takes no tasks"),
    "broker-readonly": Kind(CRITICAL, "Redis is a replica, or still loads its data", passes=True),
    "broker-policy": Kind(WARNING, "Redis may drop tasks when it is full", "maxmemory-policy is not noeviction"),
    "broker-connections": Kind(WARNING, "Redis runs out of connections", f"{CONNECTIONS:g} % of maxclients"),
    "database-connections": Kind(
        WARNING, "the database runs out of connections", f"{CONNECTIONS:g} % of max_connections; critical from {LOST:g} %"
    ),
    "heartbeat-old": Kind(
        CRITICAL, "scheduler, DAG processor or triggerer runs without a heartbeat", f"{HEARTBEAT:g} s", passes=True
    ),
    "workers-gone": Kind(CRITICAL, "no worker runs, so that no task starts", passes=True),
    "worker-fenced": Kind(WARNING, "a worker has only its private queue", f"{FENCED:g} s", passes=True),
    "queue-unserved": Kind(
        CRITICAL, "tasks are queued where no running worker takes them", f"{UNSERVED:g} s in the queue", passes=True
    ),
    "queue-slow": Kind(WARNING, "tasks wait beside free slots", f"{SLOW:g} s in the queue", passes=True),
    "import-error": Kind(WARNING, "a file of DAGs cannot be imported"),
    "dag-warning": Kind(WARNING, "a DAG names a pool that is not there"),
    "pool-closed": Kind(WARNING, "tasks wait for a pool without slots", "0 slots"),
    "backup-missing": Kind(CRITICAL, "there is no backup, or no recent one", f"{BACKUP:g} h, or the timer's last run"),
    "backup-failed": Kind(CRITICAL, "the last backup, or its test, has failed"),
    "backup-archive": Kind(WARNING, "an archive on the host is damaged, or nothing is known of it: it counts as no backup"),
    "backup-untested": Kind(WARNING, "no backup was restored for a test lately", "airflow_backup_test_days and a day"),
    "report-unreadable": Kind(CRITICAL, "a record of Airfield's is empty or damaged"),
    "upgrade-unfinished": Kind(CRITICAL, "an upgrade stands half-way", passes=True),
    "certificate": Kind(WARNING, "a certificate ends", f"{CERTIFICATE:g} days; critical when it has ended"),
    # Never counted as findings.
    "run": Kind(NOTE, "a run is in progress"),
    "backlog": Kind(NOTE, "tasks wait because all slots are taken"),
    "pool-full": Kind(NOTE, "tasks wait because all slots of their pool are taken"),
    "other-warning": Kind(NOTE, "Airflow warns of a DAG"),
    "end-of-life": Kind(NOTE, "this series of Airflow gets no corrections any more"),
}

# Units of what is not simply airflow-<component>.service. The first one is what is started.
UNITS: dict[str, tuple[str, ...]] = {
    "logs": ("airflow-logs.timer",),
    "log-retention": ("airflow-log-retention.timer",),
    "backup": ("airfield-backup.timer",),
    "database-clean": ("airfield-database-clean.timer",),
    "worker": ("airflow-worker.service", "airfield-worker-watchdog.timer"),
    "redis": ("redis-server.service",),
    "mysql": ("mysql.service",),
    "seaweedfs": ("seaweedfs.service", "seaweedfs-s3.socket"),
    "health": ("airfield-health.timer",),
}
# Units that another one starts and stops.
OWNERS = {"airfield-worker-watchdog.timer": "airflow-worker.service", "airfield-health.timer": "airflow-alerts.service"}
# What runs for as long as the host does, by the order in which the table shows it; the rest are timers and helpers.
SERVICES = (
    "api-server",
    "webserver",
    "scheduler",
    "dag-processor",
    "triggerer",
    "worker",
    "flower",
    "slack",
    "redis",
    "postgresql",
    "mysql",
    "seaweedfs",
)
JOBS = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
NEEDS_DAGS = ("scheduler", "dag-processor", "triggerer", "worker")
# They end, and are started again, as long as it is away.
NEED_DATABASE = ("api-server", "webserver", "scheduler", "dag-processor", "triggerer")
# Whose unit must be well for a peer to answer.
PROVIDERS = {
    "broker": ("redis",),
    "metadata database": ("postgresql", "mysql"),
    "result backend": ("postgresql", "mysql"),
    "object store": ("seaweedfs",),
    "API server": ("api-server", "webserver"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to do."""

    host: str
    component: str
    kind: str
    what: str
    remedy: str
    severity: str = ""
    # It may be explained by a start of a moment ago.
    young: bool = False

    def __post_init__(self) -> None:
        if not self.severity:
            object.__setattr__(self, "severity", KINDS[self.kind].severity)

    def line(self) -> str:
        where = f"{self.host}: " if self.host else ""
        return f"{where}{self.what}." + (f" Remedy: {self.remedy}." if self.remedy else "")


@dataclass(frozen=True)
class Plan:
    """What the inventory says."""

    # Of each host that was looked at, in the inventory's order: its components, services and timers, by short names.
    components: Mapping[str, Sequence[str]]
    version: str = ""
    end_of_life: str = ""
    disk_percent: float = 85.0
    clock_skew: float = 2.0
    lock_timeout: float = 300.0


def components_of(
    placement: Mapping[str, Sequence[str]], services: Mapping[str, Sequence[str]], housekeeping: Sequence[str] = ()
) -> dict[str, list[str]]:
    """What each host shall run, by short names: components and services by their hosts, and what the first scheduler does
    beside them.
    """
    found: dict[str, list[str]] = {}
    for name, hosts in [*placement.items(), *services.items()]:
        for host in hosts:
            found.setdefault(host, []).append(name)
    for host in placement.get("scheduler", ())[:1]:
        found[host] += housekeeping
    for components in found.values():
        # Of every host with Slack, where it comes with the forwarder of alerts, and of those that only have services.
        if "alerts" in components or not set(components) - set(services):
            components.append("health")
    return found


@dataclass(frozen=True)
class Host:
    """What is known of a host; of one that does not answer, why."""

    name: str
    silent: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    clock: float | None = None

    def part(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.facts.get(name) or {}
        return found

    def unit(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.part("units").get(name) or {}
        return found

    def runs(self, name: str) -> bool:
        return self.unit(name).get("active") in ("active", "reloading")

    def age(self, name: str) -> float:
        """Seconds since a unit became active; without end where that is not known."""
        seconds = self.unit(name).get("active_seconds")
        return float("inf") if seconds is None else float(seconds)


@dataclass(frozen=True)
class Cluster:
    """Plan and hosts together."""

    plan: Plan
    hosts: Mapping[str, Host]

    def answering(self) -> Iterator[tuple[Host, Sequence[str]]]:
        """Each host that has answered, with what it shall run."""
        for name, components in self.plan.components.items():
            if not self.hosts[name].silent:
                yield self.hosts[name], components

    def seen(self) -> list[Host]:
        return [host for host, dummy in self.answering()]

    def running(self, component: str) -> list[Host]:
        """The hosts on which a component runs now."""
        return [host for host, wanted in self.answering() if component in wanted and host.runs(units_of(host, component)[0])]

    def database(self) -> Mapping[str, Any]:
        """What the metadata database has told, whichever host has asked it."""
        told = [host.part("database") for host in self.seen()]
        return next((answer for answer in told if answer and not answer.get("error")), {})

    def run(self) -> Mapping[str, Any]:
        """Who holds the lock of the cluster now."""
        found = [host.part("lock") for host in self.seen()]
        return next((lock for lock in found if lock and lock.get("idle", 0) <= self.plan.lock_timeout), {})

    def just_started(self) -> bool:
        """Whether a host was started a moment ago: others may miss what is on it."""
        return any((host.facts.get("uptime") or START) < START for host in self.seen())


def units_of(host: Host, component: str) -> tuple[str, ...]:
    """The units of a component; PostgreSQL's is named after its version."""
    if component == "postgresql":
        return tuple(name for name in host.part("units") if name.startswith("postgresql@")) or ("postgresql@.service",)
    return UNITS.get(component, (f"airflow-{component}.service",))


def journal(unit: str) -> str:
    return f"`journalctl -u {unit.removesuffix('.service')}`"


# One host ----------------------------------------------------------------------------------------------------------------


def silent_hosts(cluster: Cluster) -> Iterator[Finding]:
    for name in cluster.plan.components:
        host = cluster.hosts[name]
        if host.silent:
            why = " ".join(host.silent.split())[:200].rstrip(". ")
            yield Finding(
                name,
                "host",
                "host-silent",
                f"does not answer ({why})",
                f"`ssh {name}`; bring it back, or take it out of the inventory",
            )
        elif host.facts.get("error"):
            yield Finding(name, "host", "host-silent", str(host.facts["error"]), f"`systemctl` on {name}; restart the host")


def is_installed(host: Host, components: Sequence[str]) -> bool:
    return any(unit in host.part("units") for component in components for unit in units_of(host, component))


def units(cluster: Cluster) -> Iterator[Finding]:
    """What does not run as it should, of the units that the inventory wants."""
    for host, components in cluster.answering():
        if host.facts.get("error"):
            continue
        if components and not is_installed(host, components):
            what = "has nothing of what the inventory gives it"
            yield Finding(host.name, "host", "not-installed", what, SITE)
            continue
        for component in components:
            for unit in units_of(host, component):
                yield from unit_state(host, component, unit)
        yield from other_units(host, components)


def unit_state(host: Host, component: str, unit: str) -> Iterator[Finding]:
    state = host.unit(unit)
    bare = unit.removesuffix(".service")

    def found(kind: str, what: str, remedy: str, young: bool = False) -> Finding:
        return Finding(host.name, component, kind, what, remedy, young=young)

    if not state or state["load"] == "not-found":
        yield found("unit-missing", f"has no {unit}", SITE)
        return
    timer = unit.endswith(".timer")
    owner = OWNERS.get(unit)
    if owner in host.part("units") and not host.runs(str(owner)):
        return
    if state["load"] == "masked" or state["enabled"] in ("disabled", "masked", "masked-runtime"):
        yield found("unit-disabled", f"{unit} is {state['enabled'] or 'masked'}: it would not start at boot", SITE)
    if state["active"] == "failed":
        yield found(
            "unit-failed", f"{unit} has failed ({state['result']})", f"{journal(unit)} on {host.name}; `systemctl start {bare}`"
        )
    elif state["active"] not in ("active", "reloading"):
        coming = state["active"] == "activating" and state["sub"].startswith("start")
        dies = state["sub"] == "auto-restart" or state["restarts"]
        again = f", restarted {state['restarts']} times" if state["restarts"] else ""
        kind = "timer-stopped" if timer else "unit-stopped"
        remedy = f"{journal(unit)} on {host.name}" if dies else f"`systemctl start {bare}` on {host.name}, or {SITE}"
        yield found(kind, f"{unit} does not run ({state['active']}, {state['sub']}{again})", remedy, young=coming)
    elif timer and state["sub"] in ("waiting", "elapsed") and not state["has_next_run"]:
        yield found("timer-ended", f"{unit} has no next run", f"correct its schedule in the inventory, then {SITE}")
    elif state["process"] in ("T", "t"):
        remedy = f"`systemctl kill --signal=CONT {bare}` on {host.name}, or `systemctl restart {bare}`"
        yield found("unit-frozen", f"{unit} is frozen: its process was stopped by a signal", remedy)
    elif state["restarts"] >= RESTARTS and host.age(unit) < START:
        what = f"{unit} has ended by itself {state['restarts']} times, the last time {host.age(unit):.0f} s ago"
        yield found("unit-restarting", what, f"{journal(unit)} on {host.name}")


def other_units(host: Host, components: Sequence[str]) -> Iterator[Finding]:
    """Units beside those that are started: what timers start, and what the inventory does not want here."""
    wanted = {unit for component in components for unit in units_of(host, component)}
    ours = {f"airflow-{component}" for component in components}
    for unit, state in host.part("units").items():
        stem = unit.rpartition(".")[0]
        if unit not in wanted and state["active"] == "failed":
            what, remedy = f"{unit} has failed ({state['result']})", f"{journal(unit)} on {host.name}; `systemctl start {stem}`"
            yield Finding(host.name, stem.partition("-")[2], "unit-failed", what, remedy)
        elif unit.startswith("airflow-") and stem not in ours and unit not in wanted and state["active"] == "active":
            what = f"{unit} runs, and the inventory has no such component here"
            yield Finding(host.name, stem, "unit-unexpected", what, f"{SITE} removes it, or put the host into its group")


def drift(cluster: Cluster) -> Iterator[Finding]:
    """What was changed by hand, and what runs with something else than is there."""
    for host in cluster.seen():
        rows = host.facts.get("drift") or []
        for row in rows[:LINES]:
            yield Finding(host.name, row["unit"], "file-changed", f"{row['path']} {row['how']} since the last run", DIFFERENCE)
        if len(rows) > LINES:
            yield Finding(host.name, "host", "file-changed", f"{len(rows) - LINES} more files were changed", DIFFERENCE)
        for unit, state in host.part("units").items():
            if state["drop_ins"] and state["ours"]:
                what = f"{unit} has a drop-in of somebody's, {', '.join(state['drop_ins'])}"
                remedy = f"put it into the inventory (airflow_..._unit), then `systemctl revert {unit}` and {SITE}"
                yield Finding(host.name, unit, "drop-in", what, remedy)
            if state["reload"]:
                what = f"{unit} was changed, and systemd has not read it"
                yield Finding(host.name, unit, "reload-pending", what, DIFFERENCE)
        for service in host.facts.get("pending") or []:
            unit = f"{service}.service"
            # What a timer starts takes the present files the next time.
            if host.runs(unit) and host.unit(unit)["type"] != "oneshot":
                what = f"{unit} runs with other files than are there now"
                yield Finding(
                    host.name, service, "restart-pending", what, f"{SITE} restarts it, workers when their tasks have ended"
                )


def releases(cluster: Cluster) -> Iterator[Finding]:
    found = {host.name: host.facts.get("release", "") for host in cluster.seen()}
    found = {name: release for name, release in found.items() if release}
    wanted = cluster.plan.version
    usual = statistics.mode(found.values()) if found else ""
    for name, release in found.items():
        if wanted and not release.startswith(f"{wanted}-"):
            what = f"has release {release}, and the inventory says Airflow {wanted}"
            yield Finding(
                name, "release", "release-differs", what, "`ansible-playbook playbooks/upgrade.yml`, or correct airflow_version"
            )
        elif release != usual:
            yield Finding(name, "release", "release-differs", f"has release {release}, others have {usual}", SITE)


def dags(cluster: Cluster) -> Iterator[Finding]:
    """Hosts whose DAGs or resources are not those of the first scheduler that answers."""
    rows = [(host, host.part("dags")) for host, wanted in cluster.answering() if set(wanted) & set(NEEDS_DAGS)]
    rows = [(host, has) for host, has in rows if has and host.facts.get("release")]
    references = [row for row in rows if "scheduler" in cluster.plan.components[row[0].name]]
    if not references:
        return
    reference, wanted = references[0]
    for host, has in rows:
        for kind in ("dags", "resources"):
            if has.get(kind) != wanted.get(kind):
                names = {"dags": "DAGs", "resources": "resources"}[kind]
                what = f"has {describe(has.get(kind))} of the {names}, {reference.name} has {describe(wanted.get(kind))}"
                yield Finding(host.name, kind, "dags-differ", what, "`ansible-playbook playbooks/deploy_dags.yml`")


def describe(revision: Any) -> str:
    return f"revision {revision}" if revision else "none"


def disks(cluster: Cluster) -> Iterator[Finding]:
    for host, components in cluster.answering():
        for disk in host.facts.get("disks") or []:
            path = disk["path"]
            if "error" in disk:
                what = f"the file system of {path} does not answer ({disk['error']})"
                yield Finding(host.name, "disk", "disk-broken", what, f"`df {path}` and `dmesg` on {host.name}")
                continue
            if disk["read_only"] and path != "/":
                what = f"the file system of {path} is read-only"
                yield Finding(host.name, "disk", "disk-broken", what, f"`dmesg` on {host.name} says why; mount it again")
            for share, of_what in ((disk["percent"], ""), (disk["files_percent"], " of files")):
                if share > cluster.plan.disk_percent:
                    what = f"the file system of {path} is {share} % full{of_what}, {disk['free_mb']} MB are left"
                    severity = CRITICAL if share >= LOST else WARNING
                    remedy = f"make room, `du -xh {path} | sort -h | tail` on {host.name} shows what takes it"
                    yield Finding(host.name, "disk", "disk-full", what, remedy, severity)
        if host.facts and not host.facts.get("journal_limit") and is_installed(host, components):
            yield Finding(host.name, "journal", "journal-unlimited", "nothing limits the size of its journal", SITE)


def clocks(cluster: Cluster) -> Iterator[Finding]:
    offsets = {host.name: host.clock for host in cluster.seen() if host.clock is not None}
    if not offsets:
        return
    middle = statistics.median_low(offsets.values())
    worst = max(offsets, key=lambda name: abs(offsets[name] - middle))
    apart = max(offsets.values()) - min(offsets.values())
    for name, offset in offsets.items():
        seconds = offset - middle
        if abs(seconds) > cluster.plan.clock_skew or (apart > cluster.plan.clock_skew and name == worst):
            what = f"its clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} the other hosts'"
            yield Finding(
                name, "clock", "clock-skewed", what, f"set up time synchronisation (systemd-timesyncd or chrony) on {name}"
            )


def pages(cluster: Cluster) -> Iterator[Finding]:
    """Services that run and do not answer on their own host."""
    for host in cluster.seen():
        for unit, fault in host.part("pages").items():
            service = "seaweedfs.service" if unit == "seaweedfs-s3.socket" else unit
            if fault and host.runs(unit) and host.runs(service):
                remedy = f"`systemctl restart {unit.removesuffix('.service')}` on {host.name}; {journal(service)} says more"
                name = unit.rpartition(".")[0].removeprefix("airflow-")
                young = min(host.age(unit), host.age(service)) < START
                yield Finding(host.name, name, "service-silent", f"{unit} does not answer ({fault})", remedy, young=young)


def certificates(cluster: Cluster) -> Iterator[Finding]:
    for host in cluster.seen():
        for row in host.facts.get("certificates") or []:
            remedy = "put a new one in its place, and `ansible-playbook playbooks/restart.yml`"
            if "error" in row:
                what = f"the certificate {row['path']} cannot be read ({row['error']})"
                yield Finding(host.name, "certificate", "certificate", what, remedy, CRITICAL)
            elif row["days"] < CERTIFICATE:
                what = f"the certificate {row['path']} ends in {row['days']:.0f} days"
                severity = WARNING
                if row["days"] <= 0:
                    what, severity = f"the certificate {row['path']} has ended", CRITICAL
                yield Finding(host.name, "certificate", "certificate", what, remedy, severity)


def backups(cluster: Cluster) -> Iterator[Finding]:
    """On the hosts that back the cluster up; and records that cannot be read, on all."""
    make = "`ansible-playbook playbooks/backup.yml`"
    for host, components in cluster.answering():
        for name in ("backup", "upgrade"):
            fault = host.part(name).get("unreadable")
            if fault:
                remedy = f"{make} makes it anew" if name == "backup" else "the file's copy in a backup, or remove it"
                yield Finding(host.name, name, "report-unreadable", str(fault), remedy)
        known = host.part("backup")
        if "backup" not in components or known.get("unreadable") or not is_installed(host, components):
            continue
        if known.get("error"):
            what = f"the last backup has failed: {' '.join(str(known['error']).split())[:200].rstrip('.')}"
            yield Finding(
                host.name, "backup", "backup-failed", what, f"{journal('airfield-backup.service')} on {host.name}, then {make}"
            )
        for name, why in sorted((known.get("broken") or {}).items())[:1]:
            what, dummy, remedy = why.partition(" Remedy: ")
            others = f" (and {len(known['broken']) - 1} more)" if len(known["broken"]) > 1 else ""
            yield Finding(
                host.name, "backup", "backup-archive", f"{what.rstrip('.') or name}{others}", remedy.rstrip(".") or make
            )
        last = known.get("last")
        if not last:
            yield Finding(host.name, "backup", "backup-missing", "no backup of the cluster was ever made", make)
            continue
        missed = missed_backup(host, last)
        if missed and not known.get("error"):
            yield Finding(
                host.name,
                "backup",
                "backup-missing",
                missed,
                f"{journal('airfield-backup.service')} on {host.name}, then {make}",
            )
        days = known.get("test_days") or 0
        tested = known.get("tested") or {}
        # A cluster that is younger than the test's period has its first test in its first backup.
        if days and tested.get("age_hours", float("inf")) > (days + TEST_GRACE) * 24 and not known.get("error"):
            when = f"for {tested['age_hours'] / 24:.0f} days" if tested else "so far"
            yield Finding(
                host.name, "backup", "backup-untested", f"no backup was restored for a test {when}", f"{make} tests one"
            )


def missed_backup(host: Host, last: Mapping[str, Any]) -> str:
    """That the timer has run and left no backup, or that the last one is old; empty where neither is so."""
    trigger = host.unit("airfield-backup.timer").get("last_trigger") or 0
    if host.unit("airfield-backup.service").get("active") in ("active", "activating"):
        return ""
    # The backup's time is when it began; the delay of a busy host is less than this.
    if trigger and host.facts.get("time", 0) - trigger > START and last["time"] < trigger - START:
        return f"the timer's last run has left no backup: the last one is {last['age_hours']:.0f} hours old"
    if not trigger and last["age_hours"] > BACKUP:
        return f"the last backup is {last['age_hours']:.0f} hours old"
    return ""


def upgrades(cluster: Cluster) -> Iterator[Finding]:
    for host in cluster.seen():
        state = host.part("upgrade").get("state", "done")
        if state != "done":
            record = host.part("upgrade")
            what = f"the upgrade from {record.get('from', '?')} to {record.get('to', '?')} stands half-way ({state})"
            remedy = "`ansible-playbook playbooks/upgrade.yml` goes on, `playbooks/rollback.yml` goes back"
            yield Finding(host.name, "upgrade", "upgrade-unfinished", what, remedy)


# The cluster -------------------------------------------------------------------------------------------------------------


def is_down(cluster: Cluster, services: Sequence[str]) -> bool:
    """Whether one of our own services is known not to run, which explains all that misses it."""
    for host, components in cluster.answering():
        for service in set(services) & set(components):
            if not all(host.runs(unit) for unit in units_of(host, service)):
                return True
    silent = [name for name, host in cluster.hosts.items() if host.silent]
    return any(set(services) & set(cluster.plan.components[name]) for name in silent)


def peers(cluster: Cluster) -> Iterator[Finding]:
    """What hosts do not reach though it is not known to be down: one line for all hosts that miss the same."""
    missing: dict[str, dict[str, str]] = {}
    for host in cluster.seen():
        told = {what: fault for what, fault in host.part("peers").items() if fault}
        for what, name in (("broker", "broker"), ("database", "metadata database")):
            fault = host.part(what).get("error")
            if fault and name not in told:
                told[name] = " ".join(str(fault).split())[:200]
        for name, fault in told.items():
            missing.setdefault(name, {})[host.name] = fault
    for name, hosts in missing.items():
        if not is_down(cluster, PROVIDERS.get(name, ())):
            what = f"the {name} does not answer {', '.join(hosts)} ({next(iter(hosts.values()), '').rstrip('.')})"
            remedy = "see that the service runs, and that firewalls and its own rules let these hosts in"
            yield Finding("", name, "peer-silent", what, remedy)


def broker(cluster: Cluster) -> Iterator[Finding]:
    """Redis as it describes itself."""
    told = [host.part("broker") for host in cluster.seen()]
    facts = next((answer for answer in told if answer and not answer.get("error")), None)
    if facts is None:
        return
    stop = "stop what fills it, raise redis_maxmemory, then " + SITE
    most, used = facts.get("maxmemory") or 0, facts.get("used_memory") or 0
    if most and 100 * used / most >= MEMORY:
        what = f"Redis uses {100 * used / most:.0f} % of its {most // 2**20} MB; full, it takes no tasks"
        yield Finding("", "broker", "broker-memory", what, stop, CRITICAL if 100 * used / most >= LOST else WARNING)
    for name, value in facts.items():
        if name.endswith("_status") and value not in ("ok", "", 0, 1):
            what = f"Redis cannot write its data ({name} is {value}), and takes no tasks then"
            yield Finding(
                "", "broker", "broker-persistence", what, "see the disk of its host, and `journalctl -u redis-server` there"
            )
    if facts.get("role", "master") != "master":
        yield Finding(
            "",
            "broker",
            "broker-readonly",
            f"Redis is a {facts['role']}, which takes no tasks",
            "point airflow_broker to the primary",
        )
    elif facts.get("loading"):
        yield Finding("", "broker", "broker-readonly", "Redis still loads its data", "wait for it")
    if facts.get("maxmemory_policy", "noeviction") != "noeviction" and most:
        what = f"Redis drops tasks when it is full (maxmemory-policy is {facts['maxmemory_policy']})"
        yield Finding("", "broker", "broker-policy", what, "set maxmemory-policy noeviction")
    clients, limit = facts.get("connected_clients") or 0, facts.get("maxclients") or 0
    if limit and 100 * clients / limit >= CONNECTIONS:
        what = f"Redis has {clients} of {limit} connections"
        yield Finding("", "broker", "broker-connections", what, "`CLIENT LIST` shows whose; raise maxclients")


def connections(cluster: Cluster) -> Iterator[Finding]:
    known = cluster.database().get("connections")
    if known and known["most"] and 100 * known["used"] / known["most"] >= CONNECTIONS:
        share = 100 * known["used"] / known["most"]
        what = f"the metadata database has {known['used']} of {known['most']} connections"
        remedy = "see whose they are (`pg_stat_activity`, `show processlist`), or raise postgresql_max_connections"
        yield Finding("", "metadata database", "database-connections", what, remedy, CRITICAL if share >= LOST else WARNING)


def heartbeats(cluster: Cluster) -> Iterator[Finding]:
    """Components whose unit runs and that Airflow has not heard of lately."""
    jobs = cluster.database().get("jobs")
    if jobs is None:
        return
    for component, job in JOBS.items():
        ages = {row["hostname"]: row["age"] for row in jobs if row["job"] == job}
        running = cluster.running(component)
        # By the name that the process has for itself, which an option of Airflow's may change.
        fresh = [name for name, age in ages.items() if age is not None and age <= HEARTBEAT]
        if len(fresh) >= len(running):
            continue
        for host in running:
            name = host.facts.get("hostname", host.name)
            if name in fresh:
                continue
            unit = f"airflow-{component}.service"
            age = ages.get(name)
            since = f"for {age:.0f} s" if age is not None else "since its start"
            what = f"{unit} runs, and has had no heartbeat {since}"
            remedy = f"`systemctl restart airflow-{component}` on {host.name}; {journal(unit)} says more"
            young = host.age(unit) < START
            yield Finding(host.name, component, "heartbeat-old", what, remedy, young=young)


def workers(cluster: Cluster) -> Iterator[Finding]:
    wanted = [name for name, components in cluster.plan.components.items() if "worker" in components]
    running = cluster.running("worker")
    there = [
        name for name in wanted if cluster.hosts[name].silent or "airflow-worker.service" in cluster.hosts[name].part("units")
    ]
    if there and not running:
        what = f"no worker runs ({', '.join(wanted[:LINES])}{' ...' if len(wanted) > LINES else ''}), so that no task starts"
        yield Finding("", "worker", "workers-gone", what, "`systemctl start airflow-worker` there; " + SITE)
    for host in running:
        worker = host.part("worker")
        if not ordinary_queues(host):
            young = worker.get("seconds", 0) < FENCED
            what = "airflow-worker takes no tasks: it has no queue but its private one"
            yield Finding(host.name, "worker", "worker-fenced", what, f"{SITE} proves it, and gives it its queues", young=young)


def ordinary_queues(host: Host) -> list[str]:
    return [queue for queue in host.part("worker").get("queues", ()) if not queue.startswith("canary.")]


def queues(cluster: Cluster) -> Iterator[Finding]:
    """Tasks that wait, by why they do."""
    database = cluster.database()
    wanted = [name for name, components in cluster.plan.components.items() if "worker" in components]
    running = cluster.running("worker")
    if not wanted:
        return  # the workers were not looked at
    for row in database.get("queued") or ():
        age, queue = row["age"] or 0, row["queue"]
        tasks = f"{row['tasks']} task{'s' if row['tasks'] != 1 else ''} in queue {queue}"
        takers = [host for host in running if queue in host.part("worker").get("queues", ())]
        if not takers:
            if age >= UNSERVED:
                what = f"{tasks}, the oldest for {minutes(age)}, and no running worker has that queue"
                remedy = f"add {queue} to airflow_worker_queues of a worker, then {SITE}; or correct the task's queue"
                yield Finding("", "queue", "queue-unserved", what, remedy)
        elif age >= SLOW:
            used = database.get("running") or {}
            free = sum(host.part("worker").get("slots", 0) - used.get(host.facts.get("hostname"), 0) for host in takers)
            if free > 0:
                names = ", ".join(host.name for host in takers)
                what = f"{tasks}, the oldest for {minutes(age)}, beside free slots ({names})"
                remedy = f"`journalctl -u airflow-worker -u airfield-worker-watchdog` on {takers[0].name}; "
                remedy += "`ansible-playbook playbooks/restart.yml`"
                yield Finding("", "queue", "queue-slow", what, remedy)
            else:
                yield Finding(
                    "",
                    "queue",
                    "backlog",
                    f"{tasks} wait for slots, the oldest for {minutes(age)}",
                    "more workers, or more slots",
                )
    for name, pool in (database.get("pools") or {}).items():
        if pool["waiting"] and not pool["slots"]:
            missing = pool["slots"] is None
            why = "which is not there" if missing else "which has no slots"
            what = f"{pool['waiting']} tasks wait for the pool {name}, {why}"
            yield Finding("", "pool", "pool-closed", what, "give it slots (airflow_pools), or correct the tasks' pool")
        elif pool["waiting"] and 0 < pool["slots"] <= pool["used"]:
            yield Finding(
                "",
                "pool",
                "pool-full",
                f"{pool['waiting']} tasks wait for slots of the pool {name}",
                "more slots (airflow_pools)",
            )


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def dag_files(cluster: Cluster) -> Iterator[Finding]:
    database = cluster.database()
    rows = database.get("import_errors") or []
    correct = "correct it, and deliver again (`ansible-playbook playbooks/deploy_dags.yml`)"
    for row in rows[:LINES]:
        yield Finding("", "dags", "import-error", f"{row['file']} cannot be imported: {row['error'].rstrip('.')}", correct)
    more = database.get("import_error_count", len(rows)) - LINES
    if more > 0:
        yield Finding("", "dags", "import-error", f"{more} more files cannot be imported", "Airflow's page shows all")
    for row in database.get("warnings") or ():
        pool = "pool" in row["kind"].lower()
        what = f"Airflow warns of DAG {row['dag']}: {row['message'].rstrip('.')}"
        remedy = "add the pool to airflow_pools" if pool else ""
        yield Finding("", "dags", "dag-warning" if pool else "other-warning", what, remedy)


def series(cluster: Cluster) -> Iterator[Finding]:
    if cluster.plan.end_of_life:
        what = f"Airflow {cluster.plan.version} gets no corrections since {cluster.plan.end_of_life}"
        yield Finding("", "release", "end-of-life", what, "upgrade, see docs/operators.md")


def runs(cluster: Cluster) -> Iterator[Finding]:
    run = cluster.run()
    if run:
        yield Finding("", "run", "run", f"a run of {run.get('playbook')} by {run.get('who')} is in progress", "")


RULES: tuple[Callable[[Cluster], Iterator[Finding]], ...] = (
    silent_hosts,
    units,
    workers,
    pages,
    peers,
    broker,
    connections,
    heartbeats,
    queues,
    dags,
    releases,
    drift,
    disks,
    clocks,
    backups,
    upgrades,
    certificates,
    dag_files,
    series,
    runs,
)


# All together ------------------------------------------------------------------------------------------------------------


def explained(finding: Finding, findings: Sequence[Finding]) -> bool:
    """Whether another finding says the same better."""
    if finding.kind == "unit-failed" and finding.component == "logs":
        # It has failed for that.
        return any(other.kind == "disk-full" and other.host == finding.host for other in findings)
    if finding.kind == "peer-silent":
        silent = {other.component for other in findings if other.kind == "service-silent"}
        # The gateway of SeaweedFS is named after its socket.
        return any(service in name for service in PROVIDERS.get(finding.component, ()) for name in silent)
    if finding.kind == "unit-failed" and finding.component == "backup":
        return any(other.kind == "backup-failed" and other.host == finding.host for other in findings)
    changed = {(other.host, other.component) for other in findings if other.kind in ("drop-in", "file-changed")}
    names = (finding.component, finding.component.rpartition(".")[0])
    return finding.kind == "reload-pending" and any((finding.host, name) in changed for name in names)


def soften(finding: Finding, run: Mapping[str, Any], just_started: bool, no_database: bool) -> Finding:
    """A note instead of a finding that will pass by itself, or that another one brings with it, with why."""
    if finding.severity == NOTE or not KINDS[finding.kind].passes:
        return finding
    if (
        no_database
        and finding.component in NEED_DATABASE
        and finding.kind in ("unit-stopped", "unit-restarting", "unit-failed")
    ):
        return replace(finding, severity=NOTE, what=f"{finding.what} (the metadata database does not run)")
    if run:
        return replace(finding, severity=NOTE, what=f"{finding.what} (a run is in progress)")
    if just_started or finding.young:
        return replace(finding, severity=NOTE, what=f"{finding.what} (started a moment ago)")
    return finding


def find(plan: Plan, hosts: Mapping[str, Host]) -> list[Finding]:
    """All that is wrong, and the notes; what is critical first."""
    cluster = Cluster(plan, {name: hosts.get(name, Host(name, silent="it was not looked at")) for name in plan.components})
    found = [finding for rule in RULES for finding in rule(cluster)]
    run, started = cluster.run(), cluster.just_started()
    no_database = is_down(cluster, PROVIDERS["metadata database"])
    found = [soften(finding, run, started, no_database) for finding in found if not explained(finding, found)]
    return sorted(found, key=lambda finding: (CRITICAL, WARNING, NOTE).index(finding.severity))
