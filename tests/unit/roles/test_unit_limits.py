"""Every service that Airfield writes a unit or a drop-in for may open more files than systemd's 1024."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
TEXTS = sorted([*ROLES.glob("*/templates/*.service.j2"), *ROLES.glob("*/files/*.conf"), *ROLES.glob("*/files/*.service")])
# What it puts into all units of components.
BASE = "__airflow_unit_base"


def test_there_are_units() -> None:
    assert {"airflow.service.j2", "redis-server.conf", "seaweedfs-s3.service.j2"} <= {path.name for path in TEXTS}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_unit_has_a_limit_of_files(path: Path) -> None:
    text = path.read_text()
    if BASE in text:
        text += f"\nLimitNOFILE={yaml.safe_load((ROLES / 'airflow/vars/main/unit.yml').read_text())[BASE]['LimitNOFILE']}"
    assert "\nLimitNOFILE=65536" in text
