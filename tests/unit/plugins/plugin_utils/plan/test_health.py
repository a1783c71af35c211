from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import health

Facts = dict[str, Any]
Change = Callable[[Facts], None]
PLACEMENT = {
    "api-server": ["web1"],
    "scheduler": ["scheduler1"],
    "dag-processor": ["scheduler1"],
    "triggerer": ["scheduler1"],
    "worker": ["worker1", "worker2"],
    "logs": ["scheduler1", "web1", "worker1", "worker2"],
    "log-retention": ["web1"],
    "alerts": [],
}
SERVICES = {"redis": ["store1"], "postgresql": ["store1"], "seaweedfs": ["store1"], "mysql": []}
COMPONENTS = health.components_of(PLACEMENT, SERVICES, ["backup", "database-clean"])
PLAN = health.Plan(COMPONENTS, version="3.3.2")
NOW = 1_800_000_000.0
GB = 2**30


def unit(name: str, **different: Any) -> Facts:
    """A unit as module_utils/host_health.py describes one that is well."""
    kind = name.rpartition(".")[2]
    found: Facts = {
        "load": "loaded",
        "active": "active",
        "sub": {"service": "running", "timer": "waiting", "socket": "running"}[kind],
        "result": "success",
        "enabled": "enabled",
        "reload": False,
        "type": "exec" if kind == "service" else "",
        "restarts": 0,
        "active_seconds": 86_400.0,
        "inactive_seconds": None,
        "process": "S" if kind == "service" else "",
        "has_next_run": kind == "timer",
        "last_trigger": int(NOW - 3_600) if kind == "timer" else 0,
        "listen": "",
        "ours": True,
        "drop_ins": [],
        "writes": [],
    }
    return {**found, **different}


def idle(name: str) -> Facts:
    """A service that a timer starts, after its run."""
    return unit(name, active="inactive", sub="dead", enabled="static", type="oneshot", process="")


def well(name: str) -> Facts:
    """The facts of a host of a cluster that is well."""
    names = [unit for component in COMPONENTS[name] for unit in health.UNITS.get(component, (f"airflow-{component}.service",))]
    names = ["postgresql@15-main.service" if unit == "airflow-postgresql.service" else unit for unit in names]
    found = {name: unit(name) for name in names}
    timers = [name for name in names if name.endswith(".timer")]
    found |= {name: idle(name) for name in (timer.replace(".timer", ".service") for timer in timers)}
    facts: Facts = {
        "time": NOW,
        "error": "",
        "uptime": 86_400.0,
        "hostname": name,
        "units": found,
        "drift": [],
        "pending": [],
        "disks": [{"path": "/", "percent": 40, "files_percent": 5, "free_mb": 50_000, "read_only": False}],
        "journal_limit": True,
        "lock": {},
        "backup": {},
        "upgrade": {},
        "worker": {},
        "certificates": [],
        "release": "" if name == "store1" else "3.3.2-abc",
        "dags": {"dags": "" if name in ("store1", "web1") else "r1", "resources": ""},
        "pages": {},
        "peers": {},
        "broker": {},
        "database": {},
    }
    if "worker" in COMPONENTS[name]:
        facts["worker"] = {"queues": [f"canary.{name}", "default", name], "seconds": 86_400, "slots": 4}
        facts["peers"] = {"broker": "", "API server": ""}
    if name == "web1":
        facts["pages"] = {"airflow-api-server.service": ""}
    if name == "store1":
        facts["pages"] = {"seaweedfs-s3.socket": ""}
    if name == "scheduler1":
        facts["backup"] = {
            "error": "",
            "last": {"name": "one", "time": NOW - 3_500, "age_hours": 0.97},
            "tested": {"name": "one", "time": NOW - 3_500, "age_hours": 0.97},
            "test_days": 7,
        }
        facts["broker"] = {
            "error": "",
            "role": "master",
            "loading": 0,
            "used_memory": GB // 10,
            "maxmemory": GB,
            "maxmemory_policy": "noeviction",
            "connected_clients": 30,
            "maxclients": 10_000,
            "aof_last_write_status": "ok",
            "aof_last_bgrewrite_status": "ok",
            "rdb_last_bgsave_status": "ok",
        }
        facts["database"] = {
            "error": "",
            "connections": {"used": 20, "most": 297},
            "bytes": GB,
            "jobs": [{"job": job, "hostname": name, "age": 5.0} for job in health.JOBS.values()],
            "import_errors": [],
            "import_error_count": 0,
            "warnings": [],
            "queued": [],
            "running": {},
            "pools": {"default_pool": {"slots": 128, "used": 3, "waiting": 0}},
        }
        facts["peers"] = {"broker": "", "metadata database": ""}
    return facts


