"""Runs that must be refused before anything is changed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import topology


def refused(*arguments: str, inventory: Path = topology.INVENTORY) -> str:
    """The message of a run that must fail without changing anything."""
    run = topology.playbook(*arguments, inventory=inventory)
    assert run.returncode != 0, run.stdout[-3000:]
    assert set(topology.changes(run.stdout).values()) == {0}
    assert len(re.findall(r"^fatal: .*FAILED!", run.stdout, re.MULTILINE)) == 1
    message = " ".join(run.stdout.split())
    assert "Remedy" in message
    return message


def extra(**variables: object) -> list[str]:
    return ["--extra-vars", json.dumps(variables)]
