from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import objects, service_account
from ansible_collections.airfield.metal.plugins.modules import airflow_objects

RunModule = Callable[..., dict[str, Any]]
URL = "postgresql://airflow:hunter2@db1/airflow"
SECRET = "a secret of mine"
GIVEN = {
    "connections": [{"conn_id": "a", "conn_type": "postgres", "password": SECRET}],
    "variables": [],
    "pools": [{"name": "p", "slots": "3"}],
    "roles": [],
    "users": [],
}
CHANGE = {"kind": "pools", "name": "p", "action": "updated", "fields": ["slots"], "before": {"slots": 1}, "after": {"slots": 3}}
ADMINISTRATOR = {"username": "admin", "email": "a@b", "password": "its own secret"}


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The process in which Airflow is imported: `answer` is what comes back, or the text of its error."""
    fake = SimpleNamespace(answer={"problems": [], "changes": [], "proofs": {}}, calls=[], folder=tmp_path)
    (tmp_path / "cli.env").write_text(f'AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="{URL}"\n')

    def call_as(*arguments: Any) -> Any:
        fake.calls.append(arguments)
        if isinstance(fake.answer, str):
            raise RuntimeError(fake.answer)
        return fake.answer

    monkeypatch.setattr(service_account, "call_as", call_as)
    return fake


@pytest.fixture
def run(run_module: RunModule, airflow: SimpleNamespace) -> RunModule:
    def run(given: Any = GIVEN, check: bool = False, **params: Any) -> dict[str, Any]:
        arguments = {"objects": json.dumps(given), "account": "somebody", "config": "/etc/a.cfg", **params}
        files = {"passwords_file": str(airflow.folder / "passwords.json"), "environment_file": str(airflow.folder / "cli.env")}
        result = run_module(airflow_objects, check=check, **arguments, **files)
        assert SECRET not in str(result)
        assert ADMINISTRATOR["password"] not in str(result)
        return result

    return run


def test_airflow_gets_what_is_wanted_and_the_secrets_of_the_command_line(run: RunModule, airflow: SimpleNamespace) -> None:
    result = run(purge=["pools"], administrator=ADMINISTRATOR)
    assert (result["changed"], result["changes"]) == (False, [])
    ((account, environment, function, wanted, purge, administrator, proofs, check),) = airflow.calls
    assert (account, function) == ("somebody", airflow_objects.reconcile)
    assert environment == {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": URL,
        "AIRFLOW_CONFIG": "/etc/a.cfg",
        "AIRFLOW_HOME": "/var/lib/airflow",
    }
    assert wanted == objects.read_wanted(GIVEN)[0]
    assert (purge, administrator, proofs, check) == (["pools"], ADMINISTRATOR, {}, False)


def test_changes_are_shown(run: RunModule, airflow: SimpleNamespace) -> None:
    airflow.answer = {"problems": [], "changes": [CHANGE], "proofs": {}}
    result = run(check=True)
    assert result["changed"]
    assert result["changes"] == [{"kind": "pools", "name": "p", "action": "updated", "fields": ["slots"]}]
    assert result["diff"] == {
        "before": "airflow_pools:\n  p:\n    slots: 1\n",
        "after": "airflow_pools:\n  p:\n    slots: 3\n",
    }
    assert airflow.calls[0][-1] is True


def test_nothing_to_compare_starts_no_airflow(run: RunModule, airflow: SimpleNamespace) -> None:
    result = run({kind: [] for kind in objects.KINDS})
    assert (result["changed"], result["changes"], airflow.calls) == (False, [], [])


@pytest.mark.parametrize("params", [{"purge": ["pools"]}, {"administrator": ADMINISTRATOR}])
def test_purge_and_the_first_administrator_need_airflow(
    run: RunModule, airflow: SimpleNamespace, params: dict[str, Any]
) -> None:
    run({}, **params)
    assert len(airflow.calls) == 1


def test_what_is_wrong_is_refused_before_airflow_starts(run: RunModule, airflow: SimpleNamespace) -> None:
    result = run({**GIVEN, "pools": [{"name": "p", "slots": -2}, {"name": "q"}]})
    assert result["failed"]
    first, *problems = result["msg"].splitlines()
    assert first == "Nothing was changed in the database."
    assert [problem.partition(": ")[2].partition(":")[0] for problem in problems] == ["pool p", "pool q"]
    assert airflow.calls == []


@pytest.mark.parametrize(("given", "purge"), [({"pool": []}, []), ({}, ["pool"])])
def test_unknown_kind_is_refused(run: RunModule, given: dict[str, Any], purge: list[str]) -> None:
    assert run(given, purge=purge)["msg"].startswith("There are no objects of kind pool, only connections, pools, ")


def test_what_airflow_refuses_is_told(run: RunModule, airflow: SimpleNamespace) -> None:
    airflow.answer = {"problems": ["first", "second"], "changes": [], "proofs": {"ann": "x"}}
    result = run()
    assert result["failed"]
    assert result["msg"] == "Nothing was changed in the database.\nfirst\nsecond"
    assert not (airflow.folder / "passwords.json").exists()


def test_failure_of_airflow_is_told_without_secrets(run: RunModule, airflow: SimpleNamespace) -> None:
    airflow.answer = f"insert of {SECRET} into {URL} failed"
    result = run(administrator=ADMINISTRATOR)
    assert result["failed"]
    assert result["msg"].startswith("The objects could not be reconciled: insert of ******** into ******** failed. Remedy: ")


# Passwords -------------------------------------------------------------------------------------------------------------


def test_proofs_are_kept_from_run_to_run_for_root_alone(run: RunModule, airflow: SimpleNamespace) -> None:
    path = airflow.folder / "passwords.json"
    airflow.answer = {"problems": [], "changes": [], "proofs": {"ann": "proof"}}
    run(check=True)
    assert not path.exists()
    run()
    assert json.loads(path.read_text()) == {"ann": "proof"}
    assert path.stat().st_mode & 0o777 == 0o600
    written = path.stat().st_mtime_ns
    run()
    assert airflow.calls[-1][-2] == {"ann": "proof"}
    assert path.stat().st_mtime_ns == written
    airflow.answer = {"problems": [], "changes": [], "proofs": {}}
    run()
    assert json.loads(path.read_text()) == {}


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Each comparison of a password with a hash, which here is the word with "hash of" before it."""
    made: list[tuple[str, str]] = []

    def check_password_hash(stored: str, password: str) -> bool:
        made.append((stored, password))
        return stored == f"hash of {password}"

    security = ModuleType("werkzeug.security")
    vars(security)["check_password_hash"] = check_password_hash
    monkeypatch.setitem(sys.modules, "werkzeug", ModuleType("werkzeug"))
    monkeypatch.setitem(sys.modules, "werkzeug.security", security)
    return made


