"""defaults/main.yml and meta/argument_specs.yml of each role say the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if path.is_dir())
pytestmark = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def read_defaults(role: Path) -> dict[str, Any]:
    return yaml.safe_load((role / "defaults/main.yml").read_text()) or {}


def read_options(role: Path) -> dict[str, dict[str, Any]]:
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())
    options: dict[str, dict[str, Any]] = specs["argument_specs"]["main"]["options"]
    return options


def walk(options: dict[str, dict[str, Any]], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All options, those of dicts and lists among them."""
    for name, option in options.items():
        yield above + name, option
        yield from walk(option.get("options") or {}, f"{above}{name}.")


def test_every_default_is_documented(role: Path) -> None:
    assert set(read_defaults(role)) - set(read_options(role)) == set()


def test_every_documented_default_is_set_and_equal(role: Path) -> None:
    documented = {name: option["default"] for name, option in read_options(role).items() if "default" in option}
    defaults = read_defaults(role)
    assert documented == {name: defaults.get(name, "is not in defaults/main.yml") for name in documented}


def test_every_constant_default_is_documented(role: Path) -> None:
    """Only one that is computed, with Jinja, is told in words instead."""
    options = read_options(role)
    constants = {name for name, value in read_defaults(role).items() if "{{" not in str(value)}
    assert {name for name in constants if "default" not in options[name]} == set()


def test_every_option_has_a_description_and_a_type(role: Path) -> None:
    lacking = [name for name, option in walk(read_options(role)) if not option.get("description") or not option.get("type")]
    assert lacking == []


def test_every_list_says_of_what(role: Path) -> None:
    assert [name for name, option in walk(read_options(role)) if (option["type"] == "list") != ("elements" in option)] == []


def test_every_variable_has_the_prefix_that_the_precheck_knows(role: Path) -> None:
    prefixes = ("airflow_", "mysql_", "postgresql_", "redis_", "seaweedfs_")
    assert [name for name in read_options(role) if not name.startswith(prefixes)] == []
