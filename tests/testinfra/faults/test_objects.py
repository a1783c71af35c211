"""Connections, variables, pools, roles and users are what the inventory says, and nobody sees their secrets."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import topology
import yaml
from testinfra.host import Host

SCHEDULER = topology.members("airflow_scheduler")[0]
STORE = topology.members("postgresql")[0]
# The part of each secret that no output may have, whatever quotes the rest of it.
NEEDLE = "nEEdle7"
CHARACTERS = "@:/%$#'\"`\\ {{ nothing }}?&=+~;é"
# What the cluster's inventory has itself.
CONNECTIONS: list[dict[str, Any]] = topology.variable("airflow_connections", [])
OWN = ["airfield_slack"] if topology.members("airflow_slack") else []
KINDS = ["connections", "pools", "roles", "users", "variables"]
TABLES = [
    "connection",
    "variable",
    "slot_pool",
    "ab_user",
    "ab_role",
    "ab_user_role",
    "ab_permission_view_role",
    "ab_view_menu",
]

OBJECTS: dict[str, Any] = {
    "airflow_connections": [
        {
            "conn_id": "warehouse",
            "conn_type": "postgres",
            "host": "db1.example.org",
            "login": "air flow",
            "password": f"{NEEDLE} one {CHARACTERS}",
            "schema": "dw",
            "port": 5432,
            "extra": {"sslmode": "require", "nested": {"api_token": f"{NEEDLE} two", "timeout": 30}},
            "description": "where it all goes",
        },
        {"conn_id": "bucket", "uri": f"aws://AKIA1:{NEEDLE}%20three%40%2F@/?region_name=eu-west-1"},
    ],
    "airflow_variables": [
        {"key": "greeting", "value": f"hello {CHARACTERS}"},
        {"key": "api_token", "value": f"{NEEDLE} four"},
        {"key": "settings", "value": {"limit": 3, "on": True, "password": f"{NEEDLE} five"}},
    ],
    "airflow_pools": [{"name": "reports", "slots": 3, "include_deferred": True}, {"name": "default_pool", "slots": 64}],
    "airflow_roles": [
        {"name": "Analyst", "permissions": ["can_read on DAGs", "can_edit on DAG:example", "can_create on DAG Run:example"]},
        {"name": "Other", "permissions": ["can_read on Pools", "can_edit on DAG:example"]},
    ],
    "airflow_users": [
        {
            "username": "Ann",
            "email": "ann@example.org",
            "first_name": "Ann",
            "roles": ["Viewer", "Analyst"],
            "password": f"{NEEDLE} six {CHARACTERS}",
        },
        {
            "username": "bob",
            "email": "bob@example.org",
            "roles": ["Viewer"],
            "password": f"{NEEDLE} seven {CHARACTERS}",
            "update_password": "always",
        },
        {"username": "carl", "email": "carl@example.org", "roles": ["Viewer"], "active": False},
    ],
}
ACCESS = """
from airflow.sdk import DAG
dag = DAG("access", schedule=None, access_control={"Analyst": {"DAGs": {"can_delete"}, "DAG Runs": {"can_create"}}})
"""
# As the clusters have it that these tests run on.
NOTHING: dict[str, Any] = {"airflow_pools": [{"name": "default_pool", "slots": 128}], "airflow_objects_purge": KINDS}
Reconcile = Callable[..., str]


class Dumper(yaml.SafeDumper):
    """Writes texts so that Ansible takes them as they are, also with braces in them."""


def represent(dumper: Dumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("!unsafe" if "{" in text else "tag:yaml.org,2002:str", text)


Dumper.add_representer(str, represent)


def objects(**changes: Any) -> dict[str, Any]:
    """A copy of the objects that a test may change, with other variables beside them."""
    return {**copy.deepcopy(OBJECTS), **changes}


def find(given: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    """The object of this name, its name being the value of its first field."""
    found: dict[str, Any] = next(item for item in given[f"airflow_{kind}"] if next(iter(item.values())) == name)
    return found


def changed(output: str) -> int:
    return sum(topology.changes(output).values())


def plain(output: str) -> str:
    """What Ansible has wrapped, on one line."""
    return " ".join(output.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reconcile]:
    """Runs playbooks/objects.yml (or another) with these variables in the inventory; returns what it says."""
    path = tmp_path_factory.mktemp("inventory") / "objects.yml"

    def run(variables: dict[str, Any], *arguments: str, playbook: str = "playbooks/objects.yml", succeeds: bool = True) -> str:
        if "airflow_connections" in variables:
            variables = {**variables, "airflow_connections": CONNECTIONS + variables["airflow_connections"]}
        path.write_text(yaml.dump({"all": {"vars": variables}}, Dumper=Dumper), encoding="utf-8")
        inventories = ["--inventory", str(topology.INVENTORY), "--inventory", str(path)]
        done = topology.run("ansible-playbook", *inventories, playbook, "--diff", "-vvv", *arguments, check=False)
        output = done.stdout + done.stderr
        assert (done.returncode == 0) is succeeds, output[-3000:]
        assert NEEDLE not in output
        return output

    run(NOTHING)
    yield run
    run(NOTHING)


@pytest.fixture(scope="module")
def database(connect: topology.Connect) -> Callable[[], str]:
    """All rows that the objects have in the database."""
    tables = " ".join(f"--table={table}" for table in TABLES)

    def dump() -> str:
        text = str(connect(STORE).check_output(f"cd / && runuser -u postgres -- pg_dump --data-only {tables} airflow"))
        # The server makes a new word for these at each dump; logging in is no change of ours.
        return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)

    return dump


@pytest.fixture
def present(run: Reconcile) -> None:
    """All of the objects are there, as they are above."""
    run(objects())


def log_in(username: str, password: str) -> int:
    """The status of Airflow's answer to a login."""
    url = f"http://{topology.address(topology.members('airflow_webserver')[0])}:8080/auth/token"
    return requests.post(url, json={"username": username, "password": password}, timeout=30).status_code


