"""status.yml says what is wrong, each with its remedy, and nothing else; troubles that do not touch each other share a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import topology
import yaml
from testinfra.host import Host

SCHEDULER = topology.members("airflow_scheduler")[0]
WEB = topology.members("airflow_webserver")[0]
WORKERS = topology.members("airflow_worker")
WORKER = WORKERS[-1]
BROKER = topology.members("redis")[0]
# Airflow looks for DAGs in files alone that have both words.
BROKEN = "/opt/airflow/dags/current/airfield_status_broken.py"
UNITS = "/etc/systemd/system"
KEPT = "/var/lib/airfield/status-test"


def status(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a run of status.yml."""
    given = ("--extra-vars", "airflow_status_format=json", *arguments)
    command = ("ansible-playbook", "--inventory", str(topology.INVENTORY), *given, "playbooks/status.yml")
    run = topology.run(*command, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 1, run.stdout[-3000:] + run.stderr[-1000:]
    document: dict[str, Any] = json.loads(lines[0])
    assert run.returncode == (0 if document["well"] else 2)
    return run.returncode, document


def told(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(finding["host"], finding["kind"]) for finding in document["findings"]}


@dataclass(frozen=True)
class Trouble:
    """What an operator or a fault does to a host, what is told of it, and how it is undone."""

    host: str
    do: str
    undo: str
    told: set[tuple[str, str]] = field(default_factory=set)


def stopped(host: str, unit: str) -> Trouble:
    return Trouble(host, f"systemctl stop {unit}", f"systemctl start {unit}", {(host, "unit-stopped")})


def changed(host: str, path: str, change: str, kind: str = "file-changed") -> Trouble:
    keep = f"{KEPT}{path.replace('/', '-')}"
    undo = f"cp --preserve=all {keep} {path}; rm {keep}; systemctl daemon-reload"
    return Trouble(host, f"cp --preserve=all {path} {keep}; {change}; systemctl daemon-reload", undo, {(host, kind)})


def drop_in(host: str, unit: str, text: str, after: str = "true") -> Trouble:
    folder = f"{UNITS}/{unit}.d"
    do = f"mkdir -p {folder}; printf '{text}' > {folder}/mine.conf; systemctl daemon-reload; {after}"
    return Trouble(host, do, f"rm -r {folder}; systemctl daemon-reload; {after}", {(host, "drop-in")})


def no_bucket(host: str) -> Trouble:
    """Logs in the bucket are not looked after while the store is stopped."""
    do = "systemctl stop seaweedfs; ! systemctl start airflow-log-retention"
    undo = "systemctl start seaweedfs; systemctl reset-failed airflow-log-retention"
    return Trouble(host, do, undo, {(host, "unit-stopped"), (host, "unit-failed")})


def full_disk(host: str) -> Trouble:
    """A file system of a service that this host has not, so that nothing else suffers."""
    path = "/var/lib/mysql"
    do = f"mkdir {path}; mount -t tmpfs -o size=1m tmpfs {path}; head -c 950000 /dev/zero > {path}/data"
    return Trouble(host, do, f"umount {path}; rmdir {path}", {(host, "disk-full")})


def fenced(host: str) -> Trouble:
    path = "/var/lib/airfield/worker-queues.env"
    change = f"sed -i 's/=.*/=\"canary.{host}\"/' {path}; touch -d '20 minutes ago' {path}"
    return changed(host, path, change, "worker-fenced")


def frozen(host: str) -> Trouble:
    kill = "systemctl kill --kill-whom=main --signal"
    return Trouble(host, f"{kill}=STOP airflow-scheduler", f"{kill}=CONT airflow-scheduler", {(host, "unit-frozen")})


def other_dags(host: str) -> Trouble:
    link = "/opt/airflow/dags/current"
    undo = f"mv -T {link}.kept {link}"
    return Trouble(host, f"cp -P {link} {link}.kept; ln -sfn lost {link}", undo, {(host, "dags-differ")})


def skewed(host: str) -> Trouble:
    program = "/usr/local/bin/date"
    do = f'printf \'#!/bin/sh\\nexec /bin/date -d "120 seconds" "$@"\\n\' > {program}; chmod +x {program}'
    return Trouble(host, do, f"rm {program}", {(host, "clock-skewed")})


def retimed(host: str) -> Trouble:
    trouble = drop_in(
        host, "airflow-logs.timer", "[Timer]\\nOnCalendar=\\nOnCalendar=2020-01-01\\n", "systemctl restart airflow-logs.timer"
    )
    trouble.told.add((host, "timer-ended"))
    return trouble


REPORT = "/var/lib/airfield/backup.json"
STOPPED = [stopped(name, "airflow-worker") for name in WORKERS]
STOPPED[0].told.add(("", "workers-gone"))
# A host with all components, or one for each: what touches the same unit or file stands in different groups.
GROUPS: dict[str, list[Trouble]] = {
    "all workers are stopped, and what is there by hand": [
        *STOPPED,
        stopped(BROKER, "redis-server"),
        Trouble(WEB, "systemctl disable airflow-logs.timer", "systemctl enable airflow-logs.timer", {(WEB, "unit-disabled")}),
        changed(WORKER, "/etc/airflow/airflow.cfg", "echo '# mine' >> /etc/airflow/airflow.cfg"),
        changed(SCHEDULER, REPORT, f": > {REPORT}", "report-unreadable"),
        drop_in(WEB, "airflow-api-server.service", "[Service]\\nNice=1\\n"),
    ],
    "what runs and does not work": [
        fenced(WORKER),
        frozen(SCHEDULER),
        retimed(SCHEDULER),
        changed(SCHEDULER, REPORT, f"rm {REPORT}", "backup-missing"),
        full_disk(BROKER),
        changed(
            WEB,
            f"{UNITS}/airflow-log-retention.service",
            f"sed -i s/^Desc.*/Description=x/ {UNITS}/airflow-log-retention.service",
        ),
    ],
    "what is stopped and has failed": [
        stopped(WEB, "airflow-api-server"),
        stopped(SCHEDULER, "airflow-triggerer"),
        *([no_bucket(WEB)] if topology.members("seaweedfs") == [WEB] else []),
    ],
}
if len(WORKERS) > 1:
    GROUPS["what is stopped and has failed"] += [other_dags(WORKER), skewed(WORKERS[0])]


@pytest.fixture(scope="module", autouse=True)
def well(connect: topology.Connect) -> None:
    """A backup that was made and tested, without which no cluster is well, and no remains of other tests."""
    connect(SCHEDULER).check_output("systemctl start airfield-backup")
    for name in topology.members("airflow", "redis", "postgresql", "mysql", "seaweedfs"):
        connect(name).run("systemctl reset-failed")
    topology.wait_for("the cluster to be well", is_well, 240, 5)


def is_well() -> bool:
    code, document = status()
    print(document["findings"])
    return code == 0


@pytest.fixture
def broken(connect: topology.Connect) -> Iterator[Callable[[list[Trouble]], None]]:
    """Bring trouble over hosts, which goes with the test."""
    with ExitStack() as undo:

        def bring(troubles: list[Trouble]) -> None:
            for trouble in troubles:
                host = connect(trouble.host)
                undo.callback(host.check_output, trouble.undo)
                host.check_output(trouble.do)

        yield bring


@pytest.mark.parametrize("group", GROUPS)
def test_each_trouble_is_told_with_its_remedy(group: str, broken: Callable[[list[Trouble]], None]) -> None:
    troubles = GROUPS[group]
    broken(troubles)
    code, document = status()
    assert code == 2
    assert told(document) == set().union(*(trouble.told for trouble in troubles))
    assert all(finding["remedy"] for finding in document["findings"])


def test_host_that_does_not_answer_and_a_file_that_cannot_be_imported(connect: topology.Connect, tmp_path: Path) -> None:
    """The others are looked at, and the one is named."""
    (processor,) = (topology.members("airflow_dag_processor") or [SCHEDULER])[:1]
    host: Host = connect(processor)
    away = tmp_path / "away.yml"
    address = topology.address(WORKER).rpartition(".")[0] + ".199"
    away.write_text(yaml.safe_dump({"all": {"children": {"airflow_worker": {"hosts": {"away": {"ansible_host": address}}}}}}))
    host.check_output(f"echo 'import airfield_nowhere  # of a dag of airflow' > {BROKEN}")
    try:

        def is_known() -> bool:
            query = "select count(*) from import_error where filename like '%airfield_status_broken.py'"
            return topology.ask_database(connect, query).strip() == "1"

        topology.wait_for("the DAG processor to have read the file", is_known, 120)
        code, document = status("--inventory", str(away), "--ssh-common-args", "-o ConnectTimeout=5")
        assert code == 2
        assert told(document) == {("away", "host-silent"), ("", "import-error")}
        (error,) = (finding["what"] for finding in document["findings"] if finding["kind"] == "import-error")
        assert "airfield_nowhere" in error
        assert {row["host"]: row["answers"] for row in document["hosts"]}[SCHEDULER] is True
    finally:
        host.check_output(f"rm {BROKEN}")


def test_what_a_run_explains_is_a_note(connect: topology.Connect, broken: Callable[[list[Trouble]], None]) -> None:
    lock = "/var/lib/airfield/run.lock"
    owner = json.dumps({"who": "ann@laptop", "playbook": "site.yml", "since": "2026-12-01T00:00:00Z"})
    broken([Trouble(SCHEDULER, f"echo '{owner}' > {lock}", f"rm -f {lock}"), *STOPPED])
    code, document = status()
    assert (code, document["findings"]) == (0, [])
    assert document["run"]["who"] == "ann@laptop"
    assert {note["kind"] for note in document["notes"]} >= {"run", "unit-stopped", "workers-gone"}


def test_cluster_is_well_again_and_the_last_line_says_so(connect: topology.Connect) -> None:
    topology.wait_for("the cluster to be well", is_well, 240, 5)
    # Status allows it the time of its start, and the tests after this one want its answer.
    answer = "curl -sf -o /dev/null http://127.0.0.1:8080/api/v2/version"
    topology.wait_for("the web server to answer", lambda: connect(WEB).run(answer).rc == 0, 300)
    run = topology.run("ansible-playbook", "--inventory", str(topology.INVENTORY), "playbooks/status.yml")
    shown = run.stdout[: run.stdout.index("PLAY RECAP")].rstrip().splitlines()
    hosts = len(topology.members("airflow", "redis", "postgresql", "mysql", "seaweedfs"))
    assert any(line.startswith(f"{hosts} host") and line.endswith("all well") for line in shown), run.stdout
    assert max(len(line) for line in shown if not line.startswith(("TASK", "PLAY", "note", "["))) <= 80
