from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan.schema import schema_problems


def find(revision: str, known: str = "", taken: tuple[str, ...] = (), **changes: Any) -> list[str]:
    revisions = {"alembic_version": revision} if revision else {}
    state = {"revisions": revisions, "migrated": False, "error": "", **changes}
    return schema_problems(state, "3.3.2", known, taken)


@pytest.mark.parametrize(
    ("revision", "whose"),
    [
        ("686269002441", "Airflow 2.9.2 or of a later one of its series"),
        ("29ce7909c52b", "Airflow 3.0.0 or of a later one of its series"),
        ("0123456789ab", "no version that is known here"),
    ],
)
def test_schema_that_no_upgrade_begins_with_is_refused(revision: str, whose: str) -> None:
    (problem,) = find(revision)
    assert f"the metadata database has the schema of {whose} (alembic_version {revision})" in problem
    assert "playbooks/upgrade.yml" in problem
    assert '-e \'{"airflow_take_over": ["schema"]}\'' in problem


def test_database_without_a_schema_is_migrated() -> None:
    assert find("") == []


def test_schema_of_the_release_itself_may_lack_the_tables_of_a_provider() -> None:
    assert find("d2f4e1b3c5a7", known="3.3.2") == []


@pytest.mark.parametrize("changes", [{"migrated": True}, {"error": "refused"}, {"taken": ("schema",)}])
def test_others_say_the_rest(changes: dict[str, Any]) -> None:
    assert find("686269002441", **changes) == []