def ask_fab(api: topology.Api, method: str, path: str, **arguments: Any) -> Any:
    """The answer to a request about users and roles."""
    answer = api.session.request(method, f"{api.url}/auth/fab/v1{path}", timeout=60, **arguments)
    assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
    return answer.json() if answer.text else None


def permissions_of(api: topology.Api, role: str) -> set[str]:
    pairs = ask_fab(api, "GET", f"/roles/{role}")["actions"]
    return {f"{pair['action']['name']} on {pair['resource']['name']}" for pair in pairs}


def exported(host: Host, kind: str) -> Any:
    """What Airflow itself reads of the connections or variables, secrets and all."""
    return json.loads(host.check_output(f"airflow {kind} export - | sed -n '/^{{/,/^}}/p'"))


def test_everything_is_made_and_can_be_used(
    run: Reconcile, database: Callable[[], str], connect: topology.Connect, api: topology.Api
) -> None:
    before = database()
    shown = run(objects(), "--check")
    assert changed(shown) == 1
    assert database() == before
    for kind in KINDS:
        assert re.search(rf"^[ +]airflow_{kind}:", shown, re.MULTILINE)

    assert changed(run(objects())) == 1
    after = database()
    assert NEEDLE not in after
    nothing_to_do = run(objects())
    assert changed(nothing_to_do) == 0
    assert "+++ after" not in nothing_to_do
    assert changed(run(objects(), "--check")) == 0
    assert changed(run(objects(), playbook="site.yml")) == 0
    assert database() == after

    connections = exported(connect(SCHEDULER), "connections")
    wanted = find(OBJECTS, "connections", "warehouse")
    warehouse = connections["warehouse"]
    assert {name: warehouse[name] for name in wanted if name not in ("conn_id", "extra")} == {
        name: value for name, value in wanted.items() if name not in ("conn_id", "extra")
    }
    assert json.loads(warehouse["extra"]) == wanted["extra"]
    bucket = connections["bucket"]
    assert (bucket["conn_type"], bucket["login"], bucket["password"]) == ("aws", "AKIA1", f"{NEEDLE} three@/")
    assert json.loads(bucket["extra"]) == {"region_name": "eu-west-1"}
    variables = exported(connect(SCHEDULER), "variables")
    assert variables["greeting"] == find(OBJECTS, "variables", "greeting")["value"]
    assert variables["api_token"] == f"{NEEDLE} four"
    assert variables["settings"] == find(OBJECTS, "variables", "settings")["value"]
    pools = {pool["name"]: pool for pool in api.call("GET", "/pools")["pools"]}
    assert (pools["reports"]["slots"], pools["reports"]["include_deferred"]) == (3, True)
    assert pools["default_pool"]["slots"] == 64
    for name in ("Ann", "bob"):
        assert log_in(name, find(OBJECTS, "users", name)["password"]) == 201
        assert log_in(name, "another password") == 401
    assert ask_fab(api, "GET", "/users/carl")["active"] is False
    assert permissions_of(api, "Analyst") == {*find(OBJECTS, "roles", "Analyst")["permissions"], "can_read on Website"}
    assert {role["name"] for role in ask_fab(api, "GET", "/users/Ann")["roles"]} == {"Viewer", "Analyst"}


