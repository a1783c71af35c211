from __future__ import annotations

import fcntl
import gc
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/airfield_bundle.py"


class LocalDagBundle:
    """As much of Airflow's as ours builds on."""

    def __init__(self, *, path: str, name: str) -> None:
        self._path = Path(path)
        self.name = name
        self.seen: list[Path] = []

    def initialize(self) -> None:
        self.seen.append(self.path)

    @property
    def path(self) -> Path:
        return self._path


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """`current`, with two revisions beside it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "current").symlink_to("one")
    return tmp_path / "current"


@pytest.fixture
def make(link: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """A new bundle, as each process of Airflow makes it."""
    module = ModuleType("airflow.dag_processing.bundles.local")
    vars(module)["LocalDagBundle"] = LocalDagBundle
    for name in ("airflow", "airflow.dag_processing", "airflow.dag_processing.bundles"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    bundle = runpy.run_path(str(FILE))["CurrentDagBundle"]
    return lambda: bundle(path=str(link), name="dags-folder")


def move(link: Path, name: str) -> None:
    temporary = link.with_name("new")
    temporary.symlink_to(name)
    temporary.rename(link)


def is_held(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def test_bundle_that_is_not_initialized_is_the_link(make: Callable[[], Any], link: Path) -> None:
    assert make().path == link
    assert not is_held(link)


def test_task_keeps_the_revision_that_it_started_with(make: Callable[[], Any], link: Path) -> None:
    bundle = make()
    bundle.initialize()
    move(link, "two")
    assert bundle.path == link.with_name("one")
    # Airflow looks whether the path is there when the bundle is ready.
    assert bundle.seen == [link.with_name("one")]


def test_next_task_starts_with_the_new_one(make: Callable[[], Any], link: Path) -> None:
    make().initialize()
    move(link, "two")
    bundle = make()
    bundle.initialize()
    assert bundle.path == link.with_name("two")


def test_processor_follows_when_it_refreshes(make: Callable[[], Any], link: Path) -> None:
    bundle = make()
    bundle.initialize()
    move(link, "two")
    bundle.refresh()
    assert bundle.path == link.with_name("two")


def test_revision_is_held_as_long_as_it_is_used(make: Callable[[], Any], link: Path) -> None:
    bundle = make()
    bundle.initialize()
    assert is_held(link.with_name("one"))
    bundle.refresh()
    move(link, "two")
    assert is_held(link.with_name("one"))
    bundle.refresh()
    assert (is_held(link.with_name("one")), is_held(link.with_name("two"))) == (False, True)
    del bundle
    gc.collect()
    assert not is_held(link.with_name("two"))


def test_two_processes_can_use_a_revision(make: Callable[[], Any]) -> None:
    first, second = make(), make()
    first.initialize()
    second.initialize()
    assert first.path == second.path


def test_refreshing_opens_nothing_anew(make: Callable[[], Any]) -> None:
    bundle = make()
    bundle.initialize()
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        bundle.refresh()
    assert os.listdir("/proc/self/fd") == before


def test_folder_in_place_of_the_link_is_as_good(make: Callable[[], Any], link: Path) -> None:
    link.unlink()
    link.mkdir()
    bundle = make()
    bundle.initialize()
    assert bundle.path == link


def test_nothing_there_yet_is_no_error(make: Callable[[], Any], link: Path) -> None:
    link.unlink()
    bundle = make()
    bundle.initialize()
    assert bundle.path == link
    move(link, "two")
    bundle.refresh()
    assert bundle.path == link.with_name("two")


def test_link_that_moves_on_while_it_is_followed_is_followed_further(
    make: Callable[[], Any], link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is removed between reading the link and opening, as when a run keeps no old revision."""
    opened = os.open

    def slow(path: Any, flags: int) -> int:
        if link.with_name("one").exists():
            move(link, "two")
            link.with_name("one").rmdir()
        return opened(path, flags)

    monkeypatch.setattr(os, "open", slow)
    bundle = make()
    bundle.initialize()
    assert bundle.path == link.with_name("two")


def test_revision_that_is_removed_before_it_is_held_is_not_used(
    make: Callable[[], Any], link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = fcntl.flock

    def slow(handle: int, operation: int) -> None:
        if link.with_name("one").exists():
            move(link, "two")
            link.with_name("one").rmdir()
        locked(handle, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    bundle = make()
    bundle.initialize()
    assert bundle.path == link.with_name("two")
