"""The Fernet key is rotated while Airflow works: no component ever meets a value that it cannot decrypt, and a run that was
killed is finished by the next. $AIRFIELD_KILLS says how many runs are killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import topology
from ansible_collections.airfield.metal.plugins.modules.airflow_reencrypt import VALUES

SCHEDULER = topology.members("airflow_scheduler")[0]
HOLDERS = topology.members("airflow_scheduler", "airflow_webserver")
KILLS = int(os.environ.get("AIRFIELD_KILLS", "1"))
COMMAND = ("ansible-playbook", "--inventory", str(topology.INVENTORY), "playbooks/rotate_fernet.yml", "-vv", "--diff")
# A variable's and a connection's, from before the rotation; a task reads them in the end.
NAME, VALUE, PASSWORD = "airfield_fernet_old", "a value", "p@ss:w/o%rd"

# What the metadata database holds, for the scripts below.
ROWS = """
import glob, json, os, re, select, sys, time
import sqlalchemy
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

def read(path):
    return open(path).read() if os.path.exists(path) else ""

def environment(path):
    rows = re.findall(r'^(\\w+)="((?:[^"\\\\]|\\\\.)*)"$', read(path), re.MULTILINE)
    return {name: re.sub(r"\\\\(.)", r"\\1", value) for name, value in rows}

def decrypts(keys, token):
    try:
        return bool(MultiFernet([Fernet(key) for key in keys.split(",")]).decrypt(token) is not None)
    except InvalidToken:
        return False

