from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils import precheck

SPECS: dict[str, dict[str, Any]] = {
    "airflow_version": {"type": "str", "required": True},
    "airflow_uid": {"type": "int"},
    "airflow_database": {"type": "dict", "options": {"backend": {"type": "str", "choices": ["postgresql"]}}},
}
PLATFORMS = [{"id": "debian", "version": "12", "python": "3.11"}]
DECLARED = {"airflow": "3.3.2", "free_sections": [], "moved": {}, "options": {"core": {"parallelism": {"type": "int"}}}}
STRONG, OTHER = "correct horse", "battery staple"


def test_specs_of_all_roles_are_read_together(tmp_path: Path) -> None:
    for role in ("a", "b"):
        (tmp_path / role / "meta").mkdir(parents=True)
        (tmp_path / role / "meta/argument_specs.yml").write_text(
            f"argument_specs: {{main: {{options: {{airflow_{role}: {{type: int}}}}}}, other: {{}}}}\n"
        )
    assert precheck.read_argument_specs(tmp_path) == {"airflow_a": {"type": "int"}, "airflow_b": {"type": "int"}}


@pytest.mark.parametrize("name", ["airflow_uid", "my_airflow_uid", "ansible_host"])
def test_variable_of_ours_or_without_our_prefix_is_accepted(name: str) -> None:
    assert precheck.unknown_variables([name], SPECS) == []


@pytest.mark.parametrize("name", ["airflow_uidd", "mysql_x", "redis_x", "postgresql_x", "seaweedfs_x"])
def test_undocumented_variable_with_our_prefix_is_named(name: str) -> None:
    (problem,) = precheck.unknown_variables([name], SPECS)
    assert problem.startswith(f"variable {name} is not one of Airfield's.")
    assert "Remedy: correct its name" in problem


def test_mistyped_variable_gets_the_nearest_name() -> None:
    assert 'Did you mean "airflow_uid"?' in precheck.unknown_variables(["airflow_uidd"], SPECS)[0]


@pytest.mark.parametrize(
    "values", [{}, {"airflow_uid": "50000"}, {"airflow_database": {"backend": "postgresql"}}, {"other": object()}]
)
def test_value_of_the_documented_type_is_accepted(values: dict[str, Any]) -> None:
    assert precheck.mistyped_variables(values, SPECS) == []


@pytest.mark.parametrize(
    ("name", "value"), [("airflow_uid", "many"), ("airflow_database", {"backend": "mysql"}), ("airflow_database", {"x": 1})]
)
def test_value_of_another_type_is_named(name: str, value: Any) -> None:
    (problem,) = precheck.mistyped_variables({name: value}, SPECS)
    assert problem.startswith(f"variable {name}: ")
    assert "Remedy: see " in problem


@pytest.mark.parametrize(
    ("values", "generated"), [({"airflow_p": STRONG}, []), ({"airflow_p": STRONG}, ["airflow_p"]), ({}, ["airflow_p"])]
)
def test_fit_or_generated_secret_is_accepted(values: dict[str, Any], generated: list[str]) -> None:
    assert precheck.unfit_secrets(values, {"airflow_p": "password"}, generated) == []


@pytest.mark.parametrize(
    ("values", "generated", "remedy"),
    [
        ({"airflow_p": "tooshortone"}, [], "set another, in a file encrypted with ansible-vault."),
        ({"airflow_p": "tooshortone"}, ["airflow_p"], "remove it and a run generates it"),
        ({}, [], "set it in a file encrypted with ansible-vault."),
    ],
)
def test_unfit_or_missing_secret_is_named_without_its_value(values: dict[str, Any], generated: list[str], remedy: str) -> None:
    (problem,) = precheck.unfit_secrets(values, {"airflow_p": "password"}, generated)
    assert problem.startswith("secret airflow_p ")
    assert remedy in problem
    assert "tooshortone" not in problem


@pytest.mark.parametrize("others", [{"a": STRONG}, {}, {"b": OTHER}])
def test_secret_equal_to_that_of_the_reference_is_accepted(others: dict[str, Any]) -> None:
    assert precheck.unequal_secrets({"a": STRONG}, others, ["a", "b"], "web1") == []


def test_secret_that_differs_between_hosts_is_named_without_its_value() -> None:
    (problem,) = precheck.unequal_secrets({"a": STRONG}, {"a": OTHER}, ["a"], "web1")
    assert problem.startswith("secret a differs from that of web1. Remedy: define it once for all hosts")
    assert STRONG not in problem
    assert OTHER not in problem


FERNET, OTHER_FERNET = (base64.urlsafe_b64encode(text).decode() for text in (b"0123456789abcdef" * 2, b"fedcba9876543210" * 2))


def hashes(*keys: str) -> list[str]:
    return [hashlib.sha256(key.encode()).hexdigest() for key in keys]


