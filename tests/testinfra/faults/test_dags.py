"""DAGs arrive on all hosts as one revision, or on none; a running task goes on with those that it began with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import topology

HOSTS = topology.members("airflow_scheduler", "airflow_worker")
WORKER = topology.members("airflow_worker")[-1]
SHARED = topology.variable("airflow_worker_writable_paths", ["/var/lib/airflow"])[0]
# Not named by ansible-playbook before the task begins.
STAGING = "TASK [airfield.metal.airflow : DAGs | Pack what the inventory has]"
CHECKING = "TASK [airfield.metal.airflow : DAGs | Import them]"
NEW_DAG = """
from airflow.sdk import DAG, task

with DAG(dag_id="airfield_new", schedule=None):
    @task
    def hello() -> str:
        return "hello"

    hello()
"""
Revisions = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module", autouse=True)
def _usual_dags(dags: None) -> Iterator[None]:
    yield
    run = topology.deploy()
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The test DAGs, to be changed by a test."""
    return Path(shutil.copytree(topology.DAGS, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def revisions(connect: topology.Connect) -> Revisions:
    """What is current on each host that needs DAGs."""
    return lambda kind: {name: connect(name).check_output(f"readlink /opt/airflow/{kind}/current") for name in HOSTS}


def given(source: object, **variables: object) -> tuple[str, ...]:
    return "--extra-vars", json.dumps({"airflow_dags_source": source, **variables})


def deploy(source: object, *arguments: str, **variables: object) -> str:
    """Deliver DAGs; returns their revision."""
    run = topology.deploy(*arguments, *given(source if isinstance(source, dict) else str(source), **variables))
    assert run.returncode == 0, run.stdout[-3000:]
    return run.stdout


def test_all_hosts_have_one_revision(revisions: Revisions) -> None:
    assert len(set(revisions("dags").values())) == 1
    if topology.variable("airflow_resources_source"):
        assert len(set(revisions("resources").values())) == 1


def test_deploying_the_same_does_nothing() -> None:
    output = topology.deploy().stdout
    assert set(topology.changes(output).values()) == {0}
    for task in ("DAGs | Copy it", "DAGs | Import them", "DAGs | Make the new revision current"):
        assert task not in output


def test_new_revision_is_seen_by_the_api(source: Path, revisions: Revisions, api: topology.Api) -> None:
    before = revisions("dags")
    (source / "airfield_new.py").write_text(NEW_DAG)
    deploy(source)
    after = revisions("dags")
    assert len(set(after.values())) == 1
    assert set(after.values()) != set(before.values())
    topology.wait_for("the new DAG in the API", lambda: api.knows("airfield_new"), 60)
    api.finish("airfield_new", api.trigger("airfield_new"))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("broken.py", "from airflow.sdk import DAG\nimport nothing_of_this_name\n", "No module named 'nothing_of_this_name'"),
        ("team/broken.py", "from airflow.sdk import DAG\nwith DAG(\n", "SyntaxError: '(' was never closed"),
        ("twice.py", NEW_DAG.replace("airfield_new", "airfield_wait"), "airfield_wait"),
    ],
    ids=["import", "syntax", "twice"],
)
def test_revision_that_cannot_be_imported_is_refused(
    source: Path, revisions: Revisions, name: str, text: str, problem: str
) -> None:
    before = revisions("dags")
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_text(text)
    run = topology.deploy(*given(str(source)))
    assert run.returncode != 0
    message = " ".join(run.stdout.replace("''", "'").split())
    assert re.search(r"Revision \w+ of the DAGs was refused, all hosts stay on what they have: ", message)
    assert name in message
    assert problem in message
    assert "Remedy" in message
    assert revisions("dags") == before


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"airflow_dags_source": "/nonexistent"}, "variable airflow_dags_source: /nonexistent is no folder on the controller"),
        ({"airflow_dags_packages": "none.txt"}, "variable airflow_dags_packages: there is no file none.txt among the DAGs"),
        ({"airflow_dags_packages": "airfield_wait.py"}, "is not a package with its version, such as pandas==2.3.3"),
        ({"airflow_dags_source": {"repository": "file:///nonexistent"}}, "git cannot get HEAD of file:///nonexistent"),
    ],
    ids=["folder", "file", "line", "repository"],
)
def test_source_that_is_wrong_is_told(variables: dict[str, object], problem: str, revisions: Revisions) -> None:
    before = revisions("dags")
    run = topology.deploy("--extra-vars", json.dumps(variables))
    assert run.returncode != 0
    message = " ".join(run.stdout.split())
    assert problem in message
    assert "Remedy" in message
    assert set(topology.changes(run.stdout).values()) == {0}
    assert revisions("dags") == before