def make_users(updating: set[str], proofs: dict[str, str]) -> airflow_objects.Users:
    users = object.__new__(airflow_objects.Users)
    users.fernet_key, users.updating, users.proofs = "key", updating, proofs
    return users


def test_password_that_may_not_be_updated_is_not_compared(checks: list[Any]) -> None:
    assert make_users(set(), {}).compare_password("ann", "hash of old", "new") == "new"
    assert checks == []


def test_password_is_compared_with_its_hash_once(checks: list[Any]) -> None:
    proofs: dict[str, str] = {}
    runs = [make_users({"ann"}, proofs).compare_password("ann", "hash of word", "word") for run in range(3)]
    assert runs == ["word", "word", "word"]
    assert len(checks) == 1
    # The database has another.
    assert make_users({"ann"}, proofs).compare_password("ann", "hash of other", "word") == "hash of other"
    # The inventory has another.
    assert make_users({"ann"}, proofs).compare_password("ann", "hash of word", "other") == "hash of word"
    assert len(checks) == 3


def test_user_without_a_password_in_the_database_gets_one(checks: list[Any]) -> None:
    assert make_users({"ann"}, {}).compare_password("ann", "", "word") == ""
    assert checks == []


def test_first_administrator_is_a_user_with_all_rights() -> None:
    users: dict[str, Any] = {"ann": {"password": "x"}}
    airflow_objects.complete_administrator(users, ADMINISTRATOR)
    assert users["ann"] == {"password": "x"}
    assert set(users["admin"]) == set(objects.FIELDS["users"]) - {"username"}
    assert (users["admin"]["roles"], users["admin"]["password"]) == (["Admin"], ADMINISTRATOR["password"])