@pytest.mark.parametrize(
    ("value", "running"),
    [
        (FERNET, {}),
        (FERNET, {"cli": hashes(FERNET)}),
        (FERNET, {"cli": hashes(FERNET, OTHER_FERNET)}),
        (f"{OTHER_FERNET}, {FERNET}", {"cli": hashes(FERNET), "scheduler": hashes(OTHER_FERNET, FERNET)}),
        (f"{FERNET},{OTHER_FERNET},{FERNET}", {"cli": hashes(FERNET)}),
        (OTHER_FERNET, {"scheduler": []}),  # not known
        ("x" * 44, {"cli": hashes(FERNET)}),  # unfit, which another check tells
        (5, {"cli": hashes(FERNET)}),
        (f"{FERNET},short", {"cli": hashes(OTHER_FERNET)}),
    ],
)
def test_fernet_key_that_keeps_what_encrypts_now_is_accepted(value: Any, running: dict[str, list[str]]) -> None:
    assert precheck.abandoned_fernet_key({"airflow_fernet_key": value}, running) == []


@pytest.mark.parametrize(
    ("values", "running"),
    [
        ({}, {"cli": hashes(FERNET)}),
        ({"airflow_fernet_key": None}, {"cli": hashes(FERNET)}),
        ({"airflow_fernet_key": OTHER_FERNET}, {"cli": hashes(FERNET), "scheduler": []}),
        # The secrets file of somebody who has not seen the rotation.
        ({"airflow_fernet_key": OTHER_FERNET}, {"cli": hashes(FERNET, OTHER_FERNET)}),
    ],
)
def test_fernet_key_without_the_one_that_encrypts_now_is_named(values: dict[str, Any], running: dict[str, list[str]]) -> None:
    (problem,) = precheck.abandoned_fernet_key(values, running)
    assert problem.startswith("secret airflow_fernet_key lacks the key with which this host encrypts ")
    assert "Remedy: use the present secrets file" in problem
    assert not any(key in problem for key in (FERNET, OTHER_FERNET, *hashes(FERNET, OTHER_FERNET)))


def facts(**changes: Any) -> dict[str, Any]:
    usual = {
        "distribution": {"id": "debian", "version": "12"},
        "python": "3.11",
        "disks": {"/opt": 2048},
        "memory_mb": 1000,
        "unresolvable": [],
        "unanswered": [],
    }
    return {**usual, **changes}


def test_tried_platform_is_accepted() -> None:
    assert precheck.unsupported_platform(facts(), PLATFORMS) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"distribution": {"id": "ubuntu", "version": "12"}},
        {"distribution": {"id": "debian", "version": "13"}},
        {"python": "3.12"},
    ],
)
def test_other_platform_is_named_beside_the_supported_ones(changes: dict[str, Any]) -> None:
    (problem,) = precheck.unsupported_platform(facts(**changes), PLATFORMS)
    assert "supported are: debian 12 with Python 3.11. Remedy: " in problem


def test_version_without_a_lock_is_named() -> None:
    assert precheck.unsupported_version("3.3.2", ["3.3.2"]) == []
    (problem,) = precheck.unsupported_version("2.0.0", ["3.3.2", "3.2.0"])
    assert "there is no lock for Airflow 2.0.0, only for 3.2.0, 3.3.2. Remedy: choose one of these" in problem


def test_resources_that_just_suffice_are_accepted() -> None:
    assert precheck.scarce_resources(facts(), {"/opt": 2048}, 1000) == []


@pytest.mark.parametrize(
    ("disk", "memory", "message"),
    [
        (2049, 0, "has 2048 MB free for /opt, 2049 MB are needed. Remedy: free space"),
        (0, 1001, "has 1000 MB of memory, its components need 1001 MB. Remedy: move a component"),
    ],
)
def test_scarce_resource_is_named(disk: int, memory: int, message: str) -> None:
    (problem,) = precheck.scarce_resources(facts(), {"/opt": disk}, memory)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("offsets", "skewed"),
    [
        ({"a": 0.0}, []),
        ({"a": 3600.0}, []),
        ({"a": 0.0, "b": 2.0}, []),
        ({"a": 100.0, "b": 100.5, "c": 101.0}, []),
        ({"a": 0.0, "b": 2.1}, ["b"]),
        ({"a": 0.0, "b": 0.0, "c": -2.1}, ["c"]),
        ({"a": 0.0, "b": 1.5, "c": -1.4}, ["b"]),
        ({"a": 0.0, "b": 5.0, "c": -5.0}, ["b", "c"]),
    ],
)
def test_clocks_may_differ_between_hosts_by_so_much(offsets: dict[str, float], skewed: list[str]) -> None:
    assert [host for host in offsets if precheck.skewed_clock(host, offsets, 2)] == skewed


