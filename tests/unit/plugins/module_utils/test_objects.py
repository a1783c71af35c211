from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.airfield.metal.plugins.module_utils import objects
from ansible_collections.airfield.metal.plugins.module_utils.objects import Change, Objects

SPECS = Path(__file__).parents[4] / "roles/airflow/meta/argument_specs.yml"
SECRET = "hunter2 secret"


def test_fields_are_those_that_the_role_documents() -> None:
    documented = yaml.safe_load(SPECS.read_text())["argument_specs"]["main"]["options"]
    for variable, kind in objects.VARIABLES.items():
        options = documented[variable]["options"]
        stripped = {name: {key: value for key, value in body.items() if key != "description"} for name, body in options.items()}
        assert stripped == objects.FIELDS[kind]
        assert list(stripped) == list(objects.FIELDS[kind])
    assert documented["airflow_objects_purge"]["choices"] == objects.KINDS


# Rules -----------------------------------------------------------------------------------------------------------------

GOOD: dict[str, list[dict[str, Any]]] = {
    "connections": [
        {"conn_id": "a", "conn_type": "postgres", "port": "5432", "password": "p@ss:/%$#'\"`\\ {{ x }}", "extra": {"a": 1}},
        {"conn_id": "b/c.d:(#)!-\\x", "uri": "postgres://u:p%40@h:5432/d?x=y"},
        {"conn_id": "c", "uri": "aws://"},
        {"conn_id": "d", "uri": "http://https%3A%2F%2Fhost"},
    ],
    "variables": [{"key": "a", "value": ""}, {"key": "b", "value": [1]}, {"key": "c", "value": False}],
    "pools": [{"name": "a", "slots": -1}, {"name": "b", "slots": "3", "include_deferred": "yes"}],
    "roles": [{"name": "Public", "permissions": []}, {"name": "b", "permissions": ["can_read on DAG Runs"]}],
    "users": [{"username": "a", "email": "a@b", "roles": ["Op", "b", "Op"], "password": SECRET, "update_password": "always"}],
}


def test_good_objects_have_no_problem_and_get_types_and_defaults() -> None:
    wanted, problems = objects.read_wanted(GOOD)
    assert problems == []
    assert {kind: list(items) for kind, items in wanted.items()} == {
        kind: [next(iter(item.values())) for item in GOOD[kind]] for kind in objects.FIELDS
    }
    assert wanted["connections"]["a"]["port"] == 5432
    assert wanted["pools"]["b"] == {"slots": 3, "description": "", "include_deferred": True}
    assert wanted["users"]["a"]["roles"] == ["Op", "b"]
    assert wanted["users"]["a"]["active"] is True


def test_every_role_has_what_airflow_gives_to_every_role() -> None:
    wanted, problems = objects.read_wanted(GOOD)
    assert wanted["roles"]["b"]["permissions"] == ["can_read on DAG Runs", "can_read on Website"]


@pytest.mark.parametrize(
    ("slots", "description", "ours"),
    [
        pytest.param(128, "Default pool", True, id="as Airflow makes it"),
        pytest.param(160, objects.FOLLOWING_POOL.format(160), True, id="as we have left it"),
        pytest.param(20, objects.FOLLOWING_POOL.format(160), False, id="changed by hand since"),
        pytest.param(64, "Default pool", False, id="changed by hand before"),
    ],
)
def test_default_pool_follows_the_workers_until_somebody_changes_it(slots: int, description: str, ours: bool) -> None:
    wanted = {"slots": 192, "description": objects.FOLLOWING_POOL.format(192)}
    assert objects.is_ours_to_resize(wanted, {"slots": slots, "description": description}) is ours
    assert objects.is_ours_to_resize({**wanted, "description": "The operator's"}, {"slots": slots, "description": description})


def test_default_pool_keeps_its_description() -> None:
    wanted, problems = objects.read_wanted({"pools": [{"name": "default_pool", "slots": 1}]})
    assert wanted["pools"]["default_pool"]["description"] == "Default pool"


