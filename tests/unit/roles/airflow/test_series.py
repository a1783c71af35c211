"""What the table of Airflow's series comes to, as Ansible renders it, beside what each release says of itself."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

ROOT = Path(os.environ.get("AIRFIELD_ROOT", Path(__file__).parents[4]))
ROLES = ROOT / "roles"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens here
VERSIONS = ["3.3.2", "3.2.2", "2.11.2"]
GROUPS = {
    "airflow": ["scheduler1", "web1", "worker1", "worker2"],
    "airflow_scheduler": ["scheduler1"],
    "airflow_webserver": ["web1"],
    "airflow_worker": ["worker1", "worker2"],
    "airflow_flower": ["web1"],
    "redis": ["store1"],
    "postgresql": ["store1"],
    "seaweedfs": ["store1"],
}
SECRETS = {
    "airflow_fernet_key": "fernet",
    "airflow_jwt_secret": "jwt",
    "airflow_api_secret_key": "api",
    "airflow_admin_password": "admin",
    "airflow_database_password": "database",
    "airflow_result_backend_password": "results",
    "airflow_broker_password": "broker",
    "airflow_flower_password": "a$HOME:b%",
    "airflow_logs_access_key": "access",
    "airflow_logs_secret_key": "logs",
}


@pytest.fixture(scope="module", autouse=True)
def _collections() -> Iterator[None]:
    """Let Ansible find its filters, ours among them, which other tests import in Python's own way."""
    imported = take_modules()
    init_plugin_loader([str(ROOT / ".collections")])
    yield
    _AnsibleCollectionFinder._remove()
    take_modules()
    sys.modules.update(imported)


def take_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "ansible_collections"]
    return {name: sys.modules.pop(name) for name in names}


@functools.cache
def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = DataLoader().load_from_file(str(path), trusted_as_template=True) or {}
    return found


class Rendered:
    """The variables of a host with these of the inventory; each is worked out when it is asked for."""

    def __init__(self, version: str = "3.3.2", host: str = "web1", role: str = "airflow", **inventory: Any) -> None:
        variables: dict[str, Any] = {}
        for name in dict.fromkeys(["airflow", role]):
            variables |= read(ROLES / name / "defaults/main.yml")
        for path in sorted((ROLES / "airflow/vars/main").glob("*.yml")) + [ROLES / role / "vars/main.yml"] * (
            role != "airflow"
        ):
            variables |= read(path)
        without = inventory.pop("without", [])
        groups = {name: hosts for name, hosts in GROUPS.items() if name not in without}
        variables |= {
            "airflow_version": version,
            "ansible_check_mode": False,
            "ansible_play_hosts": GROUPS["airflow"],
            "group_names": [name for name, hosts in groups.items() if host in hosts],
            "groups": groups,
            "hostvars": {name: {"inventory_hostname": name} for hosts in GROUPS.values() for name in hosts},
            "inventory_dir": "/inventory",
            "inventory_hostname": host,
            "role_path": str(ROLES / "airflow"),
            "__airflow_files": str(ROLES / "airflow/files"),
            "__airflow_host": {"current": "", "python": "3.11", "worker_queues": [], "cpus": 2, "memory_mb": 4000},
            "__airflow_release_id": f"{version}-x",
            **SECRETS,
            **inventory,
        }
        # Where lookups of files look.
        variables["ansible_search_path"] = [str(ROLES / role), str(ROLES / "airflow")]
        self.templar = Templar(loader=DataLoader(), variables=variables)
        self.variables = variables

    def __getitem__(self, name: str) -> Any:
        return json.loads(json.dumps(self.templar.template(self.variables[name])))

    def of(self, component: str, name: str) -> Any:
        """A variable as the role of a component has it."""
        self.variables["__airflow_component"] = component
        self.templar.available_variables = self.variables
        return self[name]

    def environment(self, component: str) -> dict[str, str]:
        """The variables of the environment file of a component."""
        holds = self["__airflow_components"][component]["secrets"]
        found: dict[str, str] = {}
        for secret in holds:
            found |= json.loads(json.dumps(self.templar.template(self.variables["__airflow_secret_variables"][secret])))
        return found


def catalogue(version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROLES / f"airflow/files/releases/airflow-{version}.json").read_text())
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_option_is_one_of_the_release(version: str) -> None:
    declared = catalogue(version)
    smtp = {"host": "mail", "from_email": "airflow@example.org"}
    rendered = Rendered(version, airflow_smtp=smtp, airflow_worker_autoscale={"min": 1, "max": 2})
    for section, body in rendered["__airflow_options"].items():
        if section not in declared["free_sections"]:
            assert set(body) - set(declared["options"].get(section, {})) == set(), section


