from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.template import trust_as_template
from ansible_collections.airfield.metal.plugins.action import airflow_precheck

PASSWORD = "correct horse battery"
MARIADB = {"host": "db1", "port": 3306, "version": "10.11.6-MariaDB"}
CATALOGUE = {"airflow": "3.3.2", "free_sections": [], "moved": {}, "options": {"core": {"parallelism": {"type": "int"}}}}


class HostVars(dict[str, Any]):
    """As much of Ansible's as the plugin uses."""

    def raw_get(self, host: str) -> Any:
        return self[host]


@pytest.fixture
def run(make_action: Callable[..., Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What comes of host `worker1`, whose inventory has these variables, with these arguments of the task."""
    catalogue_file = tmp_path / "catalogue.json"
    catalogue_file.write_text(json.dumps(CATALOGUE))
    facts = {
        "distribution": {"id": "debian", "version": "12"},
        "python": "3.11",
        "disks": {"/opt": 2048},
        "fernet_keys": {},
        "memory_mb": 1000,
        "unresolvable": [],
        "unanswered": [],
        "mysql_servers": [],
        "current": "",
        "units": [],
        "other_groups": [],
        "address": "192.0.2.21",
        "cluster": "",
        "stores": {},
        "unmarked": [],
        "unit_problems": {},
        "calendar_problems": {},
        "missing_folders": [],
        "ids": {"user": {}, "uid": "", "group": None, "gid": "", "home": {}},
    }
    usual: dict[str, Any] = {
        "platforms": [{"id": "debian", "version": "12", "python": "3.11"}],
        "version": "3.3.2",
        "versions": ["3.3.2"],
        "secrets": {"airflow_broker_password": "password"},
        "generated": [],
        "reference": "web1",
        "options": {},
        "variables": {"core.fernet_key": "airflow_fernet_key"},
        "catalogue_file": str(catalogue_file),
        "extra_packages": False,
        "disks": {"/opt": 2048},
        "memory_mb": 1000,
        "clock_offsets": {"web1": 0.0, "worker1": 0.5},
        "clock_skew": 2,
        "topology": [],
        "objects": True,
    }

    def run(variables: dict[str, Any] | None = None, found: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        groups = changes.pop("groups", ["airflow", "mysql"])
        seen = {"__airflow_host": {"address": "192.0.2.21"}} if changes.pop("addresses", False) else {}
        secrets = {"airflow_broker_password": PASSWORD}
        mine = {**secrets, **(variables or {})}
        arguments = {**usual, "facts": {**facts, **(found or {})}, **changes}
        action = make_action(airflow_precheck, arguments, variables=mine)
        hostvars = HostVars(web1=secrets, worker1={**mine, **seen})
        task_vars = {
            **mine,
            "inventory_hostname": "worker1",
            "group_names": groups,
            "groups": {group: ["worker1"] for group in groups},
            "ansible_play_hosts": ["worker1"],
            "hostvars": hostvars,
        }
        result: dict[str, Any] = action.run(task_vars=task_vars)
        assert result["changed"] is False
        return result

    return run


@pytest.fixture
def find_problems(run: Callable[..., dict[str, Any]]) -> Callable[..., list[str]]:
    """Only the problems."""
    return lambda *arguments, **changes: run(*arguments, **changes)["problems"]


def test_good_host_has_no_problem(find_problems: Callable[..., list[str]]) -> None:
    variables = {"airflow_uid": trust_as_template("{{ 50000 + 1 }}"), "ansible_host": "192.0.2.1"}
    assert find_problems(variables, options={"core": {"parallelism": 8}}) == []


@pytest.mark.parametrize(
    ("variables", "found", "changes", "problem"),
    [
        ({"airflow_uidd": 1}, {}, {}, "variable airflow_uidd is not one of"),
        ({"airflow_uid": "many"}, {}, {}, "variable airflow_uid: "),
        ({"airflow_uid": 0}, {}, {}, "variable airflow_uid is 0, expected "),
        ({"airflow_uid": 1234}, {}, {"components": ["worker"]}, "variable airflow_uid is 1234, but 50000 for web1"),
        ({}, {"missing_folders": ["/missing"]}, {}, "variable airflow_worker_writable_paths has /missing"),
        ({}, {"cluster": "production"}, {}, "belongs to the Airfield cluster production, this inventory is of none yet"),
        (
            {},
            {"unmarked": ["/etc/systemd/system/airflow-worker.service"]},
            {},
            "/etc/systemd/system/airflow-worker.service is there and is not",
        ),
        (
            {},
            {"stores": {"mysql": {"ours": False, "foreign": [], "clients": {}}}},
            {"groups": ["airflow", "mysql", "postgresql"]},
            "is in group mysql, but nothing of this cluster uses MySQL there",
        ),
        (
            {},
            {"stores": {"postgresql": {"ours": True, "foreign": [], "clients": {"other1": "192.0.2.99/32"}}}},
            {"groups": ["postgresql"], "addresses": True},
            "its PostgreSQL serves another cluster, of other1 (192.0.2.99).",
        ),
        ({}, {}, {"schema": ["the schema is old."]}, "the schema is old."),
        ({}, {}, {"options": {"core": {"executor": "x"}}}, "variable airflow_config: [core] executor is "),
        ({"airflow_uid": trust_as_template("{{ nothing }}")}, {}, {}, "variable airflow_uid cannot be evaluated: "),
        ({"airflow_broker_password": "tooshort"}, {}, {}, "secret airflow_broker_password has 8 characters"),
        ({"airflow_broker_password": "another horse"}, {}, {}, "secret airflow_broker_password differs from that of web1"),
        ({}, {}, {"secrets": {"airflow_jwt_secret": "jwt"}}, "secret airflow_jwt_secret is missing"),
        ({"airflow_authentication": {"type": "saml"}}, {}, {}, "variable airflow_authentication: value of type"),
        ({"airflow_authentication": {"type": "oauth"}}, {}, {}, "variable airflow_authentication: providers is missing"),
        ({}, {}, {"version": "2.0.0"}, "variable airflow_version: there is no lock"),
        ({}, {}, {"topology": ["group x is empty."]}, "group x is empty."),
        ({}, {}, {"options": {"core": {"parallel": 1}}}, "variable airflow_config: [core] parallel "),
        ({}, {}, {"options": {"core": {"fernet_key": "k"}}}, "variable airflow_config: [core] fernet_key would reach"),
        ({}, {}, {"memory_mb": 1001}, "has 1000 MB of memory"),
        ({}, {}, {"disks": {"/opt": 4096}}, "has 2048 MB free for /opt"),
        ({}, {}, {"clock_offsets": {"web1": 0, "worker1": 60}}, "its clock is 60.0 s ahead"),
        ({}, {"fernet_keys": {"cli": ["a hash"]}}, {}, "secret airflow_fernet_key lacks the key"),
        ({}, {"python": "3.9"}, {}, "runs debian 12 with Python 3.9"),
        ({}, {"unresolvable": ["web1"]}, {}, "cannot resolve web1"),
        ({}, {"unanswered": ["broker: refused"]}, {}, "cannot reach the broker: refused"),
        ({}, {"mysql_servers": [MARIADB]}, {}, "the database server db1:3306 is MariaDB"),
        ({}, {"database": {"mysql": MARIADB}}, {}, "the database server db1:3306 is MariaDB"),
        ({"mysql_settings": {"log_bin_trust_function_creators": False}}, {}, {}, "variable mysql_settings: with log_bin_"),
        ({"airflow_database_url": "mysql+pymysql://a:b@h/d"}, {}, {}, "variable airflow_database_url has the driver pymysql"),
        ({"airflow_pools": [{"name": "a", "slots": -2}]}, {}, {}, "variable airflow_pools: pool a: slots must be"),
        ({"airflow_pools": trust_as_template("{{ nothing }}")}, {}, {}, "variable airflow_pools cannot be evaluated: "),
    ],
)
def test_each_check_is_made(
    find_problems: Callable[..., list[str]],
    variables: dict[str, Any],
    found: dict[str, Any],
    changes: dict[str, Any],
    problem: str,
) -> None:
    assert [text for text in find_problems(variables, found, **changes) if text.startswith(problem)]


def test_names_of_other_roles_for_mysql_count_where_ours_is_alone(find_problems: Callable[..., list[str]]) -> None:
    variables = {"mysql_root_password": "x", "mysql_databases": [{"name": "shop"}], "mysql_settings": {"log_bin_x": 1}}
    assert find_problems(variables, groups=["airflow"]) == []
    unknown, mistyped = find_problems(variables)
    assert unknown.startswith("variable mysql_root_password is not one of")
    assert mistyped.startswith("variable mysql_databases: ")


def test_objects_are_checked_on_the_host_that_is_told_to(find_problems: Callable[..., list[str]]) -> None:
    variables = {"airflow_pools": [{"name": "a", "slots": -2}]}
    assert len(find_problems(variables)) == 1
    assert find_problems(variables, objects=False) == []


def test_no_problem_holds_a_secret(find_problems: Callable[..., list[str]]) -> None:
    problems = find_problems({"airflow_broker_password": "hunter2"})
    assert len(problems) == 2
    assert "hunter2" not in str(problems)
    assert PASSWORD not in str(problems)


def test_all_problems_are_found_in_one_run(find_problems: Callable[..., list[str]]) -> None:
    found = find_problems({"airflow_uidd": 1, "airflow_uid": "many"}, topology=["group x is empty."], memory_mb=5000)
    assert len(found) == 4


@pytest.mark.parametrize(
    "authentication", ["ldap", {"type": "oauth", "providers": "google"}, {"type": "oauth", "providers": [{}]}]
)
def test_login_of_a_wrong_type_is_told_as_such(find_problems: Callable[..., list[str]], authentication: Any) -> None:
    found = find_problems({"airflow_authentication": authentication})
    assert found
    assert all("docs/reference.md" in problem for problem in found)


def test_login_may_use_the_inventorys_roles_and_needs_its_secrets(find_problems: Callable[..., list[str]]) -> None:
    provider = {"name": "google", "client_id": "x", "allowed": ["example.org"], "roles_mapping": {"example.org": ["Analyst"]}}
    variables = {"airflow_authentication": {"type": "oauth", "providers": [provider]}}
    role, secret = find_problems(variables)
    assert "names role Analyst, which is unknown" in role
    assert secret.startswith("secret airflow_oauth_client_secrets.google is missing")
    given = {"airflow_oauth_client_secrets": {"google": PASSWORD}}
    assert find_problems({**variables, **given}) == [role]


def test_missing_argument_is_named(make_action: Callable[..., Any]) -> None:
    with pytest.raises(AnsibleActionFail, match="missing required arguments"):
        make_action(airflow_precheck, {}).run(task_vars={})


@pytest.mark.parametrize(("month", "warned"), [("April 2026", 1), ("", 0)])
def test_version_that_nobody_mends_is_warned_of(run: Callable[..., dict[str, Any]], month: str, warned: int) -> None:
    result = run(end_of_life=month)
    assert result["problems"] == []
    warnings = result.get("warnings", [])
    assert len(warnings) == warned
    assert all("3.3.2 reached its end of life in April 2026" in warning for warning in warnings)


def test_record_that_is_broken_stops_the_run(find_problems: Callable[..., list[str]]) -> None:
    assert find_problems(found={"broken": ["upgrade.json is broken. Remedy: remove it."]}) == [
        "upgrade.json is broken. Remedy: remove it."
    ]


TAKEN: dict[str, Any] = {"ids": {"user": {}, "uid": "batch", "group": None, "gid": "", "home": {}}, "other_groups": ["docker"]}


def test_account_of_others_is_told_where_airflow_will_run(run: Callable[..., dict[str, Any]]) -> None:
    result = run(found=TAKEN, components=["worker"])
    (problem,) = result["problems"]
    assert "which belongs to user batch here" in problem
    (warning,) = result["warnings"]
    assert "group docker" in warning
    assert run(found=TAKEN)["problems"] == []


def test_account_with_a_mistyped_number_is_told_once(find_problems: Callable[..., list[str]]) -> None:
    (problem,) = find_problems({"airflow_uid": "many"}, TAKEN, components=["worker"])
    assert problem.startswith("variable airflow_uid: ")


def test_room_for_less_than_the_workers_is_warned_of(run: Callable[..., dict[str, Any]]) -> None:
    pools = [{"name": "default_pool", "slots": 8}]
    result = run({"airflow_parallelism": 40, "airflow_pools": pools}, slots=48)
    assert result["problems"] == []
    assert [warning.split(":")[0] for warning in result["warnings"]] == [
        "variable airflow_parallelism",
        "variable airflow_pools",
    ]
    assert "warnings" not in run({"airflow_parallelism": 40, "airflow_pools": pools}), "another host has told it"
    assert "warnings" not in run(slots=48)


def test_secret_that_a_program_would_give_is_refused_with_its_variable(find_problems: Callable[..., list[str]]) -> None:
    problems = find_problems(options={"core": {"fernet_key_cmd": "x"}})
    assert any("[core] fernet_key_cmd would reach every component. Remedy: set airflow_fernet_key" in text for text in problems)


def test_no_command_is_recommended_with_numbers_that_are_none(find_problems: Callable[..., list[str]]) -> None:
    home = {"user": "airflow", "uid": 50000, "group": "airflow", "gid": 50000}
    found = {"current": "3.3.2-x", "ids": {**TAKEN["ids"], "home": home}}
    problems = find_problems({"airflow_uid": 0, "airflow_user": "root"}, found, components=["worker"])
    assert not any("usermod" in problem for problem in problems)