@pytest.mark.parametrize(
    ("kind", "item", "problem"),
    [
        ("connections", {"conn_id": "a", "uri": f"x://u:{SECRET}@h", "host": "h"}, "connection a: it has both uri and host"),
        ("connections", {"conn_id": "a", "uri": SECRET}, "connection a: uri is not one, such as "),
        ("connections", {"conn_id": "a", "uri": f"x:{SECRET}"}, "connection a: uri is not one"),
        ("connections", {"conn_id": "a", "uri": f"x://u:{SECRET}@h:many/"}, "connection a: uri is not one"),
        ("connections", {"conn_id": "a", "uri": f"x://u:{SECRET}@h:99999/"}, "connection a: uri is not one"),
        ("connections", {"conn_id": "a", "host": "h"}, "connection a: it has neither uri nor conn_type."),
        ("connections", {"conn_id": "a b", "conn_type": "x"}, "connection a b: conn_id may have letters, digits"),
        ("connections", {"conn_id": "a" * 251, "conn_type": "x"}, "conn_id has more than 250 characters."),
        ("connections", {"conn_type": "x"}, "connection number 1: conn_id is missing."),
        ("connections", {"conn_id": "a", "conn_type": "x", "port": "many"}, "connection a: port must be a whole number."),
        ("connections", {"conn_id": "a", "conn_type": "x", "port": 65536}, "connection a: port must be between 1 and 65535."),
        ("connections", {"conn_id": "a", "conn_type": "x", "port": 0}, "connection a: port must be between 1 and 65535."),
        ("connections", {"conn_id": "a", "conn_type": "x", "extra": SECRET}, "connection a: extra must be a mapping."),
        ("connections", {"conn_id": "a", "conn_type": "x", "password": 123}, "connection a: password must be text; "),
        (
            "connections",
            {"conn_id": "a", "conn_type": "x", "pasword": SECRET},
            'connection a: pasword is not a field of connections. Did you mean "password"?',
        ),
        ("variables", {"key": "a"}, "variable a: value is missing."),
        ("variables", {"key": "a", "value": None}, "variable a: value is missing."),
        ("pools", {"name": "a", "slots": -2}, "pool a: slots must be a number of tasks, or -1 for any number."),
        ("pools", {"name": "a", "slots": "many"}, "pool a: slots must be a whole number."),
        ("pools", {"name": "a", "slots": 1, "include_deferred": "perhaps"}, "pool a: include_deferred must be true or false."),
        ("roles", {"name": "Admin", "permissions": []}, "role Admin: is one of Airflow's own"),
        ("roles", {"name": "a", "permissions": "can_read on DAGs"}, "role a: permissions must be a list of texts."),
        ("roles", {"name": "a", "permissions": ["DAGs"]}, 'role a: permission "DAGs" is not of the form'),
        ("users", {"username": "a", "email": "a@b", "roles": []}, "user a: it has no role."),
        (
            "users",
            {"username": "a", "email": "a@b", "roles": ["Op"], "update_password": "always"},
            "user a: update_password is always, but there is no password.",
        ),
        (
            "users",
            {"username": "a", "email": "a@b", "roles": ["Op"], "update_password": "never"},
            "user a: update_password must be one of on_create, always.",
        ),
    ],
)
def test_bad_object_is_named_with_what_is_wrong(kind: str, item: dict[str, Any], problem: str) -> None:
    wanted, (found,) = objects.read_wanted({kind: [item]})
    assert found.startswith(f"variable airflow_{kind}: ")
    assert problem in found
    assert "Remedy: " in found
    assert SECRET not in found
    assert wanted[kind] == {}


@pytest.mark.parametrize("value", ["a", {"a": 1}, ["a"], 1])
def test_what_is_not_a_list_of_mappings_is_refused(value: Any) -> None:
    assert objects.read_wanted({"pools": value})[1] == [
        "variable airflow_pools must be a list of mappings. Remedy: see docs/reference.md."
    ]


@pytest.mark.parametrize(
    ("kind", "names", "problem"),
    [("pools", ("a", "a"), "pool a: it is there twice."), ("users", ("ann", "Ann"), "user Ann: it is there twice.")],
)
def test_object_that_is_there_twice_is_named(kind: str, names: tuple[str, str], problem: str) -> None:
    key = next(iter(objects.FIELDS[kind]))
    usual = {"slots": 1} if kind == "pools" else {"roles": ["Op"]}
    items = [
        {key: name, **usual, **({"email": f"{name}@{number}"} if kind == "users" else {})} for number, name in enumerate(names)
    ]
    (found,) = objects.read_wanted({kind: items})[1]
    assert problem in found


