"""The cluster under test: its inventory, its hosts, and its API as a user sees it."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import requests
import series
import yaml
from testinfra.backend.base import CommandResult
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = Path(os.environ.get("AIRFIELD_INVENTORY", ROOT / "inventories/demo"))
OUTPUT = ROOT / "tests/output"
DAGS = ROOT / "tests/dags"
# DAGs that nobody here wrote: tests/dags/airflow_examples.py.
EXAMPLES = ["example_bash_operator", "example_task_group", "example_time_delta_sensor_async", "example_xcom"]
T = TypeVar("T")
# A connection to a host by its name, as root.
Connect = Callable[[str], Host]
# Starts a bare host, with its variables for the inventory; returns the inventory's file.
Addition = Callable[..., Path]


def environment() -> dict[str, str]:
    """The environment of one of Ansible's commands as its user has it, and not molecule, whose settings are others."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}


@functools.cache
def extra_variables() -> dict[str, Any]:
    """What the cluster has beside the inventory: the variables in the file $AIRFIELD_VARIABLES."""
    path = os.environ.get("AIRFIELD_VARIABLES")
    return yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else {}


def with_dags(command: tuple[str, ...]) -> tuple[str, ...]:
    """A playbook delivers the test DAGs, whatever the inventory has."""
    if command[0] != "ansible-playbook":
        return command
    return (command[0], "--extra-vars", json.dumps({"airflow_dags_source": str(DAGS), **extra_variables()}), *command[1:])