@pytest.mark.parametrize(("password", "then"), [(None, ADMINISTRATOR["password"]), ("mine", "mine")])
def test_first_administrator_is_as_the_inventory_has_it(password: str | None, then: str) -> None:
    users: dict[str, Any] = {"admin": {"email": "x@y", "password": password}}
    airflow_objects.complete_administrator(users, ADMINISTRATOR)
    assert users == {"admin": {"email": "x@y", "password": then}}


# Airflow 2 -------------------------------------------------------------------------------------------------------------


def provide(monkeypatch: pytest.MonkeyPatch, modules: dict[str, dict[str, Any]]) -> None:
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


def test_dag_is_read_from_where_each_series_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bag = SimpleNamespace(get_latest_version_of_dag=lambda name, session: f"{name} of 3")
    provide(monkeypatch, {"airflow": {}, "airflow.models": {}, "airflow.models.dagbag": {"DBDagBag": lambda: bag}})
    assert airflow_objects.read_dag("sales", None) == "sales of 3"
    rows = {"sales": SimpleNamespace(dag="sales of 2")}
    model = SimpleNamespace(get=lambda name, session: rows.get(name))
    provide(monkeypatch, {"airflow.models.dagbag": {}, "airflow.models.serialized_dag": {"SerializedDagModel": model}})
    assert airflow_objects.read_dag("sales", None) == "sales of 2"
    assert airflow_objects.read_dag("other", None) is None


@pytest.mark.parametrize("section", ["fab", "webserver"])
def test_passwords_are_hashed_as_each_series_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, section: str) -> None:
    file = tmp_path / "webserver_config.py"
    read = []

    class Config(dict[str, str]):
        def __init__(self, root: str) -> None:
            super().__init__()

        def from_pyfile(self, path: str, silent: bool) -> None:
            read.append(path)
            self["FAB_PASSWORD_HASH_METHOD"] = "pbkdf2"

    def generate_password_hash(password: str, method: str) -> str:
        return f"{method} of {password}"

    provide(monkeypatch, {"flask": {"Config": Config}, "werkzeug": {}})
    provide(monkeypatch, {"werkzeug.security": {"generate_password_hash": generate_password_hash}})
    options = {(section, "config_file"): str(file)}
    users = make_users(set(), {})
    users.conf = SimpleNamespace(get=lambda section, option, fallback=None: options.get((section, option), fallback))
    assert users.hash_password("hunter2") == "pbkdf2 of hunter2"
    assert read == [str(file)]


def test_spoilt_proofs_are_told_and_made_anew(
    run: RunModule, airflow: SimpleNamespace, spoilt: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, text: warnings.append(text))
    path = airflow.folder / "passwords.json"
    path.write_bytes(spoilt)
    airflow.answer = {"problems": [], "changes": [], "proofs": {"ann": "proof"}}
    run()
    # An object with something else in it has a proof that fits nobody.
    assert set(airflow.calls[-1][-2]) <= {"other"}
    assert json.loads(path.read_text()) == {"ann": "proof"}
    told = [f"{path} is broken. It is made anew, with every password."]
    assert warnings == ([] if spoilt.startswith((b"{}", b'{"')) else told)
