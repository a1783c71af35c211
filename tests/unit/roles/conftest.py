"""Fixtures of the unit tests of what the roles' variables come to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.airfield.metal.plugins.filter import airfield


@functools.cache
def load(path: Path) -> dict[str, Any]:
    """The variables of a file."""
    return dict(DataLoader().load_from_file(str(path), trusted_as_template=True))


@pytest.fixture
def evaluate() -> Callable[..., Any]:
    """A variable of these files, as Ansible templates it with these others."""

    def evaluate(name: str, paths: Iterable[Path], variables: Mapping[str, Any]) -> Any:
        known: dict[str, Any] = {}
        for path in paths:
            known |= load(path)
        templar = Templar(DataLoader(), variables={**known, **variables})
        for short, function in airfield.FilterModule().filters().items():
            # No collection is installed where unit tests run.
            templar._engine.environment.filters[f"airfield.metal.{short}"] = function
        return templar.template({**known, **variables}[name])

    return evaluate
