from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible_collections.airfield.metal.plugins.action import airflow_secrets

Make = Callable[..., Any]
KINDS = {"airflow_fernet_key": "fernet", "airflow_jwt_secret": "jwt", "airflow_broker_password": "password"}
OLD = "# mine\nairflow_jwt_secret:   'kept'  # to the letter\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "group_vars/all/secrets.yml"


@pytest.fixture
def run(make_action: Make, path: Path) -> Callable[..., dict[str, Any]]:
    """Run the action with these variables of the host."""

    def run(check: bool = False, loader: DataLoader | None = None, **variables: Any) -> dict[str, Any]:
        action = make_action(airflow_secrets, {"path": str(path), "secrets": KINDS}, check, loader)
        result: dict[str, Any] = action.run(task_vars=variables)
        return result

    return run


def test_missing_secrets_are_written_for_the_owner_alone(run: Callable[..., Any], path: Path) -> None:
    result = run()
    assert result["changed"]
    assert result["names"] == sorted(KINDS)
    assert yaml.safe_load(path.read_text()) == result["secrets"]
    assert path.stat().st_mode & 0o7777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_second_run_changes_nothing(run: Callable[..., Any], path: Path) -> None:
    variables = run()["secrets"]
    before = path.read_bytes()
    result = run(**variables)
    assert (result["changed"], result["secrets"]) == (False, {})
    assert path.read_bytes() == before


@pytest.mark.parametrize("old", [OLD, OLD.rstrip("\n")])
def test_only_what_is_missing_is_added_and_no_line_changes(run: Callable[..., Any], path: Path, old: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(old)
    path.chmod(0o644)
    result = run(airflow_jwt_secret="kept")
    assert result["names"] == ["airflow_broker_password", "airflow_fernet_key"]
    assert path.read_text().startswith(OLD)
    assert yaml.safe_load(path.read_text()) == {"airflow_jwt_secret": "kept", **result["secrets"]}
    assert path.stat().st_mode & 0o7777 == 0o600


def test_secret_in_a_file_that_ansible_does_not_load_is_not_replaced(run: Callable[..., Any], path: Path) -> None:
    """Another Fernet key would make all that is encrypted with the first unreadable."""
    path.parent.mkdir(parents=True)
    path.write_text(OLD)
    with pytest.raises(AnsibleActionFail, match="airflow_jwt_secret"):
        run()
    assert path.read_text() == OLD


def test_what_is_known_from_elsewhere_is_added_as_it_is(make_action: Make, path: Path) -> None:
    given = {"airflow_fernet_key": "new,old", "airflow_jwt_secret": "of the archive"}
    arguments = {"path": str(path), "secrets": dict.fromkeys(given, "password"), "given": given}
    result = make_action(airflow_secrets, arguments).run(task_vars={"airflow_jwt_secret": "mine"})
    assert result["secrets"] == yaml.safe_load(path.read_text()) == {"airflow_fernet_key": "new,old"}


def test_check_mode_returns_values_and_writes_nothing(run: Callable[..., Any], path: Path) -> None:
    result = run(check=True)
    assert result["changed"]
    assert set(result["secrets"]) == set(KINDS)
    assert not path.parent.exists()


@pytest.fixture
def vault() -> DataLoader:
    """A loader with a vault password."""
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(b"open sesame"))])
    return loader


def test_file_is_encrypted_where_there_is_a_vault_password(run: Callable[..., Any], path: Path, vault: DataLoader) -> None:
    first = run(loader=vault, airflow_jwt_secret="x" * 64)["secrets"]
    assert path.read_text().startswith("$ANSIBLE_VAULT;")
    second = run(loader=vault, **first)["secrets"]
    assert path.read_text().startswith("$ANSIBLE_VAULT;")
    assert set(second) == {"airflow_jwt_secret"}
    assert vault.load_from_file(str(path), cache="none") == {**first, **second}


@pytest.mark.parametrize(("folder", "sibling"), [("all", "all.yml"), ("all", "all.yaml"), ("a.b", "a.b.yml")])
def test_file_that_the_folder_would_hide_is_named(make_action: Make, tmp_path: Path, folder: str, sibling: str) -> None:
    (tmp_path / sibling).write_text("{}\n")
    action = make_action(airflow_secrets, {"path": str(tmp_path / folder / "secrets.yml"), "secrets": KINDS})
    with pytest.raises(AnsibleActionFail) as error:
        action.run(task_vars={})
    assert f"Remedy: move {tmp_path / sibling} to {tmp_path / folder}/main.yml" in str(error.value)
    assert not (tmp_path / folder).exists()


def test_ansible_reads_no_file_beside_a_folder_of_its_name(tmp_path: Path) -> None:
    """Why the file is refused."""
    (tmp_path / "all").mkdir()
    (tmp_path / "all/secrets.yml").write_text("a: 1\n")
    (tmp_path / "all.yml").write_text("b: 2\n")
    assert DataLoader().find_vars_files(str(tmp_path), "all") == [str(tmp_path / "all/secrets.yml")]