def test_mail_address_of_two_users_is_named() -> None:
    items = [{"username": name, "email": "a@b", "roles": ["Op"]} for name in ("a", "b")]
    (found,) = objects.read_wanted({"users": items})[1]
    assert "user b: email a@b is another user's, too." in found


def test_all_problems_are_found_at_once() -> None:
    items = [{"name": "a", "slots": "x", "descripton": ""}, {"name": "b", "slots": -3}]
    assert len(objects.read_wanted({"pools": items, "variables": "x"})[1]) == 4


def test_unknown_type_names_the_nearest_and_the_package() -> None:
    problem = objects.unknown_type("a", "Google_Cloud", ["google_cloud_platform", "aws"])
    assert problem.startswith(
        'variable airflow_connections: connection a: the release knows no connections of type "Google_Cloud".'
    )
    assert "(perhaps apache-airflow-providers-google-cloud)" in problem
    assert 'Did you mean "postgres"?' in objects.unknown_type("a", "postgress", ["postgres"])


# Secrets ---------------------------------------------------------------------------------------------------------------


def hide(name: str) -> bool:
    return "password" in name or "token" in name


def test_proof_is_of_all_its_parts() -> None:
    parts = {"key": "key", "username": "ann", "password": "password", "stored": "hash"}
    known = objects.proof(**parts)
    assert objects.proof(**parts) == known
    assert len({objects.proof(**{**parts, name: "other"}) for name in parts} | {known}) == 5
    assert objects.proof("key", "ann", 'pass"word', "hash") != objects.proof("key", 'ann"pass', "word", "hash")


def test_secrets_of_all_objects_are_known() -> None:
    given = {
        "connections": [
            {"conn_id": "a", "password": "one", "extra": {"x": [{"y": "two"}], "n": 3}},
            {"conn_id": "b", "uri": "x://u:th%2Free@h/"},
        ],
        "variables": [{"key": "v", "value": {"z": "four"}}],
        "users": [{"username": "u", "password": "five"}],
        "pools": [{"name": "no secret"}],
    }
    assert objects.secret_values(given) == {"one", "two", "x://u:th%2Free@h/", "th%2Free", "four", "five"}


def change(before: dict[str, Any] | None, after: dict[str, Any] | None, kind: str = "connections", name: str = "a") -> Any:
    return Change(kind, name, before, after).describe(hide)


def test_created_object_is_shown_without_secrets_and_empty_fields() -> None:
    after = {
        "host": "h",
        "password": SECRET,
        "port": None,
        "extra": {"token": SECRET, "a": [1, {"token": SECRET}]},
        "login": "",
    }
    shown = change(None, after)
    assert (shown["action"], shown["before"], shown["fields"]) == ("created", None, [])
    assert shown["after"] == {
        "host": "h",
        "password": "********",
        "extra": {"token": "********", "a": [1, {"token": "********"}]},
    }


def test_removed_object_is_shown() -> None:
    shown = change({"conn_type": "x"}, None)
    assert (shown["action"], shown["before"], shown["after"]) == ("removed", {"conn_type": "x"}, None)


def test_updated_object_is_shown_by_what_differs_and_secrets_are_marked() -> None:
    before = {"host": "h", "login": "u", "password": SECRET, "extra": {"token": SECRET, "same": 1, "a": 1, "gone": 2}}
    after = {"host": "h", "login": "v", "password": "another", "extra": {"token": "another", "same": 1, "a": 3, "new": 4}}
    shown = change(before, after)
    assert (shown["action"], shown["fields"]) == ("updated", ["extra", "login", "password"])
    assert shown["before"] == {
        "login": "u",
        "password": "********",
        "extra": {"token": "********", "same": 1, "a": 1, "gone": 2},
    }
    assert shown["after"] == {
        "login": "v",
        "password": "******** (changed)",
        "extra": {"token": "******** (changed)", "same": 1, "a": 3, "new": 4},
    }


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("", SECRET, ("", "********")),
        (SECRET, "", ("********", "")),
        (SECRET, "another", ("********", "******** (changed)")),
        ({"a": SECRET}, {"a": "another"}, ({"a": "********"}, {"a": "******** (changed)"})),
    ],
)
def test_variable_with_a_secret_name_is_hidden(before: Any, after: Any, shown: tuple[Any, Any]) -> None:
    told = change({"value": before}, {"value": after}, "variables", "api_token")
    assert (told["before"]["value"], told["after"]["value"]) == shown