@pytest.mark.usefixtures("present")
def test_change_in_the_inventory_is_made_and_its_secrets_are_only_marked(run: Reconcile, connect: topology.Connect) -> None:
    changes = objects()
    find(changes, "connections", "warehouse")["extra"]["nested"]["api_token"] = f"{NEEDLE} eight"
    find(changes, "connections", "warehouse")["password"] = ""
    find(changes, "connections", "bucket")["uri"] = f"aws://AKIA2:{NEEDLE}%20nine@/"
    find(changes, "variables", "api_token")["value"] = f"{NEEDLE} ten"
    find(changes, "variables", "greeting")["value"] = "good bye"
    find(changes, "pools", "reports")["slots"] = -1
    find(changes, "roles", "Other")["permissions"] = ["can_read on Pools"]
    find(changes, "users", "Ann").update(password=f"{NEEDLE} eleven")
    find(changes, "users", "bob").update(password=f"{NEEDLE} twelve", roles=["Op"])
    output = run(changes)
    for line in (
        "-        api_token: '********'",
        "+        api_token: '******** (changed)'",
        "-    password: '********'",
        "-    login: AKIA1",
        "+    login: AKIA2",
        "+    password: '******** (changed)'",
        "-    value: '********'",
        "+    value: '******** (changed)'",
        "+    value: good bye",
        "-    slots: 3",
        "+    slots: -1",
        "-    - can_edit on DAG:example",
        "+    - Op",
    ):
        assert line in output.splitlines()
    # Only the password that may be updated is.
    assert not re.search(r"^. +Ann:", output, re.MULTILINE)
    assert changed(run(changes)) == 0
    warehouse = exported(connect(SCHEDULER), "connections")["warehouse"]
    assert not warehouse["password"]
    assert json.loads(warehouse["extra"])["nested"] == {"api_token": f"{NEEDLE} eight", "timeout": 30}
    assert log_in("Ann", find(OBJECTS, "users", "Ann")["password"]) == 201
    assert log_in("bob", f"{NEEDLE} twelve") == 201
    assert log_in("bob", find(OBJECTS, "users", "bob")["password"]) == 401


