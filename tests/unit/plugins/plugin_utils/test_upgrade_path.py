from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils import upgrade_path


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("3.3.2", "3.3.2", []),
        ("3.3.1", "3.3.2", ["3.3.2"]),
        ("3.9.1", "3.10.0", ["3.10.0"]),
        ("3.0.0", "3.3.2", ["3.3.2"]),
        ("2.11.0", "2.11.2", ["2.11.2"]),
        ("2.7.3", "2.11.2", ["2.11.2"]),
        ("2.11.0", "3.3.2", ["3.3.2"]),
        ("2.11.2", "3.3.2", ["3.3.2"]),
        ("2.10.5", "3.3.2", ["2.11.2", "3.3.2"]),
        ("2.7.0", "3.0.0", ["2.11.2", "3.0.0"]),
        ("3.3.2", "3.3.1", None),
        ("3.3.2", "3.2.9", None),
        ("3.0.0", "2.11.2", None),
        ("1.10.15", "2.11.2", None),
        ("3.3.2", "4.0.0", None),
        ("3.3.2", "latest", None),
    ],
)
def test_versions_lead_upwards_and_out_of_2_by_its_last_series(old: str, new: str, path: list[str] | None) -> None:
    assert upgrade_path.upgrade_path(old, new) == path


@pytest.mark.parametrize(("old", "new"), [("3.3.2", "3.3.2"), ("3.2.2", "3.3.2"), ("2.11.2", "3.3.2")])
def test_one_step_is_no_problem(old: str, new: str) -> None:
    assert upgrade_path.upgrade_problem(old, new) == ""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("2.10.5", "3.3.2", ["the way is 2.10.5 -> 2.11.2 -> 3.3.2", "set airflow_version to 2.11.2 first"]),
        ("3.3.2", "3.2.2", ["there is Airflow 3.3.2 already", "set airflow_version to 3.3.2 or above"]),
        ("1.10.15", "2.11.2", ["no way from it is known", "set airflow_version to 1.10.15"]),
    ],
)
def test_problem_names_variable_way_and_remedy(old: str, new: str, words: list[str]) -> None:
    problem = upgrade_path.upgrade_problem(old, new)
    assert problem.startswith(f"variable airflow_version is {new}, but there is Airflow {old}")
    for word in words:
        assert word in problem


def test_schema_tells_the_version_that_has_made_it(tmp_path: Path) -> None:
    for version, head in (("2.11.2", "aaa"), ("3.3.2", "bbb")):
        document = {"airflow": version, "heads": {"alembic_version": head, "alembic_version_fab": "x"}}
        (tmp_path / f"{version}.json").write_text(json.dumps(document))
    files = [str(path) for path in tmp_path.iterdir()]
    assert upgrade_path.schema_version({"alembic_version": "aaa"}, files) == "2.11.2"
    assert upgrade_path.schema_version({"alembic_version": "bbb", "alembic_version_fab": "y"}, files) == "3.3.2"
    assert upgrade_path.schema_version({"alembic_version": "ccc"}, files) == ""
    assert upgrade_path.schema_version({}, files) == ""