class Hosts:
    """The hosts of that cluster, for a test to break."""

    def __init__(self) -> None:
        self.facts = {name: well(name) for name in COMPONENTS}
        self.silent: dict[str, str] = {}
        self.clocks: dict[str, float] = {}
        self.plan = PLAN

    def __getitem__(self, name: str) -> Facts:
        return self.facts[name]

    def find(self) -> list[health.Finding]:
        hosts = {
            name: health.Host(name, self.silent.get(name, ""), copy.deepcopy(facts), self.clocks.get(name))
            for name, facts in self.facts.items()
        }
        return health.find(self.plan, hosts)

    def told(self) -> list[tuple[str, str]]:
        """Host and kind of what is wrong."""
        return [(finding.host, finding.kind) for finding in self.find() if finding.severity != health.NOTE]

    def noted(self) -> list[tuple[str, str]]:
        return [(finding.host, finding.kind) for finding in self.find() if finding.severity == health.NOTE]

    def stop(self, host: str, *units: str) -> None:
        for name in units:
            self[host]["units"][name] |= {"active": "inactive", "sub": "dead", "process": ""}


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


def test_a_cluster_that_is_well_has_no_findings(hosts: Hosts) -> None:
    assert hosts.find() == []


def test_components_have_their_hosts_and_the_first_scheduler_does_the_rest() -> None:
    assert COMPONENTS["scheduler1"] == ["scheduler", "dag-processor", "triggerer", "logs", "backup", "database-clean"]
    # Who only has services is watched by a timer of its own.
    assert COMPONENTS["store1"] == ["redis", "postgresql", "seaweedfs", "health"]
    assert health.components_of({"scheduler": ["a"], "alerts": ["a"]}, {}) == {"a": ["scheduler", "alerts", "health"]}


# Hosts


def test_a_host_that_does_not_answer_is_told_and_the_others_are_looked_at(hosts: Hosts) -> None:
    hosts.silent["worker1"] = "Failed to connect: No route to host"
    hosts.stop("worker2", "airflow-worker.service")
    assert hosts.told() == [("worker1", "host-silent"), ("worker2", "unit-stopped"), ("", "workers-gone")]
    assert "No route to host" in hosts.find()[0].line()


def test_a_database_on_a_host_that_does_not_answer_is_not_told_twice(hosts: Hosts) -> None:
    hosts.silent["store1"] = "no route"
    hosts["scheduler1"]["database"] = {"error": "no route"}
    hosts["worker1"]["peers"]["broker"] = "no route"
    assert hosts.told() == [("store1", "host-silent")]


def test_a_host_without_anything_is_one_finding(hosts: Hosts) -> None:
    hosts["worker2"].update(
        {
            "units": {},
            "release": "",
            "worker": {},
            "dags": {"dags": "", "resources": ""},
            "journal_limit": False,
        }
    )
    assert hosts.told() == [("worker2", "not-installed")]


def test_a_cluster_that_was_never_installed_is_one_finding_a_host(hosts: Hosts) -> None:
    for facts in hosts.facts.values():
        facts.update(units={}, worker={}, backup={}, database={}, broker={}, release="", dags={})
    assert hosts.told() == [(name, "not-installed") for name in COMPONENTS]


def test_systemd_that_does_not_answer_is_told_once(hosts: Hosts) -> None:
    hosts["web1"].update(units={}, error="systemd does not answer: timeout")
    assert hosts.told() == [("web1", "host-silent")]


# Units


def test_both_workers_stopped(hosts: Hosts) -> None:
    hosts.stop("worker1", "airflow-worker.service", "airfield-worker-watchdog.timer")
    hosts.stop("worker2", "airflow-worker.service", "airfield-worker-watchdog.timer")
    assert hosts.told() == [("worker1", "unit-stopped"), ("worker2", "unit-stopped"), ("", "workers-gone")]
    assert "systemctl start airflow-worker" in hosts.find()[0].remedy