def run(*command: str, check: bool = True, show_skipped: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's commands in the clone."""
    settings = environment() | ({"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"} if show_skipped else {})
    return subprocess.run(with_dags(command), check=check, capture_output=True, text=True, cwd=ROOT, env=settings)


def changes(output: str) -> dict[str, int]:
    """How many changes a run of a playbook counts for each host."""
    found = re.findall(r"^(\S+) +: ok=.*changed=(\d+)", output, re.MULTILINE)
    assert found, output[-3000:]
    return {host: int(count) for host, count in found}


def working(output: str) -> list[int]:
    """Numbers of the tasks that did something on a host, in the output of a run that shows skipped ones."""
    bodies = output.split("\nTASK [")[1:]
    return [number for number, body in enumerate(bodies, 1) if re.search(r"^(ok|changed): \[", body, re.MULTILINE)]


def kill_at(task: int | str, *command: str) -> tuple[str, str]:
    """Kill a run of a playbook inside its n-th task, skipped ones counted, or one of that name.

    Returns its name, with "inside" or, of one that ended at once, "at the first end of", and the output.
    """
    settings = {
        **environment(),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "airfield_kill",
        "AIRFIELD_KILL_AT": str(task),
    }
    # A group of its own: it ends with all of its processes, as where the controller loses its power.
    run = subprocess.run(
        with_dags(command), check=False, capture_output=True, text=True, cwd=ROOT, env=settings, start_new_session=True
    )
    found = re.search(r"^killed (.*) the task \[(.*)\]$", run.stderr, re.MULTILINE)
    assert found, f"the run had ended before its task {task}: {run.stdout[-3000:]}"
    assert run.returncode == -signal.SIGKILL, run.returncode
    return f"{found[1]} {found[2]}", run.stdout


@functools.cache
def inventory() -> dict[str, Any]:
    """The inventory as Ansible reads it, untemplated."""
    result: dict[str, Any] = json.loads(run("ansible-inventory", "--inventory", str(INVENTORY), "--list").stdout)
    return result


def members(*groups: str) -> list[str]:
    """Names of the hosts in any of the groups, in the inventory's order."""
    found: list[str] = []
    for group in groups:
        body = inventory().get(group, {})
        found += body.get("hosts", []) + members(*body.get("children", []))
    return list(dict.fromkeys(found))


def backends(*groups: str) -> list[str]:
    """The hosts of the groups for `testinfra_hosts`: over SSH, as root through sudo, as Ansible gets there."""
    return [f"ssh://{name}?ssh_config={ssh_config()}&sudo=True" for name in members(*groups)]


@functools.cache
def variables() -> dict[str, Any]:
    """The inventory's variables for all hosts, the generated secrets among them, untemplated."""
    merged: dict[str, Any] = {}
    for path in sorted(INVENTORY.glob("*.yml")):
        merged |= yaml.safe_load(path.read_text(encoding="utf-8"))["all"].get("vars", {})
    for path in sorted((INVENTORY / "group_vars/all").glob("*.yml")):
        merged |= yaml.safe_load(path.read_text(encoding="utf-8"))
    return merged | extra_variables()


def variable(name: str, default: Any = None) -> Any:
    """A variable as the inventory sets it for all hosts."""
    return variables().get(name, default)


def version() -> str:
    """The version of Airflow that the cluster has."""
    result: str = variable("airflow_version", "3.3.2")
    return result


def this_series() -> series.Series:
    """What that means for the cluster."""
    return series.of(version())


def address(host: str) -> str:
    """The address of a host."""
    result: str = inventory()["_meta"]["hostvars"][host]["ansible_host"]
    return result


def folder() -> Path:
    """What the testbed keeps for this cluster."""
    return ROOT / ".testbed" / variables()["testbed_name"]


def ssh_config() -> Path:
    """SSH's configuration for the hosts."""
    return folder() / "ssh_config"


def secret_names() -> list[str]:
    """The inventory's variables whose values must appear nowhere but where they are used."""
    kinds = ("_password", "_secret", "_secrets", "_secret_key", "_fernet_key", "_private_key", "_token")
    return sorted(name for name in variables() if name.endswith(kinds) and name.startswith("airflow_"))


def secrets() -> list[tuple[str, str]]:
    """The name of each secret and its value; a mapping of secrets is as many."""
    found = []
    for name in secret_names():
        value = variables()[name]
        found += [(name, str(part)) for part in (value.values() if isinstance(value, dict) else [value])]
    return found + [("airflow_connections", connection["password"]) for connection in variable("airflow_connections", [])]


def playbook(*arguments: str, inventory: Path = INVENTORY, show_skipped: bool = False) -> subprocess.CompletedProcess[str]:
    """Run site.yml on the cluster."""
    command = ["ansible-playbook", "--inventory", str(inventory), "site.yml", *arguments]
    return run(*command, check=False, show_skipped=show_skipped)


def deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run deploy_dags.yml on the cluster."""
    return run("ansible-playbook", "--inventory", str(INVENTORY), "playbooks/deploy_dags.yml", *arguments, check=False)


def python(host: Host, code: str, *arguments: str) -> CommandResult:
    """Run code with the release's Python on a host; secrets it reads there, as command lines are no place for them."""
    return host.run(shlex.join(["/opt/airflow/current/bin/python", "-c", code, *arguments]))


def ask_database(connect: Connect, query: str, database: str = "airflow") -> str:
    """The answer of our database server to its administrator; lines of columns with a | between them."""
    if members("mysql"):
        client = f"mysql --batch --skip-column-names --execute={shlex.quote(query)} {database}"
        return str(connect(members("mysql")[0]).check_output(client)).replace("\t", "|")
    client = f"cd /; runuser -u postgres -- psql -At -d {database} -c {shlex.quote(query)}"
    return str(connect(members("postgresql")[0]).check_output(client))


def wait_for(what: str, check: Callable[[], T | None], timeout: float = 120, pause: float = 0.5) -> T:
    """The first true answer of a check; fails the test where there is none within the time (seconds)."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain: {what}"
        time.sleep(pause)


class Api:
    """Airflow's REST API, as the first administrator uses it over the network."""

    # Of a new run, beside its conf.
    new_run: ClassVar[dict[str, Any]] = {"logical_date": None}
    root = series.AIRFLOW_3.api

    def __init__(self) -> None:
        self.url = f"http://{address(members('airflow_webserver')[0])}:8080"
        self.session = requests.Session()
        status = self.log_in(variable("airflow_admin_username", "admin"), variables()["airflow_admin_password"])
        assert status == 201, status

    def log_in(self, username: str, password: str) -> int:
        """Let the session be that of a user; returns the status, 201 or 401."""
        login = {"username": username, "password": password}
        answer = requests.post(f"{self.url}/auth/token", json=login, timeout=30)
        if answer.status_code == 201:
            self.session.headers["Authorization"] = "Bearer " + answer.json()["access_token"]
        return answer.status_code

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The decoded answer to a request below the API's root; any but a 2xx fails the test."""
        answer = self.session.request(method, f"{self.url}{self.root}{path}", timeout=60, **arguments)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def knows(self, dag: str) -> bool:
        """Whether the DAG processor has brought this DAG in."""
        answer = self.session.get(f"{self.url}{self.root}/dags/{dag}", timeout=60)
        # One that was taken away stays in the database.
        return answer.ok and self.is_alive(answer.json())

    @staticmethod
    def is_alive(dag: dict[str, Any]) -> bool:
        return not dag["is_stale"]

    def trigger(self, dag: str, **conf: Any) -> str:
        """Start a run of a DAG; returns the run's id."""
        wait_for(f"DAG {dag} in the API", lambda: self.knows(dag))
        self.call("PATCH", f"/dags/{dag}", json={"is_paused": False})
        run = self.call("POST", f"/dags/{dag}/dagRuns", json={**self.new_run, "conf": conf})
        return str(run["dag_run_id"])

    def state(self, dag: str, run: str) -> str:
        """The state of a run."""
        return str(self.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"])

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        answer: list[dict[str, Any]] = self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return answer

    def finish(self, dag: str, run: str, timeout: float = 240) -> list[dict[str, Any]]:
        """Wait until a run has succeeded; returns its task instances."""

        def ended() -> bool:
            state = self.state(dag, run)
            assert state != "failed", [(task["task_id"], task["state"]) for task in self.tasks(dag, run)]
            return state == "success"

        wait_for(f"run {run} of {dag} to succeed", ended, timeout)
        return self.tasks(dag, run)

    def log(self, dag: str, run: str, task: dict[str, Any]) -> str:
        """The text of the log of a task's last try, with its sources."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        answer = self.call("GET", path, params={"map_index": task["map_index"], "full_content": True})
        return self.text(answer["content"])

    @staticmethod
    def text(content: Any) -> str:
        return "\n".join(str(row.get("event", row)) if isinstance(row, dict) else str(row) for row in content)


class Api2(Api):
    """That of Airflow 2."""

    new_run: ClassVar[dict[str, Any]] = {}
    root = series.AIRFLOW_2.api

    def log_in(self, username: str, password: str) -> int:
        answer = requests.get(f"{self.url}{self.root}/dags", auth=(username, password), timeout=30)
        if answer.ok:
            self.session.auth = (username, password)
            # Else it is told of in XML.
            self.session.headers["Accept"] = "application/json"
        return 201 if answer.ok else answer.status_code

    @staticmethod
    def is_alive(dag: dict[str, Any]) -> bool:
        return bool(dag["is_active"])

    @staticmethod
    def text(content: Any) -> str:
        return str(content)


def connect_api() -> Api:
    """The API of the cluster."""
    return Api2() if version().startswith("2.") else Api()
