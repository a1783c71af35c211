"""Whether a metadata database may be migrated by a run that nobody asked to upgrade."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# Newest migration of each version, from _REVISION_HEADS_MAP in airflow/utils/db.py of 3.3.2.
VERSIONS = {
    "4bc4d934e2bc": "2.6.2",
    "405de8318b3a": "2.7.0",
    "10b52ebd31f7": "2.8.0",
    "88344c1d9134": "2.8.1",
    "1949afb29106": "2.9.0",
    "686269002441": "2.9.2",
    "22ed7efa9da2": "2.10.0",
    "5f2621c13b39": "2.10.3",
    "29ce7909c52b": "3.0.0",
    "fe199e1abd77": "3.0.3",
    "cc92b33c6709": "3.1.0",
    "509b94a1042d": "3.1.8",
    "1d6611b6ab7c": "3.2.0",
    "d2f4e1b3c5a7": "3.3.0",
}


def schema_problems(state: Mapping[str, Any], version: str, known: str, taken_over: Collection[str]) -> list[str]:
    """Why site.yml must leave the schema as it is, with the remedy.

    :arg state: the database, as module airflow_info describes it.
    :arg version: that the inventory wants.
    :arg known: version of a release in this collection that has this schema; empty where there is none.
    """
    revision = state["revisions"].get("alembic_version", "")
    # Of a known version upgrade_problem tells; without a revision there is nothing to migrate.
    if state["migrated"] or state["error"] or known or not revision or "schema" in taken_over:
        return []
    found = VERSIONS.get(revision)
    whose = f"Airflow {found} or of a later one of its series" if found else "no version that is known here"
    return [
        f"the metadata database has the schema of {whose} (alembic_version {revision}), variable airflow_version is {version}, "
        f"and this playbook migrates nothing that is not empty. Remedy: if it is the wrong database, correct airflow_database; "
        f"else back it up, bring it to 2.11.2 with the Airflow that it has (`airflow db migrate`), and go on by "
        f"playbooks/upgrade.yml; "
        f'or let this run migrate it, after a backup: -e \'{{"airflow_take_over": ["schema"]}}\'.'
    ]