@pytest.mark.parametrize(("offset", "message"), [(3.0, "its clock is 3.0 s ahead of"), (-3.0, "its clock is 3.0 s behind")])
def test_skewed_clock_is_named(offset: float, message: str) -> None:
    (problem,) = precheck.skewed_clock("b", {"a": 0.0, "b": offset, "c": 0.0}, 2)
    assert problem.startswith(message)
    assert "at most 2 s (airflow_maximum_clock_skew)" in problem
    assert "Remedy: set up time synchronisation" in problem


def test_services_that_answer_are_accepted() -> None:
    assert precheck.unreachable_services(facts()) == []


def test_name_without_address_and_silent_service_are_named() -> None:
    found = facts(unresolvable=["web1"], unanswered=["broker: tried TCP h:1 for 5 s: refused"])
    resolve, connect = precheck.unreachable_services(found)
    assert resolve.startswith("cannot resolve web1. Remedy: give it an address")
    assert connect.startswith("cannot reach the broker: tried TCP h:1 for 5 s: refused. Remedy: correct the host, port")


MYSQL = {"host": "db1", "port": 3306, "version": "9.7.4", "charset": "utf8mb4"}
SETTINGS = {"explicit_defaults_for_timestamp": "ON", "log_bin": "ON", "log_bin_trust_function_creators": "ON"}


@pytest.mark.parametrize("version", ["8.0.36", "8.4.6-azure", "9.7.4"])
def test_mysql_as_airflow_needs_it_is_accepted(version: str) -> None:
    # Once by its greeting, which has no more, and once by who could log in.
    greeting = {"host": "db1", "port": 3306, "version": version}
    assert precheck.unfit_mysql([greeting, {**MYSQL, "version": version, "variables": SETTINGS}]) == []


@pytest.mark.parametrize("version", ["5.5.5-10.11.19-MariaDB-0+deb12u1", "11.8.2-mariadb"])
def test_mariadb_is_refused_once_with_the_reason(version: str) -> None:
    server = {**MYSQL, "version": version}
    (problem,) = precheck.unfit_mysql([server, {**server, "variables": {"log_bin_trust_function_creators": "OFF"}}])
    assert problem.startswith(f"the database server db1:3306 is MariaDB ({version}), on which Airflow is not tested")
    assert "ends half-way" in problem
    assert problem.endswith("Remedy: use MySQL 8.0 or later, or PostgreSQL.")


@pytest.mark.parametrize("version", ["5.7.44-log", "unknown"])
def test_old_mysql_is_refused(version: str) -> None:
    (problem,) = precheck.unfit_mysql([{**MYSQL, "version": version}])
    assert problem == f"the database server db1:3306 is MySQL {version}. Remedy: use 8.0 or later."


@pytest.mark.parametrize("variable", ["explicit_defaults_for_timestamp", "log_bin_trust_function_creators"])
def test_mysql_with_a_variable_off_is_refused_with_host_variable_and_remedy(variable: str) -> None:
    (problem,) = precheck.unfit_mysql([{**MYSQL, "variables": {**SETTINGS, variable: "OFF"}}])
    assert problem.startswith(f"the database server db1:3306 has the variable {variable} OFF, and ")
    assert f"Remedy: `SET PERSIST {variable} = ON`" in problem


def test_functions_need_no_trust_without_a_binary_log() -> None:
    variables = {"log_bin": "OFF", "log_bin_trust_function_creators": "OFF"}
    assert precheck.unfit_mysql([{**MYSQL, "variables": variables}]) == []
    (problem,) = precheck.unfit_mysql([{**MYSQL, "variables": {**variables, "explicit_defaults_for_timestamp": "OFF"}}])
    assert "explicit_defaults_for_timestamp" in problem


def test_mysql_that_cannot_hold_every_character_is_refused() -> None:
    (problem,) = precheck.unfit_mysql([{**MYSQL, "charset": "latin1"}])
    assert "has the character set latin1" in problem
    assert "Remedy: `ALTER DATABASE ... CHARACTER SET utf8mb4" in problem


@pytest.mark.parametrize("name", ["log_bin_trust_function_creators", "log-bin-trust-function-creators"])
@pytest.mark.parametrize("value", [0, False, "off", "OFF"])
def test_settings_cannot_turn_off_what_airflow_needs(name: str, value: Any) -> None:
    (problem,) = precheck.unfit_mysql_settings({"mysql_settings": {name: value, "innodb_buffer_pool_size": "1G"}})
    assert problem.startswith("variable mysql_settings: with log_bin_trust_function_creators off a migration")


@pytest.mark.parametrize(
    "values",
    [{}, {"mysql_settings": "x"}, {"mysql_settings": {"log_bin_trust_function_creators": True, "general_log": False}}],
)
def test_other_settings_are_the_operators(values: dict[str, Any]) -> None:
    assert precheck.unfit_mysql_settings(values) == []


