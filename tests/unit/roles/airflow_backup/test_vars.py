"""What the variables of backups come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROLES = Path(__file__).parents[4] / "roles"
PATHS = [
    ROLES / "airflow/defaults/main.yml",
    ROLES / "airflow/vars/main/cluster.yml",
    ROLES / "airflow_backup/defaults/main.yml",
    ROLES / "airflow_backup/vars/main.yml",
]


@pytest.mark.parametrize(
    ("groups", "url"),
    [
        ({"postgresql": ["d1"]}, "postgresql+psycopg2://airflow_restore_test:t%40@d1:5432/airflow_restore_test"),
        (
            {"mysql": ["d1"]},
            "mysql+mysqldb://airflow_restore_test:t%40@d1:3306/airflow_restore_test?charset=utf8mb4&ssl_mode=REQUIRED",
        ),
        ({}, ""),
    ],
)
def test_scratch_database_is_on_our_server(evaluate: Callable[..., Any], groups: dict[str, list[str]], url: str) -> None:
    variables = {"groups": groups, "hostvars": {"d1": {}}, "airflow_backup_test_password": "t@"}
    assert evaluate("__airflow_backup_scratch_url", PATHS, variables) == url
    assert evaluate("__airflow_backup_scratch_url", PATHS, {**variables, "airflow_backup_test_url": "mine"}) == "mine"
