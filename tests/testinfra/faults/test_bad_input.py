"""Bad input is refused by one clear message that names host, variable and remedy, and no host is changed."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import topology
from refusal import extra, refused
from testinfra.host import Host

STORE = topology.address(topology.members("seaweedfs")[0])
Copy = Callable[..., tuple[Path, list[str]]]
# An address in the hosts' network that no host has.
NOBODY = STORE.rpartition(".")[0] + ".99"
# A secret.
SHORT = "tooshort-9f3"


# Variables and what is said of each. One run tells of all that is wrong, so that few runs ask for many: each has one value
# of a variable.
RUNS: list[list[tuple[dict[str, Any], str]]] = [
    [
        (
            {
                "airflow_config": {
                    "core": {"paralelism": 4, "parallelism": "abc"},
                    "webserver": {"base_url": "http://x"},
                    "database": {"sql_alchemy_conn": "postgresql://x"},
                    "dag_processor": {"dag_bundle_config_list": []},
                }
            },
            'variable airflow_config: [core] paralelism is not an option of Airflow 3.3.2. Did you mean "core.parallelism"?',
        ),
        ({}, "[webserver] base_url is not an option of Airflow 3.3.2: it is now [api] base_url."),
        ({}, "[core] parallelism must be of type int, it is 'abc'."),
        ({}, "[database] sql_alchemy_conn would reach every component. Remedy: set airflow_database_url instead."),
        (
            {},
            "[dag_processor] dag_bundle_config_list would take the delivered DAGs away. Remedy, set airflow_dag_bundles",
        ),
        ({"airflow_dags_source": {"repository": ""}}, "variable airflow_dags_source has no repository. Remedy: "),
        ({"airflow_resources_source": 5}, "variable airflow_resources_source is neither a text nor a mapping"),
        ({"airflow_dag_bundles": [{"name": "airfield"}]}, "variable airflow_dag_bundles has a name twice, or one of"),
        ({"airflow_uid": "abc"}, "variable airflow_uid: argument 'airflow_uid' is of type"),
        (
            {"airflow_log_retention": "lifecycle"},
            "variable airflow_log_retention is lifecycle, but the role seaweedfs runs nothing that acts by such rules",
        ),
        ({"airflow_umask": 18}, "variable airflow_umask is 18, which is not four octal digits in quotes"),
        (
            {"airflow_wroker_concurrency": 4},
            'variable airflow_wroker_concurrency is not one of Airfield\'s. Did you mean "airflow_worker_concurrency"?',
        ),
        (
            {"airflow_authentication": {"type": "ldapp"}},
            "variable airflow_authentication: value of type must be one of: database, ldap, oauth, got: ldapp",
        ),
        ({"airflow_admin_password": "admin"}, "secret airflow_admin_password is publicly known"),
        ({"airflow_jwt_secret": SHORT}, "secret airflow_jwt_secret has 12 characters, at least 64 are needed"),
        ({"airflow_fernet_key": "x" * 44}, "secret airflow_fernet_key is not a Fernet key"),
        ({"airflow_broker_password": ""}, "secret airflow_broker_password is empty"),
        ({"airflow_minimum_free_mb": 99999999}, "99999999 MB are needed"),
        ({"airflow_worker_concurrency": 100000}, "MB of memory, its components need"),
    ],
    [
        (
            {"airflow_dag_bundles": [{"name": "a", "path": "/srv"}]},
            "variable airflow_dag_bundles: unknown field airflow_dag_bundles.path",
        ),
        (
            {"airflow_authentication": {"type": "ldap", "server": "ldap://store1:x", "search": "dc=x"}},
            "variable airflow_authentication: bind_user is missing, type ldap needs it. Remedy",
        ),
        # What changes the account of a running cluster would make its files unreadable.
        (
            {"airflow_uid": 2001},
            f"variable airflow_uid is 2001, but Airflow is on this host with {topology.variable('airflow_uid', 50000)}",
        ),
        (
            {"airflow_gid": 3005},
            f"variable airflow_gid is 3005, but Airflow is on this host with {topology.variable('airflow_gid', 50000)}",
        ),
        ({"airflow_group": "etl"}, "variable airflow_group is etl, but Airflow is on this host with airflow"),
        ({"airflow_user": "etl"}, "variable airflow_user is etl, but Airflow is on this host with airflow"),
        ({"airflow_fernet_key": "A" * 43 + "=,short"}, "secret airflow_fernet_key is not a Fernet key"),
        (
            {"airflow_broker_url": "redis://:password-of-mine@no-such-host.invalid:6379/0"},
            "cannot reach the broker: tried TCP no-such-host.invalid:6379",
        ),
    ],
    [
        (
            {"airflow_dag_bundles": [{"name": "a", "classpath": "airflow.providers.git.bundles.git.GitDagBundle"}]},
            "Remedy, add git to airflow_extras",
        ),
        (
            {"airflow_authentication": {"type": "ldap", "server": f"ldap://{NOBODY}", "search": "dc=x", "bind_user": "cn=x"}},
            f"cannot reach the LDAP server: tried TCP {NOBODY}:389",
        ),
        ({"airflow_fernet_key": "A" * 43 + "="}, "secret airflow_fernet_key lacks the key with which this host encrypts"),
        (
            {"airflow_database": {"host": NOBODY}},
            f"cannot reach the metadata database: tried TCP {NOBODY}:5432 for 5 s",
        ),
        ({"airflow_broker": {"host": STORE, "port": 6380}}, f"cannot reach the broker: tried TCP {STORE}:6380"),
        (
            {"airflow_logs": {"endpoint_url": f"http://{STORE}:9"}},
            f"cannot reach the object store with the bucket airflow-logs: tried TCP {STORE}:9",
        ),
    ],
    [
        (
            {"airflow_authentication": {"type": "oauth", "providers": [{"name": "keycloak", "client_id": "x"}]}},
            "provider keycloak lacks base_url",
        ),
    ],
    # What a value must be like.
    [
        ({"airflow_timezone": "Asia/Kolkatta"}, 'variable airflow_timezone is "Asia/Kolkatta", expected a time zone of IANA'),
        (
            {"airflow_webserver_port": 99999},
            "variable airflow_webserver_port is 99999, expected a whole number from 1 to 65535",
        ),
        ({"airflow_worker_queues": ["a,b"]}, 'variable airflow_worker_queues is ["a,b"], expected a list'),
        (
            {"airflow_worker_writable_paths": ["/missing"]},
            "variable airflow_worker_writable_paths has /missing, which is no folder on this host",
        ),
        ({"airflow_base_url": "airflow.example.org"}, 'variable airflow_base_url is "airflow.example.org", expected a URL'),
        ({"airflow_worker_memory_max": "48GB"}, 'variable airflow_worker_memory_max is "48GB", expected a size'),
        ({"airflow_worker_unit": {"Nicenes": 5}}, "variable airflow_worker_unit: this host's systemd says: Unknown key"),
        (
            {"airflow_config": {"core": {"plugins_folder": "/srv/plugins"}, "logging": {"base_log_folder": "/data/logs"}}},
            'variable airflow_config: [core] plugins_folder is "/srv/plugins", which does not work here',
        ),
        ({}, "leave it out, and mount the other disk at /var/log/airflow"),
    ],
    # What no template can work with.
    [
        ({"airflow_broker": "redis.example.org"}, 'variable airflow_broker is "redis.example.org", expected a mapping'),
        ({"airflow_database": ["x"]}, 'variable airflow_database is ["x"], expected a mapping'),
        ({"airflow_extras": "celery,amazon"}, 'variable airflow_extras is "celery,amazon", expected a list'),
        ({"airflow_version": 3.3}, "variable airflow_version is 3.3, expected a text. Remedy: write it in quotes"),
        ({"airflow_catalogue_file": "/no/such"}, "variable airflow_catalogue_file is"),
        ({"airflow_groups": "jenkins"}, 'Remedy: write a list, ["jenkins"]'),
        (
            {"airflow_config": {"logging": {"log_filename_template": "{{ ti.dag_id }}.log"}}},
            "variable airflow_config cannot be evaluated: 'ti' is undefined",
        ),
        ({}, "write !unsafe before the text"),
    ],
    # Without a lock nothing else can be known.
    [({"airflow_version": "3.1.0"}, "variable airflow_version: there is no lock for Airflow 3.1.0")],
]


@functools.cache
def told(number: int) -> str:
    given: dict[str, Any] = {}
    for variables, _ in RUNS[number]:
        assert not given.keys() & variables.keys()
        given |= variables
    return refused(*extra(**given))


@pytest.mark.parametrize(
    ("number", "expected"),
    [pytest.param(number, expected, id=expected[:50]) for number, run in enumerate(RUNS) for _, expected in run],
)
def test_variable(number: int, expected: str) -> None:
    message = told(number)
    assert expected in message
    assert "worker1" in message


def test_schedule_that_never_comes() -> None:
    message = refused(*extra(airflow_backup_schedule="30 2 * * *"))
    assert 'variable airflow_backup_schedule is "30 2 * * *", of which systemd says: Failed to parse' in message


def test_secret_is_not_shown_with_its_problem() -> None:
    assert SHORT not in told(0)


def of_host(tmp_path: Path, host: str, **variables: object) -> list[str]:
    """Arguments that set variables for one host alone, as host_vars do."""
    path = tmp_path / "more.yml"
    path.write_text(json.dumps({"all": {"hosts": {host: variables}}}))
    return ["--inventory", str(path)]


def test_what_is_wrong_on_one_host_alone(tmp_path: Path) -> None:
    variables = {"airflow_api_secret_key": "0123456789" * 4, "airflow_worker_queue": ["x"]}
    message = refused(*of_host(tmp_path, "worker2", **variables))
    assert "worker2: secret airflow_api_secret_key differs from that of scheduler1" in message
    assert 'worker2: variable airflow_worker_queue is not one of Airfield\'s. Did you mean "airflow_worker_queues"?' in message


def test_unreachable_host(tmp_path: Path) -> None:
    message = refused(*of_host(tmp_path, "worker2", ansible_port=9))
    assert "No answer from worker2" in message


@pytest.mark.parametrize("playbook", ["add_workers", "remove_workers"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no workers are named. Remedy, name them, for example -e workers=worker3,worker4"),
        (["-e", "workers=worker1,wroker2"], "wroker2: not in group airflow_worker. Remedy: put new workers into the inventory"),
        (["--limit", "worker1"], "--limit leaves out scheduler1, store1"),
    ],
    ids=["none", "unknown", "limit"],
)
def test_workers_that_are_not_meant(playbook: str, arguments: list[str], expected: str) -> None:
    run = topology.run(
        "ansible-playbook", "--inventory", str(topology.INVENTORY), f"playbooks/{playbook}.yml", *arguments, check=False
    )
    assert run.returncode != 0
    assert expected in " ".join(run.stdout.split())
    assert set(topology.changes(run.stdout).values()) == {0}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Makes a copy of the inventory without some of its lines and files; returns its path and what it needs besides."""

    def copy(pattern: str, *without: str) -> tuple[Path, list[str]]:
        path = tmp_path / "inventory"
        shutil.copytree(topology.INVENTORY, path, ignore=shutil.ignore_patterns(*without))
        text, count = re.subn(pattern, r"\1 {}\n", (path / "hosts.yml").read_text(encoding="utf-8"))
        assert count == 1
        (path / "hosts.yml").write_text(text, encoding="utf-8")
        return path, extra(testbed_directory=str(topology.folder()))

    return copy


