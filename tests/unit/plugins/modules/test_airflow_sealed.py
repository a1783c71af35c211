from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.modules import airflow_sealed

RunModule = Callable[..., dict[str, Any]]
SECRETS = {"airflow_fernet_key": "a-key", "airflow_jwt_secret": "a-secret"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib/secrets.age"


@pytest.fixture
def seal(run_module: RunModule, path: Path, commands: Any) -> Callable[..., dict[str, Any]]:
    """Run the module, with an age that only writes how often it has run."""

    def age(words: list[str]) -> str | tuple[int, str, str]:
        if "--recipient=broken" in words:
            return 1, "", "age: error: malformed recipient"
        (output,) = (word.partition("=")[2] for word in words if word.startswith("--output="))
        Path(output).write_text(f"age-encryption.org/v1\nsealed {len(commands.lines)}")
        return ""

    commands.answer = age
    return lambda check=False, **other: run_module(
        airflow_sealed, check=check, **{"path": str(path), "recipients": ["age1x"], "secrets": SECRETS, **other}
    )


def test_secrets_go_by_standard_input(seal: Callable[..., Any], commands: Any, path: Path) -> None:
    result = seal()
    assert (result["changed"], result["names"]) == (True, sorted(SECRETS))
    (line,) = commands.lines
    assert line == f"age --encrypt --recipient=age1x --output={path}.new"
    assert json.loads(commands.inputs[0]) == SECRETS
    assert path.read_text().splitlines()[1] == "sealed 1"
    assert (path.with_name("secrets.age.sha256").stat().st_mode & 0o7777) == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == ["secrets.age", "secrets.age.sha256"]


def test_same_again_changes_nothing(seal: Callable[..., Any], commands: Any, path: Path) -> None:
    seal()
    assert not seal()["changed"]
    assert len(commands.lines) == 1
    assert path.read_text().splitlines()[1] == "sealed 1"


@pytest.mark.parametrize("other", [{"secrets": {**SECRETS, "airflow_jwt_secret": "b"}}, {"recipients": ["age1y"]}])
def test_other_secrets_or_keys_are_sealed_anew(seal: Callable[..., Any], path: Path, other: dict[str, Any]) -> None:
    seal()
    assert seal(**other)["changed"]
    assert path.read_text().splitlines()[1] == "sealed 2"


def test_lost_file_is_made_again(seal: Callable[..., Any], path: Path) -> None:
    seal()
    path.unlink()
    assert seal()["changed"]
    assert path.exists()


def test_spoilt_file_is_made_again(seal: Callable[..., Any], path: Path, spoilt: bytes) -> None:
    seal()
    path.write_bytes(spoilt)
    assert seal()["changed"]
    assert path.read_text().splitlines()[1] == "sealed 2"
    assert not seal()["changed"]


def test_check_mode_runs_nothing(seal: Callable[..., Any], commands: Any, path: Path) -> None:
    assert seal(check=True)["changed"]
    assert (commands.lines, path.parent.exists()) == ([], False)


def test_wrong_key_leaves_what_is_there(seal: Callable[..., Any], path: Path) -> None:
    seal()
    result = seal(recipients=["broken"])
    assert result["failed"]
    assert "airflow_backup_public_key" in result["msg"]
    assert path.read_text().splitlines()[1] == "sealed 1"
    assert not seal()["changed"]