@pytest.mark.parametrize(
    ("host", "name", "change", "kind"),
    [
        ("worker1", "airflow-worker.service", {"active": "inactive", "sub": "dead"}, "unit-stopped"),
        ("store1", "redis-server.service", {"active": "inactive", "sub": "dead"}, "unit-stopped"),
        ("store1", "postgresql@15-main.service", {"active": "inactive", "sub": "dead"}, "unit-stopped"),
        ("store1", "seaweedfs.service", {"active": "inactive", "sub": "dead"}, "unit-stopped"),
        ("store1", "seaweedfs-s3.socket", {"active": "inactive", "sub": "dead"}, "unit-stopped"),
        ("web1", "airflow-api-server.service", {"active": "activating", "sub": "auto-restart", "restarts": 9}, "unit-stopped"),
        ("web1", "airflow-api-server.service", {"active": "failed", "result": "oom-kill"}, "unit-failed"),
        ("web1", "airflow-log-retention.service", {"active": "failed", "result": "exit-code"}, "unit-failed"),
        ("scheduler1", "airfield-backup.service", {"active": "failed", "result": "signal"}, "unit-failed"),
        ("web1", "airflow-api-server.service", {"restarts": 3, "active_seconds": 20.0}, "unit-restarting"),
        ("scheduler1", "airflow-scheduler.service", {"process": "T"}, "unit-frozen"),
        ("web1", "airflow-log-retention.timer", {"active": "inactive", "sub": "dead"}, "timer-stopped"),
        ("web1", "airflow-log-retention.timer", {"enabled": "disabled"}, "unit-disabled"),
        ("web1", "airflow-log-retention.timer", {"load": "masked", "enabled": "masked"}, "unit-disabled"),
        ("web1", "airflow-log-retention.timer", {"sub": "elapsed", "has_next_run": False}, "timer-ended"),
        ("store1", "redis-server.service", {"enabled": "disabled"}, "unit-disabled"),
        ("store1", "airfield-health.timer", {"load": "not-found", "active": "inactive"}, "unit-missing"),
        ("worker1", "airflow-worker.service", {"drop_ins": ["/etc/x.d/mine.conf"]}, "drop-in"),
        ("worker1", "airflow-worker.service", {"reload": True}, "reload-pending"),
        # One that systemd has read anew after a change by hand has both, and is told once.
        ("worker1", "airflow-worker.service", {"drop_ins": ["/etc/x.d/mine.conf"], "reload": True}, "drop-in"),
    ],
)
def test_unit_that_is_not_as_it_should_be(hosts: Hosts, host: str, name: str, change: Facts, kind: str) -> None:
    hosts[host]["units"][name] |= change
    assert hosts.told() == [(host, kind)]
    assert name in hosts.find()[0].what
    assert hosts.find()[0].remedy


@pytest.mark.parametrize(
    ("host", "name", "change"),
    [
        # What a timer starts, and what a socket does.
        ("store1", "airfield-health.timer", {"sub": "running", "has_next_run": False}),
        ("worker1", "airfield-worker-watchdog.timer", {"enabled": "static"}),
        # Old restarts by itself, and one of a moment ago.
        ("web1", "airflow-api-server.service", {"restarts": 30}),
        ("web1", "airflow-api-server.service", {"restarts": 1, "active_seconds": 5.0}),
        # Of a package's unit a drop-in is the operator's business.
        ("store1", "redis-server.service", {"drop_ins": ["/etc/x.d/limits.conf"], "ours": False}),
    ],
)
def test_unit_that_is_well_all_the_same(hosts: Hosts, host: str, name: str, change: Facts) -> None:
    hosts[host]["units"][name] |= change
    assert hosts.find() == []


def test_unit_that_is_starting_is_a_note(hosts: Hosts) -> None:
    hosts["store1"]["units"]["postgresql@15-main.service"] |= {"active": "activating", "sub": "start"}
    assert hosts.told() == []
    assert hosts.noted() == [("store1", "unit-stopped")]