def test_empty_worker_group(copy: Copy) -> None:
    path, arguments = copy(r"(airflow_worker:\n +hosts:)\n(?: +worker.*\n)+")
    message = refused(*arguments, inventory=path)
    assert (
        "group airflow_worker is empty, and with CeleryExecutor only workers run tasks. Remedy, put a host into it" in message
    )


def test_missing_secret_of_a_foreign_service(copy: Copy) -> None:
    path, arguments = copy(r"(seaweedfs:\n +hosts:)\n(?: +store.*\n)+", "secrets.yml")
    arguments += extra(airflow_logs={"endpoint_url": f"http://{STORE}:8333"})
    message = refused(*arguments, inventory=path)
    assert "secret airflow_logs_access_key is missing: it belongs to a service that is yours" in message
    assert not (path / "group_vars/all/secrets.yml").exists()


@pytest.fixture
def worker2(connect: topology.Connect) -> Iterator[Host]:
    host = connect("worker2")
    yield host
    host.check_output("rm -f /usr/local/bin/date")
    host.check_output("test ! -e /etc/os-release.true || mv /etc/os-release.true /etc/os-release")


def test_skewed_clock(worker2: Host) -> None:
    worker2.check_output(
        'printf \'#!/bin/sh\\nexec /bin/date -d "5 seconds" "$@"\\n\' > /usr/local/bin/date; chmod +x /usr/local/bin/date'
    )
    message = refused()
    assert re.search(r"worker2: its clock is \d\.\d s ahead of the other hosts', at most 2 s", message)


def test_unsupported_system(worker2: Host) -> None:
    worker2.check_output("cp --remove-destination $(readlink -f /etc/os-release) /etc/os-release.true")
    worker2.check_output("sed 's/^VERSION_ID=.*/VERSION_ID=9/' /etc/os-release.true > /etc/os-release.new")
    worker2.check_output("mv /etc/os-release.new /etc/os-release")
    message = refused()
    assert "worker2: runs debian 9 with Python 3.11, supported are: debian 12 with Python 3.11" in message