def test_file_that_asks_for_a_variable_is_not_refused(source: Path) -> None:
    (source / "wanting.py").write_text("from airflow.sdk import DAG, Variable\nVariable.get('airfield_none')\n")
    output = " ".join(deploy(source).split())
    assert "wanting.py was not checked, since it needs what only the database has: " in output


def test_running_task_goes_on_with_what_it_began_with(
    source: Path, revisions: Revisions, api: topology.Api, connect: topology.Connect
) -> None:
    worker = connect("worker1")
    release = f"{SHARED}/edition"

    def start() -> str:
        worker.check_output(f"rm -f {release}")
        run = api.trigger("airfield_wait", release=release)
        topology.wait_for("the task to run", lambda: api.tasks("airfield_wait", run)[0]["state"] == "running", 240)
        topology.wait_for("the task's code to run", lambda: f"waiting for {release}" in log(run))
        return run

    def log(run: str) -> str:
        return api.log("airfield_wait", run, api.tasks("airfield_wait", run)[0])

    def end(run: str) -> str:
        worker.check_output(f"touch {release}")
        (task,) = api.finish("airfield_wait", run)
        assert task["try_number"] == 1
        topology.wait_for("the end of the log", lambda: "released" in log(run), 30)
        return log(run)

    before = revisions("dags")
    run = start()
    shared = source / "airfield_shared.py"
    shared.write_text(shared.read_text().replace('"first"', '"second"'))
    deploy(source, airflow_dags_keep=0)
    assert set(revisions("dags").values()) != set(before.values())
    assert worker.file(f"/opt/airflow/dags/{before['worker1']}").is_directory
    assert "edition first" in end(run)
    assert "edition second" in end(start())
    # Nobody uses it any more.
    shared.write_text(shared.read_text().replace('"second"', '"third"'))
    deploy(source, airflow_dags_keep=0)
    for name in HOSTS:
        assert not connect(name).file(f"/opt/airflow/dags/{before['worker1']}").exists


def test_packages_and_resources_are_there(api: topology.Api) -> None:
    assert topology.variable("airflow_dags_packages"), "the inventory must set airflow_dags_packages"
    run = api.trigger("airfield_delivery")
    api.finish("airfield_delivery", run)
    answer = api.call("GET", f"/dags/airfield_delivery/dagRuns/{run}/taskInstances/use/xcomEntries/return_value")
    assert answer["value"] == "GOOD MORNING!1.0.4"


def test_check_mode_changes_nothing(source: Path, revisions: Revisions, connect: topology.Connect) -> None:
    (source / "airfield_new.py").write_text(NEW_DAG + "\n# another\n")
    listing = "ls -l --time-style=full-iso /opt/airflow/dags /var/cache"
    before = {name: connect(name).check_output(listing) for name in HOSTS}
    output = deploy(source, "--check", "--diff")
    assert "current -> " in output
    assert {name: connect(name).check_output(listing) for name in HOSTS} == before


