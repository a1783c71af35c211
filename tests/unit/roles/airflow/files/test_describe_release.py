from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILES = Path(__file__).parents[5] / "roles/airflow/files"
CATALOGUES = sorted((FILES / "releases").glob("airflow-*.json"))


@pytest.fixture(scope="module")
def describe() -> Any:
    spec = importlib.util.spec_from_file_location("describe_release", FILES / "describe_release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ({"type": "string", "default": "x"}, "str"),
        ({"type": "string", "default": "True"}, "bool"),
        ({"type": "string", "default": False}, "bool"),
        ({"type": "string", "default": None}, "str"),
        ({"type": "integer", "default": "5"}, "int"),
        ({"type": "float", "default": "5"}, "float"),
        ({"type": "boolean", "default": None}, "bool"),
        ({"type": "object"}, "str"),
        ({}, "str"),
    ],
)
def test_type_of_an_option_is_told_by_its_declaration_or_its_default(describe: Any, option: dict[str, Any], kind: str) -> None:
    assert describe.option_type(option) == kind


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_options_of_airflow_and_its_providers_are_read(describe: Any, tmp_path: Path) -> None:
    write(
        tmp_path / "airflow/config_templates/config.yml",
        "core:\n  options:\n    fernet_key: {type: string, sensitive: true}\n    parallelism: {type: integer}\nempty: {}\n",
    )
    write(tmp_path / "provider-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: provider\nVersion: 1.0\n")
    write(
        tmp_path / "provider-1.0.dist-info/entry_points.txt",
        "[apache_airflow_provider]\nprovider_info = made_up.info:get\n[console_scripts]\nx = missing.module:main\n",
    )
    write(
        tmp_path / "made_up/info.py",
        'def get():\n    return {"config": {"celery": {"options": {"pool": {"type": "string"}}}}}\n',
    )
    assert describe.read_options(tmp_path) == {
        "core": {"fernet_key": {"type": "str", "sensitive": True}, "parallelism": {"type": "int"}},
        "celery": {"pool": {"type": "str"}},
    }


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def change(name: str, new: str = "", removed: bool = True, unless: str | None = None) -> SimpleNamespace:
    """An entry of Airflow's list of changed options."""
    old, renamed = (SimpleNamespace(section=text.partition(".")[0], option=text.partition(".")[2]) for text in (name, new))
    return SimpleNamespace(
        config=old,
        renamed_to=renamed if new else None,
        was_removed=removed,
        remove_if_equals=unless,
    )


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """As much of Airflow as knows of changed options."""
    fake = SimpleNamespace(changes=[], deprecated={})
    for package in ("airflow", "airflow.cli", "airflow.cli.commands"):
        fake_module(monkeypatch, package, __path__=[])
    fake_module(monkeypatch, "airflow.cli.commands.config_command", CONFIGS_CHANGES=fake.changes)
    fake_module(monkeypatch, "airflow.configuration", conf=SimpleNamespace(deprecated_options=fake.deprecated))
    return fake


def test_release_without_celerys_command_does_not_start(describe: Any, airflow: SimpleNamespace, monkeypatch: Any) -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    fake_module(monkeypatch, "airflow.cli.cli_parser", get_parser=lambda: parser)
    with pytest.raises(SystemExit):
        describe.try_to_start()
    commands.add_parser("celery").add_subparsers().add_parser("worker")
    with pytest.raises(ModuleNotFoundError):
        describe.try_to_start()
    for package in ("airflow.providers", "airflow.providers.celery", "airflow.providers.celery.executors"):
        fake_module(monkeypatch, package, __path__=[])
    fake_module(monkeypatch, "airflow.providers.celery.executors.celery_executor_utils")
    describe.try_to_start()


def test_former_names_lead_to_present_ones(describe: Any, airflow: SimpleNamespace) -> None:
    airflow.deprecated["api", "new"] = ("webserver", "old", "3.0")
    airflow.changes += [
        change("core.renamed", new="database.renamed"),
        change("core.removed"),
        change("core.changed_default", removed=False),
        change("core.removed_at_one_value", unless="x"),
        change("core.back_again"),
    ]
    present: dict[str, dict[str, Any]] = {"core": {"back_again": {}}, "api": {"new": {}}, "database": {"renamed": {}}}
    assert describe.read_moved(present) == {
        "webserver.old": "api.new",
        "core.renamed": "database.renamed",
        "core.removed": None,
    }


def test_name_that_moved_several_times_leads_to_the_present_one(describe: Any, airflow: SimpleNamespace) -> None:
    airflow.deprecated["metrics", "b"] = ("scheduler", "a", "2.0")
    airflow.changes += [change("metrics.b", new="metrics.c"), change("metrics.c", new="metrics.d")]
    assert describe.read_moved({"metrics": {"d": {}}}) == {
        "scheduler.a": "metrics.d",
        "metrics.b": "metrics.d",
        "metrics.c": "metrics.d",
    }


def test_name_that_moved_and_was_then_removed_leads_nowhere(describe: Any, airflow: SimpleNamespace) -> None:
    airflow.deprecated["database", "load"] = ("core", "load", "2.3")
    airflow.changes.append(change("database.load"))
    assert describe.read_moved({}) == {"core.load": None, "database.load": None}


def test_newest_revision_of_each_chain_that_is_installed_is_read(
    describe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "airflow/migrations").mkdir(parents=True)
    script = SimpleNamespace(ScriptDirectory=lambda path: SimpleNamespace(get_heads=lambda: [f"head of {path}"]))
    fake_module(monkeypatch, "alembic", __path__=[])
    fake_module(monkeypatch, "alembic.script", **vars(script))
    own = {"alembic_version": f"head of {tmp_path}/airflow/migrations"}
    assert describe.read_heads(tmp_path) == own
    (tmp_path / "airflow/providers/fab/migrations").mkdir(parents=True)
    assert describe.read_heads(tmp_path) == own
    # Airflow 3.
    write(tmp_path / "airflow/utils/db_manager.py", "")
    fab = {"alembic_version_fab": f"head of {tmp_path}/airflow/providers/fab/migrations"}
    assert describe.read_heads(tmp_path) == {**own, **fab}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_shipped_catalogue_is_that_of_its_lock(path: Path) -> None:
    catalogue = json.loads(path.read_text())
    assert path.stem == f"airflow-{catalogue['airflow']}"
    locks = list(path.parent.glob(f"{path.stem}-python*.lock"))
    assert locks
    for lock in locks:
        pins = lock.read_text()
        assert re.search(rf"^apache-airflow=={re.escape(catalogue['airflow'])} \\$", pins, re.MULTILINE)
        # The builds take uv itself from there.
        assert re.search(r"^uv==\S+ \\$", pins, re.MULTILINE)


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_shipped_catalogue_has_what_the_roles_rely_on(path: Path) -> None:
    catalogue = json.loads(path.read_text())
    options = catalogue["options"]
    types = {option["type"] for body in options.values() for option in body.values()}
    assert types == {"bool", "float", "int", "str"}
    assert options["core"]["fernet_key"]["sensitive"]
    assert options["database"]["sql_alchemy_conn"]["sensitive"]
    fab = set() if path.name.startswith("airflow-2.") else {"alembic_version_fab"}
    assert set(catalogue["heads"]) == {"alembic_version"} | fab


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_shipped_catalogue_leads_from_former_names_to_options_that_exist(path: Path) -> None:
    catalogue = json.loads(path.read_text())
    names = {f"{section}.{option}" for section, body in catalogue["options"].items() for option in body}
    assert names & set(catalogue["moved"]) == set()
    assert {new for new in catalogue["moved"].values() if new} - names == set()
