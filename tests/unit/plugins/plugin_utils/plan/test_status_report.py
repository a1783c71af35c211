from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import health, status_report

PLAN = health.Plan(
    {
        "scheduler1": ["scheduler", "dag-processor", "triggerer", "logs", "backup"],
        "worker1": ["worker", "logs"],
        "store1": ["redis", "postgresql", "seaweedfs", "health"],
    }
)
HOSTS = {
    "scheduler1": health.Host("scheduler1", facts={"uptime": 864_000.0, "disks": [{"path": "/", "percent": 41}]}),
    "worker1": health.Host("worker1", facts={"uptime": 100.0, "worker": {"queues": ["canary.worker1", "default", "gpu"]}}),
    "store1": health.Host("store1", silent="no route to host"),
}
STOPPED = health.Finding("worker1", "worker", "unit-stopped", "airflow-worker.service does not run", "start it")
SILENT = health.Finding("store1", "host", "host-silent", "does not answer (no route to host)", "bring it back")
GONE = health.Finding("", "worker", "workers-gone", "no worker runs", "start one")
NOTED = health.Finding("", "run", "run", "a run is in progress", "")


def test_cluster_that_is_well_ends_with_what_there_is() -> None:
    assert status_report.summary(PLAN, [NOTED]) == "3 hosts, 7 services, all well"


@pytest.mark.parametrize(
    ("findings", "line"),
    [
        ([STOPPED], "1 finding on 1 host"),
        ([STOPPED, STOPPED, SILENT, NOTED], "3 findings on 2 hosts"),
        ([STOPPED, GONE], "2 findings on 1 host"),
        ([GONE], "1 finding"),
    ],
)
def test_cluster_that_is_not_well_ends_with_how_much_is_wrong(findings: list[health.Finding], line: str) -> None:
    assert status_report.text(PLAN, HOSTS, findings).splitlines()[-1] == line


def test_table_has_a_row_for_each_host_and_a_line_for_each_finding() -> None:
    lines = status_report.text(PLAN, HOSTS, [SILENT, STOPPED, NOTED]).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["scheduler1", "worker1", "store1"]
    assert lines[1].split()[1:] == ["scheduler", "dag-processor", "triggerer", "41", "%", "10", "d", "well"]
    assert lines[2].split()[1:] == ["worker[default,gpu]", "-", "100", "s", "1", "FINDING"]
    assert lines[3].endswith("NO ANSWER")
    assert lines[5:8] == [
        "CRITICAL  store1: does not answer (no route to host). Remedy: bring it back.",
        "CRITICAL  worker1: airflow-worker.service does not run. Remedy: start it.",
        "note  a run is in progress.",
    ]


def test_table_is_no_wider_than_a_screen() -> None:
    names = [*health.SERVICES, "logs"]
    plan = health.Plan({"a-host-with-a-very-long-name.of.a.long.domain.example.org": names, "b": ["worker"]})
    queues = {"worker": {"queues": [f"queue-number-{number}" for number in range(12)]}, "uptime": 99e6}
    hosts = {name: health.Host(name, facts=queues) for name in plan.components}
    lines = status_report.table(plan, hosts, [])
    assert max(map(len, lines)) <= 80
    assert all(name in "".join(line.replace(" ", "") for line in lines) for name in ("seaweedfs", "queue-number-11"))


def test_table_of_many_hosts_leaves_out_those_that_are_well() -> None:
    plan = health.Plan({f"worker{number}": ["worker"] for number in range(100)})
    hosts = {name: health.Host(name, facts={"uptime": 1e5}) for name in plan.components}
    lines = status_report.table(plan, hosts, [STOPPED])
    assert len(lines) == 3
    assert lines[1].startswith("worker1 ")
    assert lines[2] == "99 hosts more, which are well"


def test_document_has_all_that_it_promises() -> None:
    found: dict[str, Any] = json.loads(json.dumps(status_report.document(PLAN, HOSTS, [STOPPED, NOTED], 1000.4)))
    assert (found["version"], found["time"], found["well"], found["run"]) == (1, 1000, False, None)
    assert found["summary"] == "1 finding on 1 host"
    assert found["findings"] == [
        {
            "host": "worker1",
            "component": "worker",
            "kind": "unit-stopped",
            "severity": "critical",
            "what": "airflow-worker.service does not run",
            "remedy": "start it",
        }
    ]
    assert [row["kind"] for row in found["notes"]] == ["run"]
    assert [(row["host"], row["answers"], row["findings"]) for row in found["hosts"]] == [
        ("scheduler1", True, 0),
        ("worker1", True, 1),
        ("store1", False, 0),
    ]
    assert found["hosts"][1]["queues"] == ["default", "gpu"]


def test_document_of_a_cluster_in_the_middle_of_a_run() -> None:
    lock = {"who": "ann@laptop", "playbook": "site.yml", "since": "now", "pid": 7, "idle": 3}
    hosts = HOSTS | {"scheduler1": health.Host("scheduler1", facts={"lock": lock})}
    found = status_report.document(PLAN, hosts, [NOTED], 0)
    assert found["well"]
    assert found["run"] == {"who": "ann@laptop", "playbook": "site.yml", "since": "now"}


@pytest.mark.parametrize(
    ("inventories", "installed", "line"),
    [
        ([], False, "`ansible-playbook playbooks/upgrade.yml`, then `ansible-playbook site.yml --check`"),
        (["inventories/ours"], False, "`ansible-playbook -i inventories/ours playbooks/upgrade.yml`, then "
         "`ansible-playbook -i inventories/ours site.yml --check`"),
        (["a", "b"], True, "`ansible-playbook -i a -i b airfield.metal.upgrade`, then "
         "`ansible-playbook -i a -i b airfield.metal.site --check`"),
    ],
)  # fmt: skip
def test_remedy_is_to_be_typed_as_this_playbook_was(inventories: list[str], installed: bool, line: str) -> None:
    remedy = "`ansible-playbook playbooks/upgrade.yml`, then `ansible-playbook site.yml --check`"
    assert status_report.with_inventory(remedy, inventories, installed) == line
