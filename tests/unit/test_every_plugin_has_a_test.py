"""Every plugin has a test file, and every module's documentation says what the module takes."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

PLUGINS = Path(__file__).parents[2] / "plugins"
TESTS = Path(__file__).parent / "plugins"
KINDS = ("action", "filter", "module_utils", "modules", "plugin_utils")
FILES = [path for kind in KINDS for path in sorted((PLUGINS / kind).rglob("*.py")) if path.stem != "__init__"]
MODULES = [path.stem for path in FILES if path.parent.name == "modules"]


def load(kind: str, name: str) -> Any:
    return importlib.import_module(f"ansible_collections.airfield.metal.plugins.{kind}.{name}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_plugin_has_a_test_file(path: Path) -> None:
    only_documents_an_action = path.parent.name == "modules" and not hasattr(load("modules", path.stem), "main")
    folder = Path("action") if only_documents_an_action else path.parent.relative_to(PLUGINS)
    assert (TESTS / folder / f"test_{path.name}").exists()


@pytest.fixture(scope="session")
def documentation() -> dict[str, Any]:
    """The documentation of each module as Ansible shows it, with what comes from fragments."""
    command = ["ansible-doc", "--json", "--type", "module", *(f"airfield.metal.{name}" for name in MODULES)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PLUGINS.parent)
    return {name.rpartition(".")[2]: body["doc"] for name, body in json.loads(shown.stdout).items()}


@pytest.fixture
def taken(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the module `name`, or the action that it documents, takes."""
    taken: dict[str, Any] = {}

    def take(*args: Any, **arguments: Any) -> NoReturn:
        taken.update(arguments)
        raise SystemExit

    module = load("modules", name)
    if hasattr(module, "main"):
        monkeypatch.setattr(module, "AnsibleModule", take)
        run = module.main
    else:
        action = load("action", name).ActionModule
        monkeypatch.setattr(ActionBase, "run", lambda *args: {})
        monkeypatch.setattr(action, "validate_argument_spec", take)
        run = object.__new__(action).run
    with pytest.raises(SystemExit):
        run()
    return taken


def comparable(options: dict[str, Any], suboptions: str) -> dict[str, Any]:
    """Options of a documentation or an argument spec, by all that both say of them."""
    return {
        name: {
            "type": option.get("type", "str"),
            "elements": option.get("elements"),
            "default": option.get("default"),
            "choices": option.get("choices"),
            "required": option.get("required", False),
            "aliases": option.get("aliases", []),
            "options": comparable(option.get(suboptions) or {}, suboptions),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_documentation_says_what_the_module_takes(name: str, documentation: dict[str, Any], taken: dict[str, Any]) -> None:
    assert comparable(documentation[name]["options"], "suboptions") == comparable(taken["argument_spec"], "options")


@pytest.mark.parametrize("name", MODULES)
def test_documentation_says_what_check_and_diff_mode_do(
    name: str, documentation: dict[str, Any], taken: dict[str, Any]
) -> None:
    attributes = documentation[name]["attributes"]
    for mode in ("check_mode", "diff_mode"):
        assert attributes[mode]["support"] in {"full", "partial", "none"}
        assert attributes[mode]["description"]
    assert taken.get("supports_check_mode", True) is (attributes["check_mode"]["support"] != "none")


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_accepted_by_the_module(name: str, taken: dict[str, Any]) -> None:
    examples = yaml.safe_load(load("modules", name).EXAMPLES)
    assert examples
    taken.pop("supports_check_mode", None)
    for task in examples:
        arguments = task.get(f"airfield.metal.{name}")
        errors = ArgumentSpecValidator(**taken).validate(arguments).error_messages if arguments else []
        assert (task["name"], errors) == (task["name"], [])


@pytest.mark.parametrize("name", MODULES)
def test_every_returned_value_is_described(name: str) -> None:
    returned = yaml.safe_load(load("modules", name).RETURN)
    assert returned
    for value in returned.values():
        assert {"description", "returned", "type"} <= set(value)