def test_component_that_the_inventory_has_elsewhere(hosts: Hosts) -> None:
    hosts["worker1"]["units"]["airflow-triggerer.service"] = unit("airflow-triggerer.service")
    assert hosts.told() == [("worker1", "unit-unexpected")]


def test_components_that_end_for_want_of_their_database_are_notes(hosts: Hosts) -> None:
    hosts.stop("store1", "postgresql@15-main.service")
    hosts["scheduler1"]["units"]["airflow-scheduler.service"] |= {"active": "activating", "sub": "auto-restart"}
    hosts.stop("worker1", "airflow-worker.service")
    assert hosts.told() == [("worker1", "unit-stopped"), ("store1", "unit-stopped")]
    assert hosts.noted() == [("scheduler1", "unit-stopped")]


# Files


def test_file_changed_by_hand(hosts: Hosts) -> None:
    hosts["worker1"]["drift"] = [{"path": "/etc/airflow/airflow.cfg", "unit": "airflow-config", "how": "has another content"}]
    assert hosts.told() == [("worker1", "file-changed")]
    assert "site.yml --check --diff" in hosts.find()[0].remedy


def test_many_changed_files_are_a_few_lines(hosts: Hosts) -> None:
    hosts["worker1"]["drift"] = [{"path": f"/x{number}", "unit": "u", "how": "is missing"} for number in range(40)]
    assert hosts.told() == [("worker1", "file-changed")] * (health.LINES + 1)
    assert "35 more files" in hosts.find()[-1].what


def test_unit_changed_by_hand_that_systemd_has_not_read_is_told_once(hosts: Hosts) -> None:
    hosts["worker1"]["drift"] = [{"path": "/etc/systemd/x", "unit": "airflow-worker", "how": "has another content"}]
    hosts["worker1"]["units"]["airflow-worker.service"]["reload"] = True
    assert hosts.told() == [("worker1", "file-changed")]


def test_pending_restart_of_what_runs(hosts: Hosts) -> None:
    # What a timer starts takes the new files by itself.
    hosts["web1"]["pending"] = ["airflow-api-server", "airflow-logs"]
    hosts["worker1"]["pending"] = ["airflow-worker"]
    hosts.stop("worker1", "airflow-worker.service")
    assert hosts.told() == [("worker1", "unit-stopped"), ("web1", "restart-pending")]


@pytest.mark.parametrize(("release", "words"), [("3.2.2-old", "Airflow 3.3.2"), ("3.3.2-other", "others have 3.3.2-abc")])
def test_release_that_differs(hosts: Hosts, release: str, words: str) -> None:
    hosts["worker2"]["release"] = release
    assert hosts.told() == [("worker2", "release-differs")]
    assert words in hosts.find()[0].what


@pytest.mark.parametrize("kind", ["dags", "resources"])
def test_revision_that_one_worker_lacks(hosts: Hosts, kind: str) -> None:
    for name in COMPONENTS:
        hosts[name]["dags"] |= {kind: "r2"} if name not in ("store1", "web1") else {}
    hosts["worker2"]["dags"][kind] = ""
    assert hosts.told() == [("worker2", "dags-differ")]
    assert "none" in hosts.find()[0].what


# Disks, clocks, services


@pytest.mark.parametrize(
    ("change", "kind", "severity"),
    [
        ({"percent": 86}, "disk-full", health.WARNING),
        ({"percent": 97}, "disk-full", health.CRITICAL),
        ({"files_percent": 99}, "disk-full", health.CRITICAL),
        ({"read_only": True}, "disk-broken", health.CRITICAL),
        ({"error": "no answer within 2 s"}, "disk-broken", health.CRITICAL),
    ],
)
def test_disk_of_a_host_that_only_has_services(hosts: Hosts, change: Facts, kind: str, severity: str) -> None:
    hosts["store1"]["disks"].append({**hosts["store1"]["disks"][0], "path": "/var/lib/redis", **change})
    assert hosts.told() == [("store1", kind)]
    assert hosts.find()[0].severity == severity
    assert "/var/lib/redis" in hosts.find()[0].what


