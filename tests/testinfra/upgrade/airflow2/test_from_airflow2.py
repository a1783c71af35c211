"""Airflow 2.11 becomes 3.3 with all that it has, and 2.11 again where that is wanted; what is interrupted can be taken back."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import topology
from testinfra.host import Host

SCHEDULER = topology.members("airflow_scheduler")[0]
OLD, NEW = "2.11.2", "3.3.2"
RUNS = 200
NAME, VALUE, PASSWORD = "airfield_upgrade", "a value", "p@ss:w/o%rd"
USER = {"username": "upgrade", "email": "u@example.org", "first_name": "U", "last_name": "U", "password": "of the user 61f0"}
# What the inventory's options are called since 3.0.
OPTIONS = {"dag_processor": {"refresh_interval": 10, "min_file_process_interval": 10}}
WANTED = {"airflow_version": NEW, "airflow_config": OPTIONS}
MIGRATION = "airflow-migration"


def command(name: str, **variables: Any) -> list[str]:
    inventory = ["--inventory", str(topology.INVENTORY)]
    return ["ansible-playbook", *inventory, f"playbooks/{name}.yml", "--extra-vars", json.dumps(variables)]


def play(name: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    return topology.run(*command(name, **variables), check=False)


def upgrade(**variables: Any) -> subprocess.CompletedProcess[str]:
    return play("upgrade", **(WANTED | variables))


def back(moment: str = "") -> subprocess.CompletedProcess[str]:
    return play("rollback", **({"airflow_upgrade_lose_since": moment} if moment else {}))


def said(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join(run.stdout.split())


def api_of(version: str) -> topology.Api:
    return topology.Api2() if version == OLD else topology.Api()


def states(api: topology.Api) -> list[str]:
    """The states of the runs from before, by their ids."""
    found: dict[str, str] = {}
    while True:
        page = {"limit": 100, "offset": len(found), "order_by": "id"}
        rows = api.call("GET", "/dags/airfield_history/dagRuns", params=page)["dag_runs"]
        found |= {row["dag_run_id"]: row["state"] for row in rows}
        if len(rows) < 100:
            return [f"{run} {state}" for run, state in sorted(found.items())]


def remove(api: topology.Api, *paths: str) -> None:
    """Delete what is there of these."""
    for path in paths:
        assert api.session.delete(api.url + path, timeout=60).status_code in (204, 404)


def remove_runs(api: topology.Api, rows: Iterable[str]) -> None:
    remove(api, *(f"{api.root}/dags/airfield_history/dagRuns/{row.split()[0]}" for row in rows))


@pytest.fixture(scope="module")
def scheduler(connect: topology.Connect) -> Host:
    return connect(SCHEDULER)


@pytest.fixture(scope="module")
def history(dags: None) -> list[str]:
    """Runs, and one of everything that people keep in Airflow."""
    api = api_of(OLD)
    # Of a run of these tests that was broken.
    remove_runs(api, states(api))
    remove(api, *(f"{api.root}/{kind}/{NAME}" for kind in ("variables", "connections", "pools")))
    remove(api, f"/auth/fab/v1/users/{USER['username']}")
    first = api.trigger("airfield_history")
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(api.call, "POST", "/dags/airfield_history/dagRuns", json={}) for _ in range(RUNS - 1)]
        assert all(post.result() for post in posts)
    topology.wait_for("all runs to end", lambda: {row.split()[1] for row in states(api)} == {"success"}, 300, pause=2)
    assert first in " ".join(states(api))
    api.call("POST", "/variables", json={"key": NAME, "value": VALUE})
    api.call("POST", "/connections", json={"connection_id": NAME, "conn_type": "http", "password": PASSWORD})
    api.call("POST", "/pools", json={"name": NAME, "slots": 7})
    answer = api.session.post(f"{api.url}/auth/fab/v1/users", json={**USER, "roles": [{"name": "Viewer"}]}, timeout=60)
    assert answer.ok, answer.text
    api.finish("example_xcom", api.trigger("example_xcom"))
    return states(api)


def assert_whole(version: str, history: list[str], scheduler: Host) -> None:
    """Everything is there and can be used with this version."""
    assert all(version in name for name in releases().values()), releases()
    api = api_of(version)
    assert states(api) == history
    assert api.call("GET", f"/variables/{NAME}")["value"] == VALUE
    assert api.call("GET", f"/pools/{NAME}")["slots"] == 7
    shown = scheduler.check_output(f"/usr/local/bin/airflow connections get {NAME} --output json")
    assert json.loads(shown[shown.index("[{") :])[0]["password"] == PASSWORD
    assert api_of(version).log_in(USER["username"], USER["password"]) == 201
    api = api_of(version)
    for dag in ("airfield_history", "example_bash_operator"):
        api.finish(dag, api.trigger(dag))
    # These runs are no history.
    remove_runs(api, set(states(api)) - set(history))
    status = play("status", **(WANTED if version == NEW else {}))
    assert status.returncode == 0, status.stdout[-3000:]


def releases() -> dict[str, str]:
    found = {}
    for name in topology.members("airflow"):
        ssh = ["ssh", "-F", str(topology.ssh_config()), name, "readlink /opt/airflow/current"]
        found[name] = subprocess.run(ssh, capture_output=True, text=True, check=True).stdout.strip()
    return found


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.10.5", "there is Airflow 2.11.2 already, and no way leads back"),
        ("4.0.0", "no way from it is known"),
    ],
)
def test_way_that_is_none_is_refused(version: str, expected: str, history: list[str]) -> None:
    run = upgrade(airflow_version=version)
    assert run.returncode != 0
    assert expected in said(run)
    assert set(topology.changes(run.stdout).values()) == {0}


def test_options_of_the_old_version_are_named_one_by_one(history: list[str]) -> None:
    old = {"scheduler": {"dag_dir_list_interval": 10, "min_file_process_interval": 10}}
    run = upgrade(airflow_config=old)
    assert run.returncode != 0
    for option in ("dag_dir_list_interval", "min_file_process_interval"):
        assert re.search(rf"variable airflow_config: .*{option}", said(run))
    assert set(topology.changes(run.stdout).values()) == {0}


def test_upgrade_that_was_not_yet_migrating_is_taken_back_at_once(history: list[str], scheduler: Host) -> None:
    task = "Config | Install airflow.cfg, the command line and the host's folders"
    dummy, begun = topology.kill_at(task, *command("upgrade", **WANTED))
    assert "Stop | Stop what runs" in begun
    began = time.monotonic()
    run = play("rollback", airflow_lock_break=True)
    took = time.monotonic() - began
    assert run.returncode == 0, run.stdout[-3000:]
    assert f"Back from {NEW} to {OLD}; the database is as it was" in said(run)
    print(f"Taken back before the migration: {took:.0f} s")
    assert took < 120
    assert_whole(OLD, history, scheduler)


@pytest.fixture
def killer(scheduler: Host) -> Iterator[threading.Thread]:
    """Kills the migration when it has begun to change the database."""

    def kill() -> None:
        def begins() -> bool:
            return "Running upgrade" in scheduler.run(f"journalctl -u {MIGRATION} --since=-1h -o cat --no-pager").stdout

        topology.wait_for("the migration to begin", begins, 900, pause=0.2)
        scheduler.run(f"systemctl kill --signal=KILL {MIGRATION}")

    scheduler.run("journalctl --rotate; journalctl --vacuum-time=1s")
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    yield thread
    thread.join(1)


def test_killed_migration_is_named_and_taken_back(
    history: list[str], scheduler: Host, connect: topology.Connect, killer: threading.Thread
) -> None:
    run = upgrade()
    assert run.returncode != 0, run.stdout[-3000:]
    assert "the migration of the metadata database failed, and no component was started with it" in said(run)
    for name in topology.members("airflow"):
        assert connect(name).check_output("systemctl list-units --state=active --no-legend 'airflow-*.service'") == ""
    # Whoever knows nothing of it is told.
    blind = topology.playbook()
    assert blind.returncode != 0
    assert f"an upgrade from {OLD} to {NEW} was begun and not finished" in said(blind)
    if topology.members("mysql"):
        again = upgrade()
        assert again.returncode != 0
        assert "was interrupted. MySQL cannot undo a part of it" in said(again)
    run = back()
    if run.returncode:
        moment = re.search(r"airflow_upgrade_lose_since=(\S+)", said(run))
        assert moment, run.stdout[-3000:]
        run = back(moment[1])
    assert run.returncode == 0, run.stdout[-3000:]
    assert_whole(OLD, history, scheduler)


@pytest.mark.where("postgresql")
def test_killed_migration_is_brought_to_its_end_by_the_same_command(
    history: list[str], scheduler: Host, killer: threading.Thread
) -> None:
    assert "the migration of the metadata database failed" in said(upgrade())
    run = upgrade()
    assert run.returncode == 0, run.stdout[-3000:]
    assert_whole(NEW, history, scheduler)
    moment = re.search(r"airflow_upgrade_lose_since=(\S+)", said(back()))
    assert moment
    assert back(moment[1]).returncode == 0
    assert_whole(OLD, history, scheduler)


def test_everything_is_there_after_the_upgrade(history: list[str], scheduler: Host) -> None:
    began = time.monotonic()
    run = upgrade()
    assert run.returncode == 0, run.stdout[-3000:]
    without = re.search(r"It was without scheduler and web server for (\d+) s", said(run))
    assert without
    print(f"Upgrade: {time.monotonic() - began:.0f} s, {without[1]} s of it without scheduler and web server")
    assert int(without[1]) < 300
    assert_whole(NEW, history, scheduler)
    again = topology.playbook("--extra-vars", json.dumps(WANTED))
    assert again.returncode == 0, again.stdout[-3000:]


def test_finished_upgrade_is_taken_back_with_the_loss_that_was_named(history: list[str], scheduler: Host) -> None:
    api = api_of(NEW)
    lost = api.trigger("airfield_history")
    run = back()
    assert run.returncode != 0
    assert set(topology.changes(run.stdout).values()) <= {0}
    moment = re.search(r"airflow_upgrade_lose_since=(\S+)", said(run))
    assert moment, run.stdout[-3000:]
    began = time.monotonic()
    run = back(moment[1])
    assert run.returncode == 0, run.stdout[-3000:]
    print(f"Taken back with the backup: {time.monotonic() - began:.0f} s")
    assert lost not in " ".join(states(api_of(OLD)))
    assert_whole(OLD, history, scheduler)
