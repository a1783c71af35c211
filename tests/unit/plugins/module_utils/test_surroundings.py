from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.airfield.metal.plugins.module_utils.surroundings import content_hash, numbers_of, surroundings

ME = pwd.getpwuid(os.getuid()).pw_name


def test_numbers_are_those_with_which_a_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [4, gid, 3])
    account = pwd.getpwnam(ME)
    assert numbers_of(ME) == [account.pw_uid, account.pw_gid, *sorted([3, 4, account.pw_gid])]
    assert numbers_of("no-such-user") == []


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "timetables").mkdir()
    (tmp_path / "timetables/ours.py").write_text("a = 1\n")
    (tmp_path / "airflow_local_settings.py").write_text("b = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "timetables/ours.py").write_text("a = 2\n"),
        lambda root: (root / "timetables/ours.py").unlink(),
        lambda root: (root / "timetables/ours.py").rename(root / "timetables/other.py"),
        lambda root: (root / "new.py").write_text(""),
        lambda root: (root / "dead.py").symlink_to("/nonexistent"),
    ],
    ids=["content", "removed", "renamed", "added", "dead link"],
)
def test_files_of_the_operators_count(plugins: Path, change: Callable[[Path], object]) -> None:
    before = content_hash(str(plugins))
    change(plugins)
    assert content_hash(str(plugins)) != before


@pytest.mark.parametrize("name", ["airfield_bundle.py", "__pycache__/x.pyc", "timetables/__pycache__/ours.pyc", ".airfield-x1"])
def test_files_of_our_own_and_of_python_do_not_count(plugins: Path, name: str) -> None:
    before = content_hash(str(plugins))
    (plugins / name).parent.mkdir(exist_ok=True)
    (plugins / name).write_text("x")
    assert content_hash(str(plugins)) == before


def test_times_do_not_count(plugins: Path) -> None:
    before = content_hash(str(plugins))
    os.utime(plugins / "timetables/ours.py", (1, 1))
    assert content_hash(str(plugins)) == before


def test_empty_folder_is_like_none(tmp_path: Path) -> None:
    assert content_hash(str(tmp_path)) == content_hash(str(tmp_path / "missing")) == ""


def test_single_file_counts(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("a")
    before = content_hash(str(tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").write_text("b")
    assert content_hash(str(tmp_path / "ca.pem")) not in ("", before)


def test_surroundings_have_account_files_and_time_zone(tmp_path: Path) -> None:
    (tmp_path / "zone").write_text("")
    (tmp_path / "localtime").symlink_to(tmp_path / "zone")
    found = surroundings(ME, ["", str(tmp_path / "missing")], str(tmp_path / "localtime"))
    assert found == {
        "account": numbers_of(ME),
        "reads": {str(tmp_path / "missing"): ""},
        "timezone": str(tmp_path / "zone"),
    }
