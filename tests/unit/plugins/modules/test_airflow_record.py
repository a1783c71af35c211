from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import files
from ansible_collections.airfield.metal.plugins.modules import airflow_record

RunModule = Callable[..., dict[str, Any]]
CONTENT = {"from": "3.2.2", "to": "3.3.2", "backup": {}, "state": "stopped"}


def test_content_is_kept_for_root_alone(run_module: RunModule, tmp_path: Path) -> None:
    path = tmp_path / "lib/upgrade.json"
    assert run_module(airflow_record, path=str(path), content=CONTENT)["changed"]
    assert json.loads(path.read_text()) == CONTENT
    assert path.stat().st_mode & 0o7777 == 0o600
    result = run_module(airflow_record, path=str(path), content=CONTENT)
    assert (result["changed"], result["diff"]) == (False, [])


def test_spoilt_record_is_replaced(run_module: RunModule, tmp_path: Path, spoilt: bytes) -> None:
    path = tmp_path / "upgrade.json"
    path.write_bytes(spoilt)
    assert run_module(airflow_record, path=str(path), content=CONTENT)["changed"]
    assert json.loads(path.read_text()) == CONTENT


def test_check_mode_shows_it_and_writes_nothing(run_module: RunModule, tmp_path: Path) -> None:
    path = tmp_path / "upgrade.json"
    result = run_module(airflow_record, path=str(path), content=CONTENT, check=True)
    assert (result["changed"], path.exists()) == (True, False)
    assert '"state": "stopped"' in result["diff"][0]["after"]


def test_it_is_on_the_disk_at_the_end(run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "sync", synced.append)
    run_module(airflow_record, path=str(tmp_path / "upgrade.json"), content=CONTENT)
    assert len(synced) == 2
    assert synced[-1] == str(tmp_path)