engine = sqlalchemy.create_engine(environment("/etc/airflow/cli.env")["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])

def tokens():
    with engine.connect() as connection:
        for name, query in {
            "variable": "select key, val from variable where is_encrypted",
            "password": "select conn_id, password from connection where is_encrypted",
            "extra": "select conn_id, extra from connection where is_extra_encrypted",
            "trigger": "select classpath, kwargs from trigger where kwargs not like '{%'",
            "test": "select connection_id, password from connection_test_request where is_encrypted",
        }.items():
            for label, token in connection.execute(sqlalchemy.text(query)):
                if token:
                    yield name + " " + label, token
"""
# Until its input ends: which component, by the keys that its process was started with, cannot decrypt which value.
WATCH = (
    ROWS
    + """
known, seen, failures, rounds = {}, set(), set(), 0
while not select.select([sys.stdin], [], [], 0.2)[0]:
    for path in glob.glob("/etc/airflow/*.env"):
        name = os.path.basename(path)[:-4]
        keys = environment(path).get("AIRFLOW__CORE__FERNET_KEY")
        marks = [read(f"{folder}/airflow-{name}.fingerprint") for folder in ("/var/lib/airfield", "/run/airfield")]
        if keys and marks[0] == marks[1]:
            known[name] = keys
            seen.add(f"{name}: {len(keys.split(','))}")
    for label, token in tokens():
        failures |= {f"{name}: {label}" for name, keys in known.items() if not decrypts(keys, token)}
    rounds += 1
print(json.dumps([rounds, sorted(failures), sorted(seen)]))
"""
)
# How many values each key of the input decrypts, and how many there are.
COUNT = (
    ROWS
    + """
values = list(tokens())
print(json.dumps([[sum(decrypts(key, token) for name, token in values) for key in sys.stdin.read().split()], len(values)]))
"""
)
SHOW = ROWS + "print(sorted(tokens()))"
# Tables of which the release itself re-encrypts something.
TABLES = """
import airflow.models, json
from airflow.cli.commands.rotate_fernet_key_command import rotate_fernet_key
from airflow.models.base import Base
print(json.dumps([m.local_table.name for m in Base.registry.mappers if hasattr(m.class_, "rotate_fernet_key")]))
"""
# Of the file for which the tasks of this DAG wait.
DAG, FILE = "airfield_deferred", "/var/lib/airflow/airfield_deferred"
COMPONENTS = {"api-server", "scheduler", "dag-processor", "triggerer", "cli"}


def start(host: str, code: str) -> subprocess.Popen[str]:
    """The release's Python on a host; secrets go to it by its input."""
    command = [
        "ssh",
        "-F",
        str(topology.ssh_config()),
        host,
        "sudo",
        "/opt/airflow/current/bin/python",
        "-c",
        shlex.quote(code),
    ]
    # All three: SSH makes what it shares with others non-blocking, which Ansible refuses to write to.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def keys() -> list[str]:
    """The keys in the inventory as it is now."""
    topology.variables.cache_clear()
    topology.inventory.cache_clear()
    return str(topology.variables()["airflow_fernet_key"]).split(",")


class Watch:
    """Reads and writes through the API, and looks at the database with every component's keys."""

    def __init__(self, api: topology.Api) -> None:
        self.api = api
        self.failures: list[str] = []
        self.seen: set[str] = set()
        self.written: set[str] = set()
        self.over = threading.Event()

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """An answer of the API; none while the web server restarts."""
        try:
            answer = self.api.session.request(method, f"{self.api.url}/api/v2{path}", timeout=60, json=body or None)
        except requests.RequestException:
            return None
        if not answer.ok:
            self.failures.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json() if answer.ok and answer.content else None

    def poll(self) -> None:
        for number in itertools.count():
            if self.over.wait(0.2):
                return
            # Encrypted with the first key of the web server as it is now.
            name = f"airfield_fernet_{number % 20}"
            if name not in self.written:
                if self.ask("POST", "/variables", key=name, value=VALUE):
                    self.written.add(name)
            else:
                self.ask("PATCH", f"/variables/{name}", key=name, value=f"{VALUE} {number}")
            connection = {"connection_id": NAME, "conn_type": "http", "password": PASSWORD, "extra": "{}"}
            self.ask("PATCH", f"/connections/{NAME}", **connection)
            self.ask("GET", "/connections")
            variable = self.ask("GET", f"/variables/{NAME}")
            if variable and variable["value"] != VALUE:
                self.failures.append(f"variable {NAME} is {variable['value']!r}")

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        """All that while something is done."""
        self.over.clear()
        watchers = [start(host, WATCH) for host in HOLDERS]
        thread = threading.Thread(target=self.poll)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join()
            for host, watcher in zip(HOLDERS, watchers, strict=True):
                rounds, failures, seen = json.loads(watcher.communicate()[0])
                assert rounds > 0
                self.failures += [f"{host}, {failure}" for failure in failures]
                self.seen |= set(seen)


@pytest.fixture(scope="module")
def watch(api: topology.Api) -> Iterator[Watch]:
    watch = Watch(api)
    # Not with call(), as what an earlier, broken run has left is no reason to fail.
    remove(watch, [NAME])
    api.call("POST", "/variables", json={"key": NAME, "value": VALUE})
    connection = {"connection_id": NAME, "conn_type": "http", "password": PASSWORD, "extra": '{"a": "b"}'}
    api.call("POST", "/connections", json=connection)
    yield watch
    remove(watch, [NAME, *watch.written])


def remove(watch: Watch, names: list[str]) -> None:
    for name in names:
        for path in (f"/variables/{name}", f"/connections/{name}"):
            watch.api.session.delete(f"{watch.api.url}/api/v2{path}", timeout=60)


@pytest.fixture(scope="module")
def deferred(api: topology.Api, dags: None, watch: Watch, connect: topology.Connect) -> Callable[[], None]:
    """A run whose tasks are deferred; returns what lets them end, and sees that they read what they should."""
    scheduler = connect(SCHEDULER)
    scheduler.check_output(f"rm -f {FILE}")
    run = api.trigger(DAG)
    states = {"deferred"}
    topology.wait_for(
        "both tasks to be deferred", lambda: {task["state"] for task in api.tasks(DAG, run)} == states or None, 240
    )

    def finish() -> None:
        assert {task["state"] for task in api.tasks(DAG, run)} == states
        scheduler.check_output(f"runuser -u airflow -- touch {FILE}")
        for task in api.finish(DAG, run):
            path = f"/dags/{DAG}/dagRuns/{run}/taskInstances/{task['task_id']}/xcomEntries/return_value"
            assert api.call("GET", path)["value"] == [VALUE, PASSWORD]
            assert task["try_number"] == 1

    return finish


def rotate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return topology.run(*COMMAND, *arguments, check=False, show_skipped=True)


def state(connect: topology.Connect) -> list[str]:
    """All that a rotation changes, but for the time."""
    secrets = [path.read_text() for path in sorted((topology.INVENTORY / "group_vars/all").glob("*.yml"))]
    # Not those of what a timer starts, which it may do in these very seconds.
    names = f".*/airflow-({'|'.join(sorted(COMPONENTS))})[.]fingerprint"
    units = f"find /run/airfield -regextype egrep -regex '{names}' -exec sha256sum {{}} + | sort"
    marks = [connect(host).check_output(f"sha256sum /etc/airflow/*.env; {units}") for host in HOLDERS]
    return [*secrets, *marks, topology.python(connect(SCHEDULER), SHOW).stdout]


def assert_only(key: str, old: set[str], connect: topology.Connect) -> None:
    """Everything is encrypted with this key, and no other is anywhere."""
    assert old
    assert key not in old
    assert keys() == [key]
    process = start(SCHEDULER, COUNT)
    (count, *others), everything = json.loads(process.communicate(" ".join([key, *old]))[0])
    assert everything > 2
    assert count == everything
    assert set(others) == {0}
    for name in topology.members("all"):
        command = "grep -rslF -f - /etc/airflow /var/lib/airfield /run/airfield /proc/[0-9]*/environ"
        ssh = ["ssh", "-F", str(topology.ssh_config()), name, "sudo", "sh", "-c", shlex.quote(command)]
        for searched, found in ((old, False), ({key}, name in HOLDERS)):
            output = subprocess.run(ssh, input="\n".join(searched), capture_output=True, text=True, check=False).stdout
            assert bool(output) is found, (name, output)
    for name in HOLDERS:
        marks = "cd /run/airfield; for mark in *.fingerprint; do cmp $mark /var/lib/airfield/$mark || exit 1; done"
        connect(name).check_output(marks)
    texts = [path.read_text() for path in topology.INVENTORY.rglob("*") if path.is_file()]
    assert not [text for text in texts if any(other in text for other in old)]
    record = topology.folder() / "command_lines"
    if record.exists():
        lines = record.read_text(encoding="utf-8", errors="replace")
        assert not any(other in lines for other in [key, *old])


def test_the_module_knows_every_table_that_the_release_re_encrypts(connect: topology.Connect) -> None:
    tables = topology.python(connect(SCHEDULER), TABLES).stdout.strip().splitlines()[-1]
    assert set(json.loads(tables)) == {table for table, *_ in VALUES}


@pytest.fixture(scope="module")
def checked(watch: Watch, connect: topology.Connect) -> str:
    """What a run in check mode says, which changes nothing."""
    before = state(connect)
    run = rotate("--check")
    assert run.returncode == 0, run.stdout[-3000:]
    assert state(connect) == before
    return run.stdout + run.stderr


def test_check_mode_says_what_would_be_done(checked: str) -> None:
    assert "A new key stands beside the old one now" in checked
    assert "Everything is encrypted with the new key" in checked
    assert "\nchanged: [" in checked


def test_killed_rotation_is_finished_by_the_next_and_everything_can_be_read_meanwhile(
    checked: str, watch: Watch, deferred: Callable[[], None], connect: topology.Connect
) -> None:
    # Before the first change there is nothing to finish.
    first = checked.partition("\nchanged: [")[0].count("\nTASK [")
    window = [number for number in topology.working(checked) if number >= first]
    chance = random.Random(int(os.environ.get("AIRFIELD_SEED", "1")))  # noqa: S311 - the same points for the same seed
    for turn, number in enumerate(chance.sample(window, KILLS)):
        old = {*keys()}
        with watch.during():
            task, said = topology.kill_at(number, *COMMAND)
            point = f"killed {task}"
            between = keys()
            old |= {*between}
            if turn % 2:
                # Whoever does not know of it keeps what is there.
                run = topology.playbook()
                assert run.returncode == 0, (point, run.stdout[-3000:])
                assert keys() == between
            run = rotate()
        assert run.returncode == 0, (point, run.stdout[-3000:])
        assert watch.failures == [], point
        # Every component was seen with each number of keys: so much for what the absence of failures means.
        assert watch.seen == {f"{name}: {number}" for name in COMPONENTS for number in (1, 2, 3)}, point
        (new,) = keys()
        assert not any(key in checked + said + run.stdout + run.stderr for key in (new, *old)), point
        assert_only(new, old - {new}, connect)
    deferred()