@pytest.mark.parametrize("version", VERSIONS)
def test_every_secret_is_an_option_of_the_release(version: str) -> None:
    rendered = Rendered(version)
    options = catalogue(version)["options"]
    # Only where a module of ours is, for those who have the database. 2.11 has no asynchronous connections.
    arguments = {f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS{suffix}" for suffix in ("", "_ASYNC")}
    for component in rendered["__airflow_components"]:
        for name in rendered.environment(component):
            if name.startswith("AIRFLOW__") and name not in arguments:
                section, option = name.removeprefix("AIRFLOW__").lower().split("__")
                assert options[section][option].get("sensitive"), name
    for name in set(rendered["__airflow_cli_environment"]) - arguments:
        section, option = name.removeprefix("AIRFLOW__").lower().split("__")
        assert option in options[section]


def test_secrets_of_the_web_server_survive_an_upgrade() -> None:
    """Else all sessions and links to logs would end with it."""
    old, new = Rendered("2.11.2").environment("webserver"), Rendered("3.3.2").environment("api-server")
    assert old["AIRFLOW__WEBSERVER__SECRET_KEY"] == new["AIRFLOW__API__SECRET_KEY"]


def test_only_workers_of_airflow_2_have_the_database() -> None:
    held = {version: set(Rendered(version).environment("worker")) for version in VERSIONS}
    names = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"}
    assert held["3.3.2"] & names == set()
    assert held["2.11.2"] & names == names - {"AIRFLOW__API_AUTH__JWT_SECRET"}


@pytest.mark.parametrize(("version", "variables"), [("3.3.2", 1), ("2.11.2", 0)])
def test_worker_without_a_database_is_told_so(version: str, variables: int) -> None:
    worker = Rendered(version, host="worker1", role="airflow_worker")
    path = "/opt/airflow/current/lib/python3.11/site-packages/airflow/config_templates/default_webserver_config.py"
    line = f'"AIRFLOW__WEBSERVER__CONFIG_FILE={path}"'
    assert (line in worker.of("worker", "__airflow_worker_environment")) == (version == "2.11.2")
    assert (
        len([line for line in worker.of("worker", "__airflow_worker_environment") if "SQL_ALCHEMY_CONN" in line]) == variables
    )
    imports = ["airfield_full_disk", "airfield_repeated_call"] if variables else []
    assert worker["__airflow_worker_imports"] == imports
    paths = [file["path"] for file in worker["__airflow_worker_import_files"]]
    assert paths == [f"/opt/airflow/plugins/{name}.py" for name in imports]


@pytest.mark.parametrize(
    ("version", "processes"),
    [("3.3.2", {"AIRFLOW__API__WORKERS": "2"}), ("3.2.2", {"AIRFLOW__API__WORKERS": "2"}), ("2.11.2", {})],
)
def test_web_server_has_processes_a_limit_and_short_pages(version: str, processes: dict[str, str]) -> None:
    web = Rendered(version, role="airflow_webserver")
    component = web["__airflow_this_series"]["web"]
    environment = web.of(component, "__airflow_webserver_environment")
    assert environment == {**processes, "AIRFIELD_LOG_PAGE_BYTES": 2 * 2**20}
    unit = web.of(component, "__airflow_webserver_unit")
    # Flower is on the same host: 4000 MB are enough for both.
    assert unit["MemoryMax"] == ("2048M" if processes else "3850M")
    assert unit["OOMPolicy"] == "continue"
    paths = [file["path"] for file in web["__airflow_components"][component]["files"]]
    assert "/opt/airflow/plugins/airfield_log_page.py" in paths


@pytest.mark.parametrize("version", VERSIONS)
def test_flower_has_a_login_that_is_on_no_command_line(version: str) -> None:
    rendered = Rendered(version, role="airflow_flower")
    assert rendered.environment("flower")["FLOWER_BASIC_AUTH"] == f"airflow:{SECRETS['airflow_flower_password']}"
    assert "--basic" not in rendered["__airflow_components"]["flower"]["command"]
    assert rendered["__airflow_secrets"]["airflow_flower_password"] == "password"
    assert "airflow_flower_password" in rendered["__airflow_secrets_generated"]
    assert "airflow_flower_password" not in Rendered(version, without=["airflow_flower"])["__airflow_secrets"]
    # It has no database, of which Airflow 2 needs more words than Airflow 3.
    lines = rendered.of("flower", "__airflow_flower_unit")["Environment"]
    assert '"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite://"' in lines
    assert len(lines) == (2 if version == "2.11.2" else 1)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1:5555"), (EVERYWHERE, "127.0.0.1:5555"), ("192.0.2.1", "192.0.2.1:5555")]
)
def test_flower_is_asked_where_it_listens(host: str, address: str) -> None:
    rendered = Rendered(airflow_flower_host=host)
    assert rendered["__airflow_components"]["flower"]["health"]["url"] == f"http://{address}/healthcheck"


