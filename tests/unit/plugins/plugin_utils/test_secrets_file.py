from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible_collections.airfield.metal.plugins.plugin_utils import secrets_file

OLD = "# mine\nairflow_jwt_secret:   'kept'  # to the letter\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "group_vars/all/secrets.yml"


@pytest.fixture
def vault() -> DataLoader:
    """A loader with a vault password."""
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(b"open sesame"))])
    return loader


def test_file_that_is_not_there_is_empty(path: Path) -> None:
    assert secrets_file.read(DataLoader(), path) == ""


def test_what_was_written_is_read_and_for_the_owner_alone(path: Path) -> None:
    secrets_file.write(DataLoader(), path, OLD)
    assert path.read_text() == secrets_file.read(DataLoader(), path) == OLD
    assert path.stat().st_mode & 0o7777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_file_is_encrypted_where_there_is_a_vault_password(path: Path, vault: DataLoader) -> None:
    secrets_file.write(vault, path, OLD)
    assert path.read_text().startswith("$ANSIBLE_VAULT;")
    assert secrets_file.read(vault, path) == OLD


def test_link_to_the_file_stays_one(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere.yml")
    secrets_file.write(DataLoader(), path, OLD)
    assert path.is_symlink()
    assert (tmp_path / "elsewhere.yml").read_text() == OLD


def test_failed_write_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(OLD)

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        secrets_file.write(DataLoader(), path, "new")
    assert [(entry.name, entry.read_text()) for entry in path.parent.iterdir()] == [(path.name, OLD)]


def test_content_is_on_the_disk_before_the_file_has_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that a power cut takes away takes with it what it has encrypted."""
    calls: list[str] = []
    replace = os.replace

    def note(what: str, *arguments: Any) -> None:
        calls.append(what)
        if what == "replace":
            replace(*arguments)

    monkeypatch.setattr(os, "fsync", lambda number: note("folder" if os.path.isdir(f"/dev/fd/{number}") else "file"))
    monkeypatch.setattr(os, "replace", lambda *arguments: note("replace", *arguments))
    secrets_file.write(DataLoader(), path, OLD)
    assert calls == ["file", "replace", "folder"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: old\n", "a: 'new'\n"),
        ("---\n# x\na:   'old'  # y\nb: 1\n", "---\n# x\na:   'new'  # y\nb: 1\n"),
        ('b: {a: old}\na: "old"', "b: {a: old}\na: 'new'"),
        ("{b: 1, a: old, c: 2}\n", "{b: 1, a: 'new', c: 2}\n"),
        ("a:\n  old\nb: 1\n", "a:\n  'new'\nb: 1\n"),
        ("b: |\n  a: old\na: old\n", "b: |\n  a: old\na: 'new'\n"),
        (
            "b: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\na: old\n",
            "b: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\na: 'new'\n",
        ),
    ],
)
def test_only_the_value_changes(before: str, after: str) -> None:
    assert secrets_file.replace_value(before, "a", "new") == after


@pytest.mark.parametrize("value", ["new,old", "it's", "a: b # c", "{{ x }}"])
def test_value_is_read_back_as_it_was(value: str) -> None:
    text = secrets_file.replace_value("a: old\nb: 1\n", "a", value)
    assert yaml.safe_load(text) == {"a": value, "b": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a stands 0 times"),
        ("- a\n", "a stands 0 times"),
        ("b: {a: old}\n", "a stands 0 times"),
        ("a: old\na: older\n", "a stands 2 times"),
        ("a: {b: old}\n", "a is not a plain text"),
        ("a: 1\n", "a is not a plain text"),
        ("a: |\n  old\nb: 1\n", "a is not a plain text"),
        ("a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n", "a is not a plain text"),
        ("b: &x old\na: *x\n", "a is not a plain text"),
        ("a: &x old\nb: *x\n", "a is not a plain text"),
    ],
)
def test_value_that_cannot_be_replaced_alone_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        secrets_file.replace_value(text, "a", "new")
