from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import files

Make = Callable[..., Any]
Tree = Callable[[Path], Any]


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture(params=[0o022, 0o077], ids=["umask 022", "umask 077"])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_missing_file_has_no_text(tmp_path: Path) -> None:
    assert files.read_text(str(tmp_path / "missing")) is None


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize("mode", ["0600", "0644"])
def test_new_file_has_its_content_and_mode(make_module: Make, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    assert files.ensure_file(make_module(), str(path), "text\n", mode=mode)
    assert (path.read_text(), mode_of(path)) == ("text\n", int(mode, 8))


@pytest.mark.usefixtures("_umask")
def test_folders_above_a_new_file_are_open_to_other_users(make_module: Make, tmp_path: Path) -> None:
    files.ensure_file(make_module(), str(tmp_path / "a/b/file"), "text\n")
    assert [mode_of(tmp_path / "a"), mode_of(tmp_path / "a/b")] == [0o755, 0o755]


@pytest.mark.usefixtures("_umask")
def test_new_folder_and_those_above_are_open_to_other_users(make_module: Make, tmp_path: Path) -> None:
    assert files.ensure_folder(make_module(), str(tmp_path / "a/b"))
    assert [mode_of(tmp_path / "a"), mode_of(tmp_path / "a/b")] == [0o755, 0o755]


@pytest.mark.parametrize(("content", "mode"), [("other\n", 0o600), ("text\n", 0o644), ("", 0o600)])
def test_differing_file_is_changed_once(make_module: Make, tree: Tree, tmp_path: Path, content: str, mode: int) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    path.chmod(mode)
    assert files.ensure_file(make_module(), str(path), "text\n", mode="0600")
    assert (path.read_text(), mode_of(path)) == ("text\n", 0o600)
    before = tree(tmp_path)
    assert not files.ensure_file(make_module(), str(path), "text\n", mode="0600")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("text", ["", "a\r\nb\r\n", "a\rb", "é\n", "no end of line"])
def test_second_run_changes_nothing(make_module: Make, tmp_path: Path, text: str) -> None:
    path = str(tmp_path / "file")
    assert files.ensure_file(make_module(), path, text)
    assert not files.ensure_file(make_module(), path, text)


def test_differing_folder_is_changed_once(make_module: Make, tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir(mode=0o700)
    assert files.ensure_folder(make_module(), str(path))
    assert mode_of(path) == 0o755
    assert not files.ensure_folder(make_module(), str(path))


@pytest.mark.parametrize("name", ["same", "other", "mode", "missing"])
def test_check_mode_says_what_a_run_does_and_writes_nothing(make_module: Make, tree: Tree, tmp_path: Path, name: str) -> None:
    for present, content, mode in (("same", "text\n", 0o600), ("other", "", 0o600), ("mode", "text\n", 0o644)):
        (tmp_path / present).write_text(content)
        (tmp_path / present).chmod(mode)
    before = tree(tmp_path)
    told = files.ensure_file(make_module(check=True), str(tmp_path / name), "text\n", mode="0600")
    folder = files.ensure_folder(make_module(check=True), str(tmp_path / "new/folder"))
    assert tree(tmp_path) == before
    assert told == files.ensure_file(make_module(), str(tmp_path / name), "text\n", mode="0600")
    assert folder == files.ensure_folder(make_module(), str(tmp_path / "new/folder"))


def test_secret_is_never_readable_by_others_while_it_is_written(
    make_module: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    original = files.set_attributes

    def look(module: Any, path: str, *rest: Any) -> Any:
        modes.append(mode_of(Path(path)))
        return original(module, path, *rest)

    monkeypatch.setattr(files, "set_attributes", look)
    files.ensure_file(make_module(), str(tmp_path / "secret"), "hunter2\n", mode="0640")
    assert modes == [0o600]


def test_what_a_killed_run_left_is_removed(make_module: Make, tmp_path: Path) -> None:
    for name in (".airfield-x1", ".other"):
        (tmp_path / name).write_text("half")
    files.ensure_file(make_module(), str(tmp_path / "file"), "text\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other", "file"]


def test_diff_is_empty_without_a_difference() -> None:
    assert files.text_diff("/f", "a\n", "a\n") == []
    assert files.text_diff("/f", None, "a\n") == [{"before_header": "/f", "after_header": "/f", "before": "", "after": "a\n"}]


def test_json_that_is_none_is_told_and_stops_nobody(tmp_path: Path, spoilt: bytes) -> None:
    path = tmp_path / "file.json"
    assert files.read_json(str(path), ["name"]) == ({}, "")
    path.write_bytes(spoilt)
    assert files.read_json(str(path), ["name"]) == ({}, f"{path} is broken.")
    path.write_text('{"name": [1]}')
    assert files.read_json(str(path), ["name"]) == ({"name": [1]}, "")
    path.unlink()
    path.mkdir()
    assert files.read_json(str(path), ["name"]) == ({}, f"{path} cannot be read (Is a directory).")


def test_file_that_is_no_text_is_replaced(make_module: Make, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    assert files.ensure_file(make_module(), str(path), "text\n")
    assert path.read_text() == "text\n"
    assert not files.ensure_file(make_module(), str(path), "text\n")


def test_file_is_on_the_disk_before_it_has_its_name(make_module: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str]] = []
    replace, fsync = os.replace, os.fsync

    def note_sync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        done.append(("synced", path.read_text() if path.is_file() else path.name))
        fsync(handle)

    def note_name(old: str, new: str) -> None:
        done.append(("named", Path(new).name))
        replace(old, new)

    monkeypatch.setattr(os, "replace", note_name)
    monkeypatch.setattr(os, "fsync", note_sync)
    files.ensure_file(make_module(), str(tmp_path / "file"), "text\n")
    assert done == [("synced", "text\n"), ("named", "file"), ("synced", tmp_path.name)]
    done.clear()
    files.ensure_file(make_module(), str(tmp_path / "file"), "text\n")
    assert done == []


MARKED = "# Managed by Airfield.\na = 1\n"


def test_what_others_wrote_is_kept_beside_what_replaces_it(make_module: Callable[..., Any], tmp_path: Path) -> None:
    path, copy = tmp_path / "a.conf", tmp_path / "a.conf.before-airfield"
    path.write_text("theirs\n")
    path.chmod(0o640)
    files.ensure_file(make_module(), str(path), MARKED)
    assert (path.read_text(), copy.read_text()) == (MARKED, "theirs\n")
    assert copy.stat().st_mode & 0o777 == 0o640
    path.write_text("by hand\n")
    files.ensure_file(make_module(), str(path), MARKED)
    assert copy.read_text() == "theirs\n"


@pytest.mark.parametrize(("before", "after"), [(MARKED, MARKED + "b = 2\n"), ("theirs\n", "no mark\n"), (None, MARKED)])
def test_nothing_else_is_kept(make_module: Callable[..., Any], tmp_path: Path, before: str | None, after: str) -> None:
    path = tmp_path / "a.conf"
    if before is not None:
        path.write_text(before)
    files.ensure_file(make_module(), str(path), after)
    assert [file.name for file in tmp_path.iterdir()] == ["a.conf"]