@pytest.mark.parametrize(("version", "web"), [("3.3.2", "api-server"), ("2.11.2", "webserver")])
def test_both_series_have_the_same_places(version: str, web: str) -> None:
    rendered = Rendered(version)
    assert rendered["__airflow_placement"] == {
        web: ["web1"],
        "scheduler": ["scheduler1"],
        "dag-processor": ["scheduler1"],
        "triggerer": ["scheduler1"],
        "worker": ["worker1", "worker2"],
        "flower": ["web1"],
        "logs": GROUPS["airflow"],
        "log-retention": ["web1"],
        "alerts": [],
        "slack": [],
    }
    assert rendered["__airflow_control_hosts"] == ["scheduler1", "web1"]


@pytest.mark.parametrize(
    ("version", "inventory", "words"),
    [
        ("2.11.2", {"airflow_dag_bundles": [{"name": "x"}]}, ["variable airflow_dag_bundles", "Remedy, leave it empty"]),
        ("2.11.2", {"__airflow_fernet_rotation": True}, ["workers of Airflow 2.11.2 have the Fernet key", "Remedy, upgrade"]),
        ("3.3.2", {"airflow_flower_password": "a,b"}, ["variables airflow_flower_username and", "Remedy, choose others"]),
        ("3.3.2", {"airflow_flower_password": "ä"}, ["variables airflow_flower_username and", "Remedy, choose others"]),
        ("3.3.2", {"airflow_flower_username": "a:b"}, ["variables airflow_flower_username and", "Remedy, choose others"]),
        (
            "3.3.2",
            {"__airflow_host": {"current": "2.10.5-x", "python": "3.11"}},
            ["2.10.5 -> 2.11.2 -> 3.3.2", "Remedy: set airflow_version to 2.11.2 first"],
        ),
        ("2.11.2", {"__airflow_host": {"current": "3.3.2-x", "python": "3.11"}}, ["there is Airflow 3.3.2 already"]),
        (
            "3.3.2",
            {"__airflow_host": {"current": "2.11.2-x", "python": "3.11"}},
            ["this host runs release 2.11.2-x", "this playbook does not change it"],
        ),
    ],
)
def test_what_cannot_work_is_refused(version: str, inventory: dict[str, Any], words: list[str]) -> None:
    (problem,) = Rendered(version, **inventory)["__airflow_topology_problems"]
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("version", "inventory"),
    [
        ("3.3.2", {}),
        ("2.11.2", {}),
        ("3.3.2", {"airflow_dag_bundles": [{"name": "x"}]}),
        ("3.3.2", {"__airflow_fernet_rotation": True}),
        ("3.3.2", {"__airflow_host": {"current": "2.11.2-x", "python": "3.11"}, "__airflow_upgrading": True}),
    ],
)
def test_what_can_work_is_not(version: str, inventory: dict[str, Any]) -> None:
    assert Rendered(version, **inventory)["__airflow_topology_problems"] == []


@pytest.mark.parametrize(
    ("revision", "version"), [("5f2621c13b39", "2.11.2"), ("d2f4e1b3c5a7", "3.3.2"), ("eed27faa34e3", ""), ("", "")]
)
def test_database_tells_whose_schema_it_has(revision: str, version: str) -> None:
    state = {"database": {"revisions": {"alembic_version": revision} if revision else {}}}
    assert Rendered(__airflow_state=state)["__airflow_database_version"] == version


def test_end_of_life_is_that_of_airflow_2() -> None:
    assert [Rendered(version)["__airflow_this_series"]["end_of_life"] for version in VERSIONS] == ["", "", "April 2026"]


@pytest.mark.parametrize(
    ("before", "now", "gone"),
    [
        ("", "3.3.2", []),
        ("3.3.2-x", "3.3.2", []),
        ("2.11.2-x", "3.3.2", []),
        ("2.11.2-x", "2.11.2", []),
        (
            "3.3.2-x",
            "2.11.2",
            [
                "/opt/airflow/plugins/airfield_bundle.py",
                "/opt/airflow/plugins/airfield_full_disk.py",
                "/opt/airflow/plugins/airfield_repeated_call.py",
            ],
        ),
    ],
)
def test_a_way_back_leaves_no_modules_that_cannot_be_imported(before: str, now: str, gone: list[str]) -> None:
    rendered = Rendered(now, __airflow_host={"current": before, "python": "3.11"})
    assert sorted(rendered["__airflow_leftover_files"]) == gone


def test_versions_with_a_lock_are_known() -> None:
    assert sorted(Rendered("3.1.0")["__airflow_versions"]) == sorted(VERSIONS)