def test_secrets_in_json_are_hidden_also_in_a_text() -> None:
    told = change({"value": '{"token": "hunter2"}'}, {"value": '{"token": "hunter3", "a": 1}'}, "variables", "plain")
    assert told["before"]["value"] == {"token": "********"}
    assert told["after"]["value"] == {"token": "******** (changed)", "a": 1}
    assert change({"value": "{no json"}, {"value": "[1]"}, "variables")["before"] == {"value": "{no json"}


def test_password_in_a_url_is_hidden() -> None:
    told = change({"host": "https://u:hun/t@er2@h"}, {"host": "https://u:hunter3@h"})
    assert told["before"] == {"host": "https://u:********@h"}
    assert told["after"] == {"host": "https://u:********@h (changed)"}


# Differences -----------------------------------------------------------------------------------------------------------


class Store:
    """Objects of a kind in memory, as the database has them."""

    def __init__(self, rows: Objects, problems: list[str] | None = None) -> None:
        self.rows, self.found = rows, problems or []
        self.written: list[tuple[str, str]] = []

    def prepare(self, wanted: Objects) -> list[str]:
        return self.found

    def read(self, wanted: Objects) -> Objects:
        return {name: fields for name, fields in self.rows.items() if name in wanted}

    def others(self, wanted: Objects) -> Objects:
        return {name: fields for name, fields in self.rows.items() if name not in wanted}

    def write(self, change: Change) -> None:
        self.written.append((change.name, change.action))
        if change.after is None:
            del self.rows[change.name]
        else:
            self.rows[change.name] = change.after


WANTED: dict[str, Objects] = {"pools": {"new": {"slots": 1}, "same": {"slots": 2}, "other": {"slots": 3}}, "users": {"u": {}}}


def make_stores() -> dict[str, Store]:
    rows: Objects = {"same": {"slots": 2}, "other": {"slots": 9}, "by_hand": {"slots": 4}}
    return {"users": Store({}), "pools": Store(rows)}


def test_only_what_differs_is_written_and_what_is_not_wanted_stays() -> None:
    stores = make_stores()
    changes, problems = objects.reconcile(stores, WANTED, purge=[], check=False)
    assert problems == []
    assert stores["pools"].written == [("new", "created"), ("other", "updated")]
    assert stores["pools"].rows == {**WANTED["pools"], "by_hand": {"slots": 4}}
    assert [(change.kind, change.name) for change in changes] == [("pools", "new"), ("pools", "other"), ("users", "u")]
    assert objects.reconcile(stores, WANTED, purge=[], check=False) == ([], [])


def test_kind_that_is_purged_has_nothing_else() -> None:
    stores = make_stores()
    objects.reconcile(stores, WANTED, purge=["pools"], check=False)
    assert stores["pools"].rows == WANTED["pools"]
    assert objects.reconcile(stores, WANTED, purge=["pools"], check=False) == ([], [])


def test_check_mode_says_the_same_and_writes_nothing() -> None:
    stores = make_stores()
    told = objects.reconcile(stores, WANTED, purge=["pools"], check=True)
    assert [store.written for store in stores.values()] == [[], []]
    assert objects.reconcile(stores, WANTED, purge=["pools"], check=False) == told


def test_nothing_is_written_where_one_kind_has_a_problem() -> None:
    stores = make_stores()
    stores["users"].found = ["user u: bad"]
    assert objects.reconcile(stores, WANTED, purge=["pools"], check=False) == ([], ["user u: bad"])
    assert [store.written for store in stores.values()] == [[], []]


def test_roles_come_before_the_users_that_have_them() -> None:
    assert list(objects.FIELDS).index("roles") < list(objects.FIELDS).index("users")


def test_document_has_one_side_of_all_changes() -> None:
    changes = [
        change({"a": 1}, {"a": 2}, "pools", "p"),
        change(None, {"a": 3}, "pools", "q"),
        change({"a": 4}, None, "roles", "r"),
    ]
    assert objects.as_document(changes, "before") == {"airflow_pools": {"p": {"a": 1}}, "airflow_roles": {"r": {"a": 4}}}
    assert objects.as_document(changes, "after") == {"airflow_pools": {"p": {"a": 2}, "q": {"a": 3}}}
