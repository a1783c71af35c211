from __future__ import annotations

import json
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import files
from ansible_collections.airfield.metal.plugins.modules import airflow_release

RunModule = Callable[..., dict[str, Any]]
Tree = Callable[[Path], Any]
PIN = "uv==0.9.0 \\\n    --hash=sha256:aaaa \\\n    --hash=sha256:bbbb"
LOCK = f"airflow==3.3.2 \\\n    --hash=sha256:cccc\n{PIN}\nuvicorn==0.30 \\\n    --hash=sha256:dddd\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Directory of the releases."""
    return tmp_path / "airflow"


@pytest.fixture(autouse=True)
def _proc(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the only one: reading the maps of all others takes long on a busy machine."""
    proc = tmp_path_factory.mktemp("proc")
    (proc / str(os.getpid())).symlink_to("/proc/self")
    monkeypatch.setattr(airflow_release.releases_in_use, "__defaults__", (str(proc),))


def make_release(base: Path, name: str, age: int = 0) -> Path:
    """A complete release, by its age in days."""
    path = base / "releases" / name
    (path / "bin").mkdir(parents=True)
    (path / "bin/airflow").write_text(name)
    mark = path / ".complete"
    mark.touch()
    os.utime(mark, (10**9 - age * 86400,) * 2)
    return path


# Building --------------------------------------------------------------------------------------------------------------


class Builder:
    """What pip, uv and Airflow do in a build, as far as the module depends on it."""

    def __init__(self, commands: Any, release: Path) -> None:
        self.commands = commands
        self.release = release
        self.failing: str | None = None
        self.pin = ""
        commands.answer = self.answer

    def answer(self, words: list[str]) -> str | tuple[int, str, str]:
        line = " ".join(words)
        if self.failing and self.failing in line:
            return 1, "", f"{self.failing} failed"
        if "--requirement" in words:
            self.pin = Path(words[-1]).read_text()
        if "/bin/uv venv " in line:
            self.release.mkdir(parents=True, mode=0o700)
            (self.release / ".lock").touch()
        if " freeze " in line:
            return "apache-airflow==3.3.2\n"
        if words[0] == str(self.release / "bin/python"):
            return '{"airflow": "3.3.2"}\n'
        return ""


@pytest.fixture
def builder(commands: Any, base: Path) -> Builder:
    return Builder(commands, base / "releases/3.3.2-a")


@pytest.fixture
def task(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of a usual build."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "lock").write_text(LOCK)
    return {
        "id": "3.3.2-a",
        "state": "built",
        "base": str(base),
        "lock": str(tmp_path / "lock"),
        "requirements": ["apache-airflow[celery]==3.3.2"],
        "describe": "/root/describe.py",
        "environment": {"UV_INDEX_URL": "https://u:hunter2@index"},
    }


def test_release_is_built_once(run_module: RunModule, builder: Builder, task: dict[str, Any]) -> None:
    result = run_module(airflow_release, **task)
    assert (result["changed"], result["path"]) == (True, str(builder.release))
    assert {path.name: path.read_text() for path in builder.release.iterdir()} == {
        ".complete": "",
        "airfield.json": '{"airflow": "3.3.2"}\n',
        "requirements.txt": "apache-airflow==3.3.2\n",
    }
    assert builder.release.stat().st_mode & 0o7777 == 0o755
    steps = ["-m pip", "uv venv", "uv pip install", "uv pip check", "uv pip freeze"]
    for line, step in zip(builder.commands.lines, [*steps, "/root/describe.py"], strict=True):
        assert step in line
    builder.commands.lines.clear()
    assert not run_module(airflow_release, **task)["changed"]
    assert builder.commands.lines == []


def test_build_is_under_the_lock_and_uv_is_pinned_by_hash(
    run_module: RunModule, builder: Builder, task: dict[str, Any]
) -> None:
    run_module(airflow_release, **task)
    (install,) = [line for line in builder.commands.lines if "uv pip install" in line]
    lock = task["lock"]
    assert install.endswith(f" --constraint {lock} --build-constraint {lock} apache-airflow[celery]==3.3.2")
    (pip,) = [line for line in builder.commands.lines if "-m pip " in line]
    assert "--require-hashes" in pip
    assert builder.pin.strip() == PIN


def test_caller_sets_the_environment_and_no_secret_is_shown(
    run_module: RunModule, builder: Builder, task: dict[str, Any]
) -> None:
    result = run_module(airflow_release, **task)
    assert {variables["UV_INDEX_URL"] for variables in builder.commands.environments} == {"https://u:hunter2@index"}
    assert "hunter2" not in json.dumps(result) + str(builder.commands.lines)


@pytest.mark.parametrize("cache", ["/var/cache/uv", None])
def test_nothing_is_left_but_the_cache_that_was_asked_for(
    run_module: RunModule, builder: Builder, task: dict[str, Any], tmp_path: Path, cache: str | None
) -> None:
    run_module(airflow_release, **task, cache=cache)
    caches = {variables.get("UV_CACHE_DIR") for variables in builder.commands.environments} - {None}
    (used,) = caches
    assert used == cache or (cache is None and used.startswith(str(tmp_path / "tmp")))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_files_are_on_the_disk_before_a_built_release_is_complete(
    run_module: RunModule, builder: Builder, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "sync", lambda: seen.append(sorted(path.name for path in builder.release.iterdir())))
    run_module(airflow_release, **task)
    assert seen == [["airfield.json", "requirements.txt"]]


def test_killed_build_is_built_again(run_module: RunModule, builder: Builder, task: dict[str, Any]) -> None:
    builder.release.mkdir(parents=True)
    (builder.release / "half").touch()
    assert run_module(airflow_release, **task)["changed"]
    assert (builder.release / ".complete").exists()
    assert not (builder.release / "half").exists()


@pytest.mark.parametrize("step", ["uv pip install", "uv pip check", "/root/describe.py"])
def test_failed_build_is_not_complete_and_is_built_again(
    run_module: RunModule, builder: Builder, task: dict[str, Any], tmp_path: Path, step: str
) -> None:
    builder.failing = step
    result = run_module(airflow_release, **task)
    assert (result["failed"], result["msg"]) == (True, f"{step} failed")
    assert not (builder.release / ".complete").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    builder.failing = None
    assert run_module(airflow_release, **task)["changed"]
    assert (builder.release / ".complete").exists()


def test_check_mode_builds_nothing(
    run_module: RunModule, builder: Builder, task: dict[str, Any], tmp_path: Path, tree: Tree
) -> None:
    before = tree(tmp_path)
    assert run_module(airflow_release, check=True, **task)["changed"]
    assert tree(tmp_path) == before
    assert builder.commands.lines == []
    run_module(airflow_release, **task)
    assert not run_module(airflow_release, check=True, **task)["changed"]


def test_lock_without_uv_is_named(run_module: RunModule, builder: Builder, task: dict[str, Any]) -> None:
    Path(task["lock"]).write_text(LOCK.replace(PIN, ""))
    result = run_module(airflow_release, **task)
    assert result["failed"]
    assert task["lock"] in result["msg"]
    assert "uv" in result["msg"].replace(task["lock"], "")


@pytest.mark.parametrize(
    ("state", "missing"), [("built", "lock, requirements, describe"), ("packed", "archive"), ("unpacked", "archive")]
)
def test_argument_that_a_state_needs_is_named(run_module: RunModule, base: Path, state: str, missing: str) -> None:
    result = run_module(airflow_release, id="a", state=state, base=str(base))
    assert result["msg"] == f"state is {state} but all of the following are missing: {missing}"


# Packing and unpacking -------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "transit/release.deb"


def ship(run_module: RunModule, state: str, base: Path, archive: Path, check: bool = False) -> dict[str, Any]:
    return run_module(airflow_release, check=check, id="3.3.2-a", state=state, base=str(base), archive=str(archive))


def test_unpacked_release_has_the_same_files(
    run_module: RunModule, base: Path, archive: Path, tmp_path: Path, tree: Tree
) -> None:
    built = make_release(base, "3.3.2-a")
    (built / "bin/python").symlink_to("/usr/bin/python3")
    assert ship(run_module, "packed", base, archive)["changed"]
    assert archive.stat().st_mode & 0o7777 == 0o644
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    other = tmp_path / "other"
    assert ship(run_module, "unpacked", other, archive)["changed"]
    assert not archive.exists()
    unpacked = tree(other / "releases/3.3.2-a")
    assert {name: (row[0], row[2]) for name, row in unpacked.items()} == {
        name: (row[0], row[2]) for name, row in tree(built).items()
    }


def test_release_is_not_there_before_all_of_it_is_unpacked(
    run_module: RunModule, base: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(base, "3.3.2-a")
    ship(run_module, "packed", base, archive)
    releases = tmp_path / "other/releases"
    seen: list[list[str]] = []
    rename = os.rename

    def look_and_rename(old: str, new: str) -> None:
        seen.append([path.name for path in releases.iterdir()])
        rename(old, new)

    monkeypatch.setattr(os, "rename", look_and_rename)
    ship(run_module, "unpacked", tmp_path / "other", archive)
    assert seen == [[".partial"]]
    assert [path.name for path in releases.iterdir()] == ["3.3.2-a"]


@pytest.mark.parametrize("part", [0, 100, 0.5, 0.9])
def test_archive_that_was_cut_off_is_told_with_its_remedy(
    run_module: RunModule, base: Path, archive: Path, tmp_path: Path, part: float
) -> None:
    make_release(base, "3.3.2-a")
    ship(run_module, "packed", base, archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(part * len(whole)) if 0 < part < 1 else int(part)])
    other = tmp_path / "other"
    result = ship(run_module, "unpacked", other, archive)
    assert "could not be unpacked" in result["msg"]
    assert "remove 3.3.2-a.deb from airflow_release_cache on the controller" in result["msg"]
    assert not (other / "releases/3.3.2-a").exists()


def test_files_are_on_the_disk_before_the_release_has_its_name(
    run_module: RunModule, base: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rename, sync = os.rename, files.sync

    def note_name(old: str, new: str) -> None:
        done.append(f"named {Path(new).name}")
        rename(old, new)

    def note_sync(path: str) -> None:
        done.append(f"synced {Path(path).name}")
        sync(path)

    monkeypatch.setattr(os, "rename", note_name)
    monkeypatch.setattr(os, "sync", lambda: done.append("all synced"))
    monkeypatch.setattr(airflow_release, "sync", note_sync)
    make_release(base, "3.3.2-a")
    ship(run_module, "packed", base, archive)
    ship(run_module, "unpacked", tmp_path / "other", archive)
    assert done == ["all synced", "named 3.3.2-a", "synced 3.3.2-a", "synced releases"]
    done.clear()
    switch(run_module, tmp_path / "other", "3.3.2-a")
    assert done == ["named current", "synced other"]


def test_packed_release_is_not_packed_again(run_module: RunModule, base: Path, archive: Path, tree: Tree) -> None:
    make_release(base, "3.3.2-a")
    ship(run_module, "packed", base, archive)
    before = tree(archive.parent)
    assert not ship(run_module, "packed", base, archive)["changed"]
    assert tree(archive.parent) == before


def test_killed_packing_is_packed_again(run_module: RunModule, base: Path, archive: Path, tmp_path: Path) -> None:
    make_release(base, "3.3.2-a")
    archive.parent.mkdir()
    Path(f"{archive}.partial").write_text("half")
    assert ship(run_module, "packed", base, archive)["changed"]
    assert ship(run_module, "unpacked", tmp_path / "other", archive)["changed"]


def test_archive_of_a_release_that_is_not_complete_does_not_unpack_as_complete(
    run_module: RunModule, base: Path, archive: Path
) -> None:
    archive.parent.mkdir()
    archive.write_text("no archive")
    result = ship(run_module, "unpacked", base, archive)
    assert result["failed"]
    assert "remove 3.3.2-a.deb from airflow_release_cache on the controller" in result["msg"]
    assert not (base / "releases/3.3.2-a/.complete").exists()


def test_killed_unpacking_is_unpacked_again(run_module: RunModule, base: Path, archive: Path, tmp_path: Path) -> None:
    make_release(base, "3.3.2-a")
    ship(run_module, "packed", base, archive)
    half = tmp_path / "other/releases/3.3.2-a"
    for folder in (half, half.with_name(".partial")):
        folder.mkdir(parents=True)
        (folder / "half").touch()
    assert ship(run_module, "unpacked", tmp_path / "other", archive)["changed"]
    assert not (half / "half").exists()
    assert (half / "bin/airflow").exists()


def test_complete_release_is_not_unpacked_again(run_module: RunModule, base: Path, archive: Path) -> None:
    make_release(base, "3.3.2-a")
    assert not ship(run_module, "unpacked", base, archive)["changed"]


def test_check_mode_neither_packs_nor_unpacks(
    run_module: RunModule, base: Path, archive: Path, tmp_path: Path, tree: Tree
) -> None:
    make_release(base, "3.3.2-a")
    before = tree(tmp_path)
    assert ship(run_module, "packed", base, archive, check=True)["changed"]
    assert ship(run_module, "unpacked", tmp_path / "other", archive, check=True)["changed"]
    assert tree(tmp_path) == before


# Switching and pruning -------------------------------------------------------------------------------------------------


def switch(run_module: RunModule, base: Path, name: str, check: bool = False, keep: int = 2) -> dict[str, Any]:
    return run_module(airflow_release, check=check, id=name, state="current", base=str(base), keep=keep)


def test_current_points_to_the_release(run_module: RunModule, base: Path) -> None:
    make_release(base, "a")
    make_release(base, "b")
    first, second, third = (switch(run_module, base, name) for name in ("a", "b", "b"))
    assert [first["changed"], second["changed"], third["changed"]] == [True, True, False]
    assert (base / "current").readlink() == Path("releases/b")
    assert second["diff"] == {"before": "current -> releases/a\n", "after": "current -> releases/b\n"}
    assert (third["diff"], third["removed"]) == ({}, [])


def test_killed_switch_is_switched_again(run_module: RunModule, base: Path) -> None:
    make_release(base, "a")
    (base / "current.new").symlink_to("releases/other")
    assert switch(run_module, base, "a")["changed"]
    assert sorted(path.name for path in base.iterdir()) == ["current", "releases"]


def test_files_by_which_it_came_are_removed_and_no_others(run_module: RunModule, base: Path, tmp_path: Path) -> None:
    make_release(base, "a")
    for name in ("airfield-a.lock", "airfield-a.deb", "airfield-a.deb.partial", "airfield-b.lock"):
        (tmp_path / name).touch()
    (tmp_path / "airfield-a.own/src").mkdir(parents=True)
    task = {"id": "a", "state": "current", "base": str(base), "transit": str(tmp_path / "airfield-a.*")}
    run_module(airflow_release, check=True, **task)
    assert len(list(tmp_path.glob("airfield-*"))) == 5
    run_module(airflow_release, **task)
    assert [path.name for path in tmp_path.glob("airfield-*")] == ["airfield-b.lock"]


def test_incomplete_release_is_not_made_current(run_module: RunModule, base: Path) -> None:
    make_release(base, "a")
    switch(run_module, base, "a")
    (base / "releases/b").mkdir()
    result = switch(run_module, base, "b")
    assert result["failed"]
    assert f"{base}/releases/b is not complete" in result["msg"]
    assert (base / "current").readlink() == Path("releases/a")


@pytest.fixture
def releases(base: Path) -> Path:
    """Five releases, `a` the newest, and what a killed build left."""
    for age, name in enumerate("abcde"):
        make_release(base, name, age)
    (base / "releases/half").mkdir()
    return base / "releases"


def names(releases: Path) -> list[str]:
    return sorted(path.name for path in releases.iterdir())


@pytest.mark.parametrize(
    ("current", "keep", "kept"),
    [("a", 2, ["a", "b", "c"]), ("a", 0, ["a"]), ("d", 2, ["a", "b", "d"]), ("a", 9, ["a", "b", "c", "d", "e"])],
)
def test_current_and_the_newest_releases_are_kept(
    run_module: RunModule, base: Path, releases: Path, current: str, keep: int, kept: list[str]
) -> None:
    result = switch(run_module, base, current, keep=keep)
    assert names(releases) == kept
    assert result["removed"] == sorted({*"abcde", "half"} - set(kept))


@pytest.fixture
def used(releases: Path) -> Iterator[str]:
    """A release of which a running process, this one, has a file in its memory."""
    with open(releases / "e/bin/airflow", "rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ):
        yield "e"


def test_release_in_use_is_kept(run_module: RunModule, base: Path, releases: Path, used: str) -> None:
    assert switch(run_module, base, "a", keep=1)["removed"] == ["c", "d", "half"]
    assert names(releases) == ["a", "b", used]


def test_check_mode_says_what_would_be_switched_and_removed(
    run_module: RunModule, base: Path, releases: Path, tree: Tree
) -> None:
    before = tree(base)
    told = switch(run_module, base, "b", check=True)
    assert tree(base) == before
    done = switch(run_module, base, "b")
    for key in ("changed", "diff", "removed"):
        assert told[key] == done[key]


def test_check_mode_on_a_host_without_releases(run_module: RunModule, base: Path) -> None:
    result = switch(run_module, base, "a", check=True)
    assert (result["changed"], result["removed"]) == (True, [])


def test_release_is_in_use_by_what_processes_have_mapped(tmp_path: Path) -> None:
    maps = {
        "10": "7f00 r-xp 00 08:01 1 /opt/airflow/releases/a/bin/python3.11\n",
        "11": "7f00 r--p 00 08:01 1 /opt/airflow/releases/b/lib/x.so (deleted)\n7f01 rw-p 00 00:00 0 [heap]\n",
        "12": "7f00 r--p 00 08:01 1 /opt/other/releases/c/lib/x.so\n",
    }
    for process, text in maps.items():
        (tmp_path / process).mkdir()
        (tmp_path / process / "maps").write_text(text)
    (tmp_path / "13").mkdir()
    (tmp_path / "13/maps").symlink_to("gone")
    assert airflow_release.releases_in_use("/opt/airflow", str(tmp_path)) == {"a", "b"}