def test_full_disk_for_which_a_unit_has_failed_is_told_once(hosts: Hosts) -> None:
    hosts["worker1"]["disks"][0]["percent"] = 90
    hosts["worker1"]["units"]["airflow-logs.service"] |= {"active": "failed", "result": "exit-code"}
    assert hosts.told() == [("worker1", "disk-full")]


def test_journal_without_a_limit(hosts: Hosts) -> None:
    hosts["store1"]["journal_limit"] = False
    assert hosts.told() == [("store1", "journal-unlimited")]


@pytest.mark.parametrize(("seconds", "word"), [(120.0, "ahead of"), (-120.0, "behind")])
def test_clock_of_one_host(hosts: Hosts, seconds: float, word: str) -> None:
    hosts.clocks = {**dict.fromkeys(COMPONENTS, 0.01), "worker2": seconds}
    assert hosts.told() == [("worker2", "clock-skewed")]
    assert word in hosts.find()[0].what


def test_clocks_within_the_limit(hosts: Hosts) -> None:
    hosts.clocks = {**dict.fromkeys(COMPONENTS, 1.0), "worker2": 2.5}
    assert hosts.find() == []


@pytest.mark.parametrize(
    ("host", "name"), [("web1", "airflow-api-server.service"), ("store1", "seaweedfs-s3.socket")]
)  # fmt: skip
def test_service_that_runs_and_does_not_answer(hosts: Hosts, host: str, name: str) -> None:
    hosts[host]["pages"][name] = "GET http://127.0.0.1: timed out"
    assert hosts.told() == [(host, "service-silent")]
    assert "timed out" in hosts.find()[0].what


def test_service_that_has_just_been_started_may_not_answer_yet(hosts: Hosts) -> None:
    hosts["web1"]["pages"]["airflow-api-server.service"] = "refused"
    hosts["web1"]["units"]["airflow-api-server.service"]["active_seconds"] = 20.0
    assert (hosts.told(), hosts.noted()) == ([], [("web1", "service-silent")])


@pytest.mark.parametrize(
    ("host", "name", "peer"),
    [("web1", "airflow-api-server.service", "API server"), ("store1", "seaweedfs-s3.socket", "object store")],
)
def test_service_that_does_not_answer_is_told_once(hosts: Hosts, host: str, name: str, peer: str) -> None:
    hosts[host]["pages"][name] = "refused"
    hosts["worker1"]["peers"][peer] = "refused"
    assert hosts.told() == [(host, "service-silent")]


def test_service_that_is_stopped_is_told_once(hosts: Hosts) -> None:
    hosts.stop("store1", "seaweedfs.service")
    hosts["store1"]["pages"]["seaweedfs-s3.socket"] = "refused"
    hosts["worker1"]["peers"]["object store"] = "refused"
    assert hosts.told() == [("store1", "unit-stopped")]


def test_peer_that_some_hosts_do_not_reach_is_one_line(hosts: Hosts) -> None:
    for name in ("worker1", "worker2"):
        hosts[name]["peers"]["broker"] = "store1:6379: timed out"
    assert hosts.told() == [("", "peer-silent")]
    assert "broker does not answer worker1, worker2 (store1:6379: timed out)" in hosts.find()[0].what


@pytest.mark.parametrize("error", ["FATAL: sorry, too many clients already", "no answer in time"])
def test_database_that_refuses(hosts: Hosts, error: str) -> None:
    hosts["scheduler1"]["database"] = {"error": error}
    assert hosts.told() == [("", "peer-silent")]
    assert error in hosts.find()[0].what


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"used_memory": int(0.95 * GB)}, "broker-memory"),
        ({"used_memory": int(0.81 * GB)}, "broker-memory"),
        ({"aof_last_write_status": "err"}, "broker-persistence"),
        ({"rdb_last_bgsave_status": "err"}, "broker-persistence"),
        ({"role": "slave"}, "broker-readonly"),
        ({"loading": 1}, "broker-readonly"),
        ({"maxmemory_policy": "allkeys-lru"}, "broker-policy"),
        ({"connected_clients": 9_000}, "broker-connections"),
    ],
)
def test_broker(hosts: Hosts, change: Facts, kind: str) -> None:
    hosts["scheduler1"]["broker"] |= change
    assert hosts.told() == [("", kind)]