@pytest.mark.parametrize(
    "urls",
    [
        {},
        {"airflow_database_url": "postgresql+psycopg2://a:b@h/d", "airflow_result_backend_url": "db+postgresql://a:b@h/d"},
        {"airflow_database_url": "mysql://a:b@h/d", "airflow_result_backend_url": "db+mysql+mysqldb://a:b@h/d"},
        {"airflow_database_url": "mysql+pymysql://a:b@h/d?charset=utf8mb4&client_flag=65536"},
        {"airflow_database_url": "mysql+pymysql://a:b@h/d?client_flag=196608"},
        # Nobody migrates these.
        {"airflow_result_backend_url": "db+mysql+pymysql://a:b@h/d"},
    ],
)
def test_url_with_a_driver_that_works_is_accepted(urls: dict[str, Any]) -> None:
    assert precheck.unfit_database_urls(urls) == []


@pytest.mark.parametrize("query", ["", "?client_flag=2", "?client_flag=x", "?charset=utf8mb4"])
def test_driver_with_which_a_migration_ends_half_way_is_refused(query: str) -> None:
    (problem,) = precheck.unfit_database_urls({"airflow_database_url": f"mysql+pymysql://a:hunter2@h/d{query}"})
    assert problem.startswith("variable airflow_database_url has the driver pymysql, which refuses several statements at once")
    assert problem.endswith("Remedy: begin it with mysql+mysqldb://, or add client_flag=65536.")
    assert "hunter2" not in problem


@pytest.mark.parametrize(("name", "begin"), [("airflow_database_url", ""), ("airflow_result_backend_url", "db+")])
def test_url_of_mariadb_or_with_an_unknown_driver_is_refused(name: str, begin: str) -> None:
    (mariadb,) = precheck.unfit_database_urls({name: f"{begin}mariadb+mysqldb://a:hunter2@h/d"})
    assert mariadb.startswith(f"variable {name} is for MariaDB")
    (driver,) = precheck.unfit_database_urls({name: f"{begin}mysql+mysqlconnector://a:hunter2@h/d"})
    assert driver.startswith(f"variable {name} has the driver mysqlconnector, which Airflow is not tested with.")
    assert driver.endswith(f"Remedy: begin it with {begin}mysql+mysqldb://.")
    assert "hunter2" not in mariadb + driver


def test_options_are_checked_against_the_release() -> None:
    assert precheck.option_problems({"core": {"parallelism": 1}}, DECLARED, False) == []
    (problem,) = precheck.option_problems({"core": {"parallelism": "x"}}, DECLARED, False)
    assert problem.startswith("variable airflow_config: [core] parallelism must be of type int")
    assert problem.endswith(" Remedy: correct it in the inventory.")


@pytest.mark.parametrize(("extra_packages", "count"), [(True, 0), (False, 1)])
def test_section_of_an_extra_package_is_checked_later(extra_packages: bool, count: int) -> None:
    assert len(precheck.option_problems({"mine": {"a": 1}}, DECLARED, extra_packages)) == count


@pytest.mark.parametrize("options", [{}, {"core": {"parallelism": 1}}, {"core": None}, {"database": {"fernet_key": 1}}])
def test_option_without_a_variable_of_its_own_is_accepted(options: dict[str, Any]) -> None:
    assert precheck.misplaced_options(options, {"core.fernet_key": "airflow_fernet_key"}) == []


def test_option_with_a_variable_of_its_own_is_named_without_its_value() -> None:
    (problem,) = precheck.misplaced_options({"core": {"fernet_key": STRONG}}, {"core.fernet_key": "airflow_fernet_key"})
    assert problem == (
        "variable airflow_config: [core] fernet_key would reach every component. Remedy: set airflow_fernet_key instead."
    )


def test_report_names_a_shared_problem_once() -> None:
    assert precheck.report({}) == ""
    assert precheck.report({"a": ["x"], "b": ["y", "x"]}) == "a, b: x\nb: y"


def test_objects_and_their_passwords_are_checked() -> None:
    person = {"email": "a@b", "roles": ["Op"]}
    values = {
        "airflow_pools": [{"name": "p", "slots": 1}],
        "airflow_users": [
            {**person, "username": "ann", "password": STRONG},
            {**person, "username": "bob", "email": "b@b", "password": "hunter2"},
            {**person, "username": "carl", "email": "c@b"},
        ],
        "airflow_uid": "x",
    }
    (problem,) = precheck.object_problems(values)
    assert problem == (
        "variable airflow_users: user bob: password has 7 characters, at least 12 are needed. "
        "Remedy: set another, in a file encrypted with ansible-vault."
    )
    assert precheck.object_problems({}) == []