@pytest.mark.usefixtures("present")
def test_what_people_changed_is_put_right_and_what_they_made_stays(
    run: Reconcile, database: Callable[[], str], api: topology.Api
) -> None:
    warehouse = {"connection_id": "warehouse", "conn_type": "postgres", "host": "elsewhere", "password": f"{NEEDLE} of the web"}
    api.call("PATCH", "/connections/warehouse", json=warehouse)
    api.call("PATCH", "/variables/api_token", json={"key": "api_token", "value": f"{NEEDLE} of the web"})
    api.call("PATCH", "/pools/reports", json={"name": "reports", "slots": 99, "include_deferred": False})
    ask_fab(api, "PATCH", "/users/bob", params={"update_mask": "password"}, json={"password": f"{NEEDLE} of the web"})
    edit = {"name": "Analyst", "actions": [{"action": {"name": "can_edit"}, "resource": {"name": "Pools"}}]}
    ask_fab(api, "PATCH", "/roles/Analyst", json=edit)
    api.call("POST", "/connections", json={"connection_id": "by_hand", "conn_type": "generic", "host": "mine"})
    api.call("POST", "/variables", json={"key": "by_hand", "value": "mine"})
    api.call("POST", "/pools", json={"name": "by_hand", "slots": 1})
    ask_fab(api, "POST", "/roles", json={"name": "ByHand", "actions": []})
    person = {"username": "by_hand", "email": "by@hand.org", "first_name": "By", "last_name": "Hand", "password": NEEDLE * 2}
    ask_fab(api, "POST", "/users", json={**person, "roles": [{"name": "ByHand"}]})

    before = database()
    shown = run(objects(), "--check")
    assert database() == before
    done = run(objects())
    for output in (shown, done):
        assert changed(output) == 1
        for line in (
            "-    host: elsewhere",
            "+    host: db1.example.org",
            "+    password: '******** (changed)'",
            "+    value: '******** (changed)'",
            "-    slots: 99",
            "+    slots: 3",
            "-    - can_edit on Pools",
            "+    - can_edit on DAG:example",
        ):
            assert line in output.splitlines()
        assert "by_hand" not in output.lower()
        assert "byhand" not in output.lower()
    assert changed(run(objects())) == 0
    assert log_in("bob", find(OBJECTS, "users", "bob")["password"]) == 201
    assert log_in("by_hand", NEEDLE * 2) == 201
    for path in ("/connections/by_hand", "/variables/by_hand", "/pools/by_hand"):
        api.call("GET", path)

    # Until the inventory says that all is in it.
    purged = run(objects(airflow_objects_purge=KINDS))
    assert changed(purged) == 1
    assert len(re.findall(r"^-  by_?hand:", purged, re.MULTILINE | re.IGNORECASE)) == len(KINDS)
    assert changed(run(objects(airflow_objects_purge=KINDS))) == 0
    assert log_in("by_hand", NEEDLE * 2) == 401


@pytest.mark.usefixtures("present")
def test_purge_leaves_what_airflow_and_its_first_administrator_need(run: Reconcile, api: topology.Api) -> None:
    purged = run({"airflow_objects_purge": KINDS})
    assert changed(purged) == 1
    assert changed(run({"airflow_objects_purge": KINDS})) == 0
    for kind, own in (("connections", len(CONNECTIONS) + bool(topology.variable("airflow_smtp"))), ("variables", 0)):
        assert api.call("GET", f"/{kind}")["total_entries"] == own
    assert [pool["name"] for pool in api.call("GET", "/pools")["pools"]] == ["default_pool"]
    roles = {role["name"] for role in ask_fab(api, "GET", "/roles")["roles"]}
    assert roles == {"Admin", "Op", "Public", "User", "Viewer", *(["AirfieldSlack"] if OWN else [])}
    users = [user["username"] for user in ask_fab(api, "GET", "/users")["users"]]
    assert sorted(users) == sorted([topology.variable("airflow_admin_username", "admin"), *OWN])


