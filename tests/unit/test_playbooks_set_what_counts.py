"""What a play sets is without effect where a role has a variable of this name among its own: that one wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


@pytest.fixture(scope="module")
def own() -> dict[str, str]:
    """The roles' own variables, and the file of each."""
    return {name: str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("roles/*/vars/**/*.yml")) for name in load(path)}


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_no_role_has_the_last_word_on_what_a_play_sets(path: Path, own: dict[str, str]) -> None:
    assert {name: own[name] for play in load(path) for name in play.get("vars", {}) if name in own} == {}