def test_redis_without_a_limit_has_no_share_of_memory(hosts: Hosts) -> None:
    hosts["scheduler1"]["broker"] |= {"maxmemory": 0, "used_memory": 50 * GB, "maxmemory_policy": "allkeys-lru"}
    assert hosts.find() == []


@pytest.mark.parametrize(("used", "severity"), [(95, health.CRITICAL), (80, health.WARNING)])
def test_database_connections(hosts: Hosts, used: int, severity: str) -> None:
    hosts["scheduler1"]["database"]["connections"] = {"used": used, "most": 100}
    assert hosts.told() == [("", "database-connections")]
    assert hosts.find()[0].severity == severity


@pytest.mark.parametrize(
    ("row", "severity"),
    [
        ({"days": 13.0}, health.WARNING),
        ({"days": -1.0}, health.CRITICAL),
        ({"error": "no such file"}, health.CRITICAL),
    ],
)
def test_certificate(hosts: Hosts, row: Facts, severity: str) -> None:
    hosts["web1"]["certificates"] = [{"path": "/etc/ssl/web.pem", **row}]
    assert hosts.told() == [("web1", "certificate")]
    assert hosts.find()[0].severity == severity


# Airflow


@pytest.mark.parametrize("component", sorted(health.JOBS))
@pytest.mark.parametrize("age", [70.0, None])
def test_component_without_a_heartbeat(hosts: Hosts, component: str, age: float | None) -> None:
    jobs = [row for row in hosts["scheduler1"]["database"]["jobs"] if row["job"] != health.JOBS[component]]
    jobs += [{"job": health.JOBS[component], "hostname": "scheduler1", "age": age}] if age else []
    hosts["scheduler1"]["database"]["jobs"] = jobs
    assert hosts.told() == [("scheduler1", "heartbeat-old")]


def test_component_that_has_just_been_started_may_have_no_heartbeat_yet(hosts: Hosts) -> None:
    hosts["scheduler1"]["database"]["jobs"] = []
    for component in health.JOBS:
        hosts["scheduler1"]["units"][f"airflow-{component}.service"]["active_seconds"] = 30.0
    assert hosts.told() == []
    assert len(hosts.noted()) == 3


def test_heartbeats_of_processes_that_name_themselves_otherwise(hosts: Hosts) -> None:
    for row in hosts["scheduler1"]["database"]["jobs"]:
        row["hostname"] = "10.0.0.1"
    assert hosts.find() == []


@pytest.mark.parametrize("queues", [["canary.worker1"], []])
def test_worker_that_was_left_with_its_private_queue(hosts: Hosts, queues: list[str]) -> None:
    hosts["worker1"]["worker"]["queues"] = queues
    assert hosts.told() == [("worker1", "worker-fenced")]
    hosts["worker1"]["worker"]["seconds"] = 60
    assert (hosts.told(), hosts.noted()) == ([], [("worker1", "worker-fenced")])


@pytest.mark.parametrize(
    ("queue", "age", "running", "told", "noted"),
    [
        ("gpu", 600.0, {}, "queue-unserved", ""),
        # A worker that is told of the queue now has it in a moment.
        ("gpu", 30.0, {}, "", ""),
        ("default", 60.0, {}, "", ""),
        ("default", 700.0, {}, "queue-slow", ""),
        ("default", 700.0, {"worker1": 4, "worker2": 3}, "queue-slow", ""),
        # A backlog is no fault, however old.
        ("default", 90_000.0, {"worker1": 4, "worker2": 4}, "", "backlog"),
    ],
)
def test_tasks_that_wait(hosts: Hosts, queue: str, age: float, running: dict[str, int], told: str, noted: str) -> None:
    hosts["scheduler1"]["database"] |= {"queued": [{"queue": queue, "tasks": 2, "age": age}], "running": running}
    assert [kind for host, kind in hosts.told()] == [told] * bool(told)
    assert [kind for host, kind in hosts.noted()] == [noted] * bool(noted)


def test_queue_whose_only_worker_is_stopped_is_unserved(hosts: Hosts) -> None:
    hosts["scheduler1"]["database"]["queued"] = [{"queue": "worker1", "tasks": 1, "age": 300.0}]
    hosts.stop("worker1", "airflow-worker.service")
    assert hosts.told() == [("worker1", "unit-stopped"), ("", "queue-unserved")]