@pytest.mark.usefixtures("present")
def test_nothing_is_written_where_anything_is_wrong(run: Reconcile, database: Callable[[], str]) -> None:
    before = database()
    wrong: dict[str, list[Any]] = {
        "airflow_connections": [
            {"conn_id": "both", "uri": f"postgres://a:{NEEDLE}@h/d", "host": "h"},
            {"conn_id": "bad_uri", "uri": f"postgres:{NEEDLE}"},
            {"conn_id": "bad_port", "conn_type": "postgres", "port": "many"},
            {"conn_id": "typo", "conn_type": "postgres", "hots": "h"},
            {"conn_id": "typo", "conn_type": "postgres"},
            {"conn_id": "number", "conn_type": "postgres", "password": 1234},
        ],
        "airflow_pools": [{"name": "negative", "slots": -2}],
        "airflow_roles": [{"name": "Viewer", "permissions": []}],
        "airflow_users": [{"username": "weak", "email": "w@example.org", "roles": ["Op"], "password": "airflow"}],
    }
    # The good ones beside them must not be made, either.
    new = {"key": "new", "value": "x"}
    given = {name: [*items, *wrong.get(name, [])] for name, items in objects().items()}
    given["airflow_variables"].append(new)
    output = run(given, succeeds=False)
    assert changed(output) == 0
    for problem in (
        "variable airflow_connections: connection both: it has both uri and host",
        "connection bad_uri: uri is not one",
        "connection bad_port: port must be a whole number",
        'connection typo: hots is not a field of connections. Did you mean "host"?',
        "connection typo: it is there twice",
        "connection number: password must be text; what YAML takes for something else, as a number, needs quotes",
        "pool negative: slots must be a number of tasks, or -1",
        "role Viewer: is one of Airflow's own",
        "user weak: password is publicly known",
    ):
        assert problem in plain(output)
    assert database() == before

    # What only Airflow knows.
    wrong = {
        "airflow_connections": [
            {"conn_id": "misspelt", "conn_type": "postgress"},
            {"conn_id": "package", "conn_type": "snowflake"},
        ],
        "airflow_roles": [{"name": "Wrong", "permissions": ["can_raed on Pools", "can_create on DAG:example"]}],
        "airflow_users": [{"username": "stray", "email": "ann@example.org", "roles": ["Analist"]}],
    }
    given = {name: [*items, *wrong.get(name, [])] for name, items in objects().items()}
    given["airflow_users"] = wrong["airflow_users"]
    given["airflow_variables"].append(new)
    output = run(given, succeeds=False)
    assert changed(output) == 0
    for problem in (
        'connection misspelt: the release knows no connections of type "postgress". Did you mean "postgres"?',
        "(perhaps apache-airflow-providers-snowflake)",
        'role Wrong: the release knows no permission "can_raed on Pools". Did you mean "can_read on Pools"?',
        'the release knows no permission "can_create on DAG:example"',
        'user stray: there is no role "Analist". Did you mean "Analyst"?',
        "user stray: its email ann@example.org is user Ann's in the database",
    ):
        assert problem in plain(output)
    assert database() == before


def test_what_a_dag_gives_to_a_role_stays(run: Reconcile, connect: topology.Connect, api: topology.Api) -> None:
    host, path = connect(SCHEDULER), "/opt/airflow/dags/current/airfield_access.py"
    run(objects())
    host.check_output("printf %s " + shlex.quote(ACCESS) + f" >{path}")
    try:
        host.check_output("airflow dags reserialize --bundle-name dags-folder")
    finally:
        host.check_output(f"rm {path}")
    assert changed(run(objects())) == 0
    given = {"can_delete on DAG:access", "can_create on DAG Run:access"}
    assert permissions_of(api, "Analyst") == {*find(OBJECTS, "roles", "Analyst")["permissions"], "can_read on Website", *given}


def test_two_hundred_objects_are_reconciled_by_one_task(run: Reconcile, api: topology.Api) -> None:
    many: dict[str, Any] = {
        "airflow_connections": [
            {"conn_id": f"c{number}", "conn_type": "generic", "host": "h", "password": f"{NEEDLE}{number}"}
            for number in range(80)
        ],
        "airflow_variables": [{"key": f"v{number}", "value": {"number": number}} for number in range(80)],
        "airflow_pools": [{"name": f"p{number}", "slots": number} for number in range(40)],
    }
    assert changed(run(many)) == 1
    assert changed(run(many)) == 0
    for kind, count in (("connections", 80), ("variables", 80)):
        assert api.call("GET", f"/{kind}", params={"limit": 1})["total_entries"] >= count
    many["airflow_variables"][7]["value"] = {"number": 70}
    assert changed(run(many, "--check")) == 1
