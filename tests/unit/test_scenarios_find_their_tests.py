"""Molecule takes a directory without tests for success, and a file for such a directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("scenario", sorted((ROOT / "molecule").glob("*/molecule.yml")), ids=lambda path: path.parent.name)
def test_every_directory_that_a_scenario_verifies_has_tests(scenario: Path) -> None:
    content = yaml.safe_load(scenario.read_text(encoding="utf-8"))
    actions = [action.split() for action in content["scenario"]["test_sequence"]]
    named = [arguments or [content["verifier"]["directory"]] for name, *arguments in actions if name == "verify"]
    directories = [scenario.parent / directory for names in named for directory in names]
    assert directories
    assert [path for path in directories if not (path.is_dir() and [*path.rglob("test_*.py")])] == []
