"""All hosts are lost, and the inventory's secrets with them: an archive and the private key bring the cluster back in half an
hour, however often that is interrupted. $AIRFIELD_KILLS says how many runs are killed."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import topology

SCHEDULER = topology.members("airflow_scheduler")[0]
FOLDER = "/var/backups/airfield"
INVENTORY = ("--inventory", str(topology.INVENTORY))
SECRETS = topology.INVENTORY / "group_vars/all/secrets.yml"
NAME, VALUE, PASSWORD = "airfield_restore", "a value", "p@ss:w/o%rd"
KILLS = int(os.environ.get("AIRFIELD_KILLS", "1"))
# Seconds, on hosts that have the packed release in the controller's cache, as a controller that outlived its hosts has.
LIMIT = 1800


@dataclass(frozen=True)
class Rescued:
    """What is left of a cluster: an archive, the private key, and a memory of what there was."""

    archive: Path
    key: str
    # Runs of a DAG by id, with their states.
    history: dict[str, str]


def play(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return topology.run("ansible-playbook", *INVENTORY, name, *arguments, check=False)


def history(api: topology.Api) -> dict[str, str]:
    runs = api.call("GET", "/dags/example_bash_operator/dagRuns", params={"limit": 100})["dag_runs"]
    return {run["dag_run_id"]: run["state"] for run in runs}


def rescue(folder: Path, connect: topology.Connect) -> Rescued:
    """Fill the cluster with something, back it up, and take the archive away."""
    api = topology.Api()
    for path in (f"/variables/{NAME}", f"/connections/{NAME}"):
        api.session.delete(f"{api.url}/api/v2{path}", timeout=60)
    api.call("POST", "/variables", json={"key": NAME, "value": VALUE})
    api.call("POST", "/connections", json={"connection_id": NAME, "conn_type": "http", "password": PASSWORD})
    api.finish("example_bash_operator", api.trigger("example_bash_operator"))
    known = history(api)
    backup = play("playbooks/backup.yml")
    assert backup.returncode == 0, backup.stdout[-3000:]
    report = json.loads(connect(SCHEDULER).file("/var/lib/airfield/backup.json").content_string)
    archive = folder / report["last"]["name"]
    for path in (archive, archive.with_name(archive.name.replace(".tar.age", ".json"))):
        ssh = ["ssh", "-F", str(topology.ssh_config()), SCHEDULER, f"sudo cat {FOLDER}/{path.name}"]
        path.write_bytes(subprocess.run(ssh, capture_output=True, check=True).stdout)
    return Rescued(archive, str(topology.variables()["airflow_backup_private_key"]), known)


def lose() -> None:
    """The hosts, and the secrets that a run had generated; a controller keeps its cache of packages."""
    cache = topology.folder() / "releases"
    kept = topology.ROOT / ".testbed" / "kept-releases"
    shutil.copytree(cache, kept, dirs_exist_ok=True)
    assert play("testbed/down.yml").returncode == 0
    assert not SECRETS.exists()
    up = play("testbed/up.yml")
    assert up.returncode == 0, up.stdout[-3000:]
    shutil.copytree(kept, cache, dirs_exist_ok=True)
    shutil.rmtree(kept)
    forget()
    folders = topology.variable("airflow_worker_writable_paths", [])
    group = topology.variable("airflow_gid", 50000)
    for worker in topology.members("airflow_worker"):
        for folder in folders:
            put = f"sudo install -d -o root -g {group} -m 2775 {shlex.quote(folder)}"
            subprocess.run(["ssh", "-F", str(topology.ssh_config()), worker, put], check=True)


def forget() -> None:
    topology.variables.cache_clear()
    topology.inventory.cache_clear()


def assert_back(rescued: Rescued, connect: topology.Connect) -> None:
    """The same cluster: its secrets, its history, what is encrypted, and work goes on."""
    forget()
    api = topology.Api()
    assert api.call("GET", f"/variables/{NAME}")["value"] == VALUE
    shown = connect(SCHEDULER).check_output(f"/usr/local/bin/airflow connections get {NAME} --output json")
    assert json.loads(shown[shown.index("[") :])[0]["password"] == PASSWORD
    found = history(api)
    assert {run: found.get(run) for run in rescued.history} == rescued.history
    api.finish("example_bash_operator", api.trigger("example_bash_operator"))
    # The backup is of another cluster's hosts; these have made none yet.
    assert play("playbooks/backup.yml").returncode == 0
    status = play("playbooks/status.yml")
    assert status.returncode == 0, status.stdout[-3000:]


@pytest.fixture(scope="module")
def rescued(tmp_path_factory: pytest.TempPathFactory, connect: topology.Connect, dags: None) -> Rescued:
    return rescue(tmp_path_factory.mktemp("rescued"), connect)


def restore(rescued: Rescued) -> tuple[str, ...]:
    return ("ansible-playbook", *INVENTORY, "playbooks/restore.yml", "--extra-vars", f"archive={rescued.archive}")


def test_archive_that_will_not_do_changes_nothing(rescued: Rescued, connect: topology.Connect, tmp_path: Path) -> None:
    damaged = tmp_path / rescued.archive.name
    damaged.write_bytes(rescued.archive.read_bytes()[:-50])
    run = topology.run(*restore(Rescued(damaged, rescued.key, {})), check=False)
    assert run.returncode != 0
    assert "The archive is damaged" in run.stdout
    assert "Nothing was changed" in run.stdout
    # The cluster has a database, and nobody has said that it may be lost.
    run = topology.run(*restore(rescued), check=False)
    assert run.returncode != 0
    assert "is not empty, and nothing was changed" in run.stdout
    assert connect(SCHEDULER).service("airflow-scheduler").is_running


def test_cluster_comes_back_from_an_archive_and_a_key(rescued: Rescued, connect: topology.Connect) -> None:
    lose()
    SECRETS.write_text(f"airflow_backup_private_key: {rescued.key}\n")
    forget()
    began = time.monotonic()
    run = topology.run(*restore(rescued), check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    # There is nothing left to restore, and that is no mistake.
    again = topology.run(*restore(rescued), check=False)
    assert again.returncode == 0, again.stdout[-3000:]
    assert_back(rescued, connect)
    seconds = time.monotonic() - began
    print(f"From bare hosts to a green DAG in {seconds:.0f} s")
    assert seconds < LIMIT
    again = play("site.yml")
    assert again.returncode == 0, again.stdout[-3000:]


def test_killed_restore_is_finished_by_the_next(rescued: Rescued, connect: topology.Connect) -> None:
    """In the place of a database that is there, so that what was half restored would be in service."""
    command = (*restore(rescued), "--extra-vars", "airflow_restore_replace=true")
    whole = topology.run(*command, check=False, show_skipped=True)
    assert whole.returncode == 0, whole.stdout[-3000:]
    before, found, _ = whole.stdout.partition("TASK [airfield.metal.airflow_backup : Restore | See whether")
    assert found
    window = [number for number in topology.working(whole.stdout) if number > before.count("\nTASK [")]
    chance = random.Random(int(os.environ.get("AIRFIELD_SEED", "1")))  # noqa: S311 - the same points for the same seed
    for number in chance.sample(window, KILLS):
        point = f"killed {topology.kill_at(number, *command)[0]}"
        # Whatever was killed, each table is there with all of its rows, or with all of those before.
        run = topology.run(*command, check=False)
        assert run.returncode == 0, (point, run.stdout[-3000:])
        assert_back(rescued, connect)
