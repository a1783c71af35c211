"""Which versions of Airflow lead from one to another."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

# The only series of Airflow 2 that Airflow 3 takes over from, and its release that is in this collection.
LAST_OF_2 = (2, 11)
BRIDGE = "2.11.2"


def numbers(version: str) -> tuple[int, ...]:
    """A version for comparing: 3.10.0 is above 3.9.1."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def upgrade_path(old: str, new: str) -> list[str] | None:
    """The versions to upgrade to one after the other, the new one last; None where no way leads there."""
    before, after = numbers(old), numbers(new)
    if before == after:
        return []
    if not before or not after or before > after or (before[0], after[0]) not in ((2, 2), (2, 3), (3, 3)):
        return None
    if before[0] < after[0] and before[:2] < LAST_OF_2:
        return [BRIDGE, new]
    return [new]


def upgrade_problem(old: str, new: str) -> str:
    """Why a cluster with one version cannot go to another in one step, with the remedy; empty where it can, or has it."""
    path = upgrade_path(old, new)
    if path is None and numbers(old) > numbers(new):
        return (
            f"variable airflow_version is {new}, but there is Airflow {old} already, and no way leads back but a backup of the "
            f"older version. Remedy: set airflow_version to {old} or above."
        )
    if path is None:
        return (
            f"variable airflow_version is {new}, but there is Airflow {old}, and no way from it is known. Allowed are newer "
            f"versions of the same major version, and 3.x after 2.11. Remedy: set airflow_version to {old}."
        )
    if len(path) > 1:
        way = " -> ".join([old, *path])
        return (
            f"variable airflow_version is {new}, but there is Airflow {old}, from which the way is {way}. "
            f"Remedy: set airflow_version to {path[0]} first."
        )
    return ""


def schema_version(revisions: Mapping[str, str], catalogues: Iterable[str]) -> str:
    """The version whose schema a database has, by its revisions; empty where it is of none that is known, or has none.

    :arg catalogues: files of describe_release.py.
    """
    for path in sorted(catalogues):
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if revisions.get("alembic_version") == document["heads"]["alembic_version"]:
            return str(document["airflow"])
    return ""