@pytest.mark.parametrize(
    ("pool", "told", "noted"),
    [
        ({"slots": 0, "used": 0, "waiting": 3}, "pool-closed", ""),
        ({"slots": None, "used": 0, "waiting": 3}, "pool-closed", ""),
        ({"slots": 4, "used": 4, "waiting": 3}, "", "pool-full"),
        ({"slots": 4, "used": 1, "waiting": 3}, "", ""),
        # Without end.
        ({"slots": -1, "used": 50, "waiting": 3}, "", ""),
    ],
)
def test_pools(hosts: Hosts, pool: Facts, told: str, noted: str) -> None:
    hosts["scheduler1"]["database"]["pools"]["small"] = pool
    assert [kind for host, kind in hosts.told()] == [told] * bool(told)
    assert [kind for host, kind in hosts.noted()] == [noted] * bool(noted)


def test_dag_with_an_import_error(hosts: Hosts) -> None:
    hosts["scheduler1"]["database"] |= {
        "import_errors": [{"file": f"dag{number}.py", "error": "NameError: x."} for number in range(7)],
        "import_error_count": 30,
    }
    assert hosts.told() == [("", "import-error")] * (health.LINES + 1)
    assert hosts.find()[0].line().startswith("dag0.py cannot be imported: NameError: x. Remedy: ")
    assert "25 more" in hosts.find()[-1].what


@pytest.mark.parametrize(("kind", "told"), [("non-existent pool", ["dag-warning"]), ("runtime varying value", [])])
def test_warnings_of_airflow(hosts: Hosts, kind: str, told: list[str]) -> None:
    hosts["scheduler1"]["database"]["warnings"] = [{"dag": "etl", "kind": kind, "message": "so and so"}]
    assert [kind for host, kind in hosts.told()] == told
    assert len(hosts.find()) == 1


# Backups and records


def no_backup(backup: Facts) -> None:
    del backup["last"]


def failed_backup(backup: Facts) -> None:
    backup["error"] = "pg_dump: no space left on device"


def unreadable_report(backup: Facts) -> None:
    backup["unreadable"] = "/var/lib/airfield/backup.json is empty"


def trigger_without_backup(backup: Facts) -> None:
    backup["last"] |= {"time": NOW - 90_000, "age_hours": 25.0}


def old_test(backup: Facts) -> None:
    backup["tested"] |= {"age_hours": 9 * 24.0}


def no_test(backup: Facts) -> None:
    del backup["tested"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (no_backup, "backup-missing"),
        (failed_backup, "backup-failed"),
        (unreadable_report, "report-unreadable"),
        (trigger_without_backup, "backup-missing"),
        (old_test, "backup-untested"),
        (no_test, "backup-untested"),
    ],
)
def test_backup(hosts: Hosts, change: Change, kind: str) -> None:
    change(hosts["scheduler1"]["backup"])
    assert hosts.told() == [("scheduler1", kind)]


def test_archive_that_counts_as_none_is_told_with_its_remedy(hosts: Hosts) -> None:
    hosts["scheduler1"]["backup"]["broken"] = {"b": "/b.json is broken. Remedy: remove it.", "c": "c is broken. Remedy: no."}
    (finding,) = hosts.find()
    assert (finding.host, finding.kind) == ("scheduler1", "backup-archive")
    assert (finding.what, finding.remedy) == ("/b.json is broken (and 1 more)", "remove it")


def test_failed_backup_is_told_once(hosts: Hosts) -> None:
    failed_backup(hosts["scheduler1"]["backup"])
    hosts["scheduler1"]["units"]["airfield-backup.service"] |= {"active": "failed"}
    assert hosts.told() == [("scheduler1", "backup-failed")]


def test_backup_that_is_as_old_as_its_schedule_says(hosts: Hosts) -> None:
    week = 7 * 86_400
    hosts["scheduler1"]["units"]["airfield-backup.timer"]["last_trigger"] = int(NOW - week)
    hosts["scheduler1"]["backup"]["last"] |= {"time": NOW - week + 10, "age_hours": week / 3_600}
    assert hosts.find() == []