def test_repository_is_delivered_at_a_tag(source: Path, tmp_path: Path, revisions: Revisions) -> None:
    work, bare = tmp_path / "work", tmp_path / "dags.git"
    shutil.copytree(source, work / "team/dags")

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
        return subprocess.run(command, cwd=work, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    git("tag", "v1")
    (work / "team/dags/later.py").write_text("not yet")
    git("add", ".")
    git("commit", "--quiet", "--message", "two")
    git("clone", "--quiet", "--bare", ".", str(bare))
    repository = {"repository": f"file://{bare}", "ref": "v1", "subdirectory": "team/dags"}
    deploy(repository)
    assert set(revisions("dags").values()) == {git("rev-parse", "v1")[:12] + "-team-dags"}
    assert set(topology.changes(deploy(repository)).values()) == {0}


def test_host_that_does_not_answer_is_named_and_nothing_is_switched(source: Path, revisions: Revisions, tmp_path: Path) -> None:
    before = revisions("dags")
    (source / "airfield_new.py").write_text(NEW_DAG + "\n# another still\n")
    path = tmp_path / "away.yml"
    path.write_text(json.dumps({"all": {"hosts": {WORKER: {"ansible_port": 9}}}}))
    run = topology.deploy("--inventory", str(path), *given(str(source)))
    assert run.returncode != 0
    assert f"No answer from {WORKER}" in " ".join(run.stdout.split())
    assert revisions("dags") == before


@contextmanager
def frozen(name: str) -> Iterator[None]:
    """A host that is switched off as far as others can see."""
    container = f"airfield-{topology.variable('testbed_name')}-{name}"
    subprocess.run(["docker", "pause", container], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", container], check=True, capture_output=True)


def deploy_and_freeze(task: str, *arguments: str) -> tuple[int, str]:
    """Deliver DAGs, and freeze a worker when a task begins; returns the status and all that was said."""
    command = ["ansible-playbook", "--inventory", str(topology.INVENTORY), "playbooks/deploy_dags.yml", *arguments]
    said = ""
    # SSH gives up after 6 s here instead of 60.
    impatient = {"ANSIBLE_SSH_ARGS": "-o ControlPath=none -o ServerAliveInterval=2 -o ServerAliveCountMax=3"}
    environment = topology.environment() | impatient
    with subprocess.Popen(command, cwd=topology.ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if line.startswith(task):
                break
        else:
            raise AssertionError(f"the run had ended before {task}: {said[-3000:]}")
        with frozen(WORKER):
            said += process.communicate()[0]
    return process.returncode, " ".join(said.split())


def test_host_that_goes_away_before_it_has_the_files_is_named_and_nothing_is_switched(
    source: Path, revisions: Revisions
) -> None:
    before = revisions("dags")
    (source / "airfield_new.py").write_text(NEW_DAG + "\n# before\n")
    status, said = deploy_and_freeze(STAGING, *given(str(source)))
    assert status != 0
    assert f"{WORKER} did not get the new revision of the DAGs" in said
    assert revisions("dags") == before


def test_host_that_goes_away_before_it_switches_is_named_and_healed(source: Path, revisions: Revisions) -> None:
    before = revisions("dags")
    (source / "airfield_new.py").write_text(NEW_DAG + "\n# between\n")
    status, said = deploy_and_freeze(CHECKING, *given(str(source)))
    assert status != 0
    assert f"{WORKER} went away with the new revision staged but not current" in said
    after = revisions("dags")
    # What schedules must not be ahead of what runs.
    assert {name for name in HOSTS if after[name] == before[name]} == {WORKER, *topology.members("airflow_scheduler")}

    seen = topology.run("ansible-playbook", "--inventory", str(topology.INVENTORY), "playbooks/status.yml", check=False)
    assert seen.returncode != 0
    scheduler = topology.members("airflow_scheduler")[0]
    for name, revision in after.items():
        told = f"{name}: has revision {revision} of the DAGs, {scheduler} has revision {after[scheduler]}. Remedy: "
        assert (told in seen.stdout) == (revision != after[scheduler])

    deploy(source)
    assert len(set(revisions("dags").values())) == 1