def test_backup_that_is_old_while_no_run_of_the_timer_is_known(hosts: Hosts) -> None:
    hosts["scheduler1"]["units"]["airfield-backup.timer"]["last_trigger"] = 0
    hosts["scheduler1"]["backup"]["last"] |= {"time": NOW - 200_000, "age_hours": 56.0}
    assert hosts.told() == [("scheduler1", "backup-missing")]


def test_backup_that_is_being_made_is_not_missing(hosts: Hosts) -> None:
    trigger_without_backup(hosts["scheduler1"]["backup"])
    hosts["scheduler1"]["units"]["airfield-backup.service"] |= {"active": "activating", "sub": "start"}
    assert hosts.find() == []


def test_upgrade_that_stands_half_way(hosts: Hosts) -> None:
    hosts["scheduler1"]["upgrade"] = {"state": "stopped", "from": "3.2.2", "to": "3.3.2"}
    assert hosts.told() == [("scheduler1", "upgrade-unfinished")]
    hosts["scheduler1"]["upgrade"]["state"] = "done"
    assert hosts.find() == []


def test_series_without_corrections_is_a_note(hosts: Hosts) -> None:
    hosts.plan = replace(PLAN, end_of_life="April 2026")
    assert (hosts.told(), hosts.noted()) == ([], [("", "end-of-life")])
    assert "Airflow 3.3.2 gets no corrections since April 2026" in hosts.find()[0].what


# No false alarm


RUN = {"who": "ann@laptop", "playbook": "site.yml", "since": "2026-12-01T15:00:00Z", "idle": 20}


def rolling(hosts: Hosts) -> None:
    """A moment of a rolling change."""
    hosts.stop("worker1", "airflow-worker.service")
    hosts["worker2"]["worker"] |= {"queues": ["canary.worker2"], "seconds": 3_000}
    hosts["worker2"]["pending"] = ["airflow-worker"]
    hosts["worker1"]["release"] = "3.3.2-new"
    hosts["worker1"]["dags"]["dags"] = "r2"
    hosts["web1"]["pages"]["airflow-api-server.service"] = "refused"
    hosts["scheduler1"]["database"]["queued"] = [{"queue": "default", "tasks": 3, "age": 900.0}]
    hosts["scheduler1"]["database"]["jobs"] = []


def test_what_a_run_explains_are_notes(hosts: Hosts) -> None:
    rolling(hosts)
    assert len(hosts.told()) > 6
    hosts["scheduler1"]["lock"] = RUN
    assert hosts.told() == []
    assert "a run of site.yml by ann@laptop is in progress" in [finding.what for finding in hosts.find()]


def test_what_a_run_does_not_explain_stays_a_finding(hosts: Hosts) -> None:
    hosts["scheduler1"]["lock"] = RUN
    hosts["store1"]["disks"][0]["percent"] = 99
    assert hosts.told() == [("store1", "disk-full")]


def test_lock_of_a_run_that_has_died_explains_nothing(hosts: Hosts) -> None:
    rolling(hosts)
    hosts["scheduler1"]["lock"] = {**RUN, "idle": 301}
    assert len(hosts.told()) > 6


def test_what_a_start_of_hosts_explains_are_notes(hosts: Hosts) -> None:
    rolling(hosts)
    hosts["store1"]["uptime"] = 40.0
    hosts.silent["worker2"] = "refused"
    assert hosts.told() == []
    hosts["store1"]["uptime"] = health.START + 1
    assert hosts.told()


# The list of kinds


def test_findings_come_with_what_is_critical_first(hosts: Hosts) -> None:
    hosts["store1"]["disks"][0]["percent"] = 86
    hosts.stop("worker2", "airflow-worker.service")
    hosts["scheduler1"]["lock"] = RUN
    hosts["scheduler1"]["units"]["airflow-scheduler.service"]["process"] = "T"
    assert [finding.severity for finding in hosts.find()] == [health.CRITICAL, health.WARNING, health.NOTE, health.NOTE]


def test_every_kind_is_found_by_a_rule() -> None:
    source = Path(health.__file__).read_text(encoding="utf-8")
    rules = source[source.index("# One host ---") :]
    assert [kind for kind in health.KINDS if f'"{kind}"' not in rules] == []
