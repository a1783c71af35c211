from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.modules import airflow_lock

RunModule = Callable[..., dict[str, Any]]
Tree = Callable[[Path], Any]
OWNER = {
    "run": "run-a",
    "who": "kim@laptop",
    "machine": "laptop 0a1b pid:[1]",
    "boot": "b00t",
    "pid": 4711,
    "started": "1234",
    "playbook": "site.yml",
}
OTHER = {**OWNER, "run": "run-b", "who": "lee@runner"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "airfield/run.lock"


@pytest.fixture
def acquire(run_module: RunModule, path: Path) -> RunModule:
    """Let a run take the lock."""

    def acquire(owner: dict[str, Any], **params: Any) -> dict[str, Any]:
        return run_module(airflow_lock, path=str(path), owner=owner, **params)

    return acquire


def age(path: Path, seconds: int) -> None:
    """Let the lock be renewed this long ago."""
    os.utime(path, (time.time() - seconds,) * 2)


def test_free_lock_is_taken(acquire: RunModule, path: Path) -> None:
    mask = os.umask(0o077)
    result = acquire(OWNER)
    os.umask(mask)
    assert (result["changed"], result["acquired"], result["path"], result["timeout"]) == (True, True, str(path), 300)
    assert "previous" not in result
    holder = json.loads(path.read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", holder.pop("since"))
    assert holder == OWNER
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["run.lock", "run.lock.guard"]
    assert [entry.stat().st_mode & 0o7777 for entry in (path, path.parent)] == [0o600, 0o755]


def test_same_run_takes_its_lock_again_and_renews_it(acquire: RunModule, path: Path) -> None:
    acquire(OWNER)
    before = path.read_text()
    age(path, 200)
    result = acquire(OWNER)
    assert (result["changed"], result["acquired"]) == (False, True)
    assert path.read_text() == before
    assert time.time() - path.stat().st_mtime < 100


def test_other_run_is_told_who_has_it(acquire: RunModule, path: Path, tree: Tree) -> None:
    acquire(OWNER)
    age(path, 100)
    before = tree(path.parent)
    result = acquire(OTHER)
    assert (result["changed"], result["acquired"]) == (False, False)
    holder = result["held_by"]
    assert holder == {**OWNER, "since": json.loads(path.read_text())["since"], "idle": holder["idle"]}
    assert 100 <= holder["idle"] < 200
    assert {name: row for name, row in tree(path.parent).items() if name != "run.lock.guard"} == {
        name: row for name, row in before.items() if name != "run.lock.guard"
    }


@pytest.mark.parametrize(("idle", "stale"), [(290, False), (310, True), (-290, False), (-310, True)])
def test_lock_that_is_not_renewed_is_taken_over_also_when_the_clock_was_set_back(
    acquire: RunModule, path: Path, idle: int, stale: bool
) -> None:
    acquire(OWNER)
    age(path, idle)
    result = acquire(OTHER)
    assert (result["changed"], result["acquired"]) == (stale, stale)
    assert result["previous" if stale else "held_by"]["who"] == "kim@laptop"
    assert json.loads(path.read_text())["run"] == ("run-b" if stale else "run-a")


def test_caller_sets_the_time_limit(acquire: RunModule, path: Path) -> None:
    acquire(OWNER)
    age(path, 20)
    assert not acquire(OTHER, timeout=30)["acquired"]
    assert acquire(OTHER, timeout=10)["acquired"]


@pytest.mark.parametrize(
    ("params", "taken"), [({"force": True}, True), ({"replace": "run-a"}, True), ({"replace": "run-c"}, False)]
)
def test_lock_is_taken_by_force_or_from_a_run_known_to_be_dead(
    acquire: RunModule, path: Path, params: dict[str, Any], taken: bool
) -> None:
    acquire(OWNER)
    result = acquire(OTHER, **params)
    assert result["acquired"] is taken
    assert result["previous" if taken else "held_by"]["run"] == "run-a"
    assert json.loads(path.read_text())["run"] == ("run-b" if taken else "run-a")


@pytest.mark.parametrize("content", [b"", b'{"run": ', b"[]", b"[1]", b"7", b"null", b"\xff"])
def test_lock_that_makes_no_sense_is_held_until_its_time_limit(acquire: RunModule, path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    holder = acquire(OWNER)["held_by"]
    assert holder == {**dict.fromkeys((*OWNER, "since"), "unknown"), "idle": 0}
    age(path, 400)
    assert acquire(OWNER)["acquired"]


def test_killed_module_leaves_nothing_in_the_way(acquire: RunModule, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("run.lock.new").write_text('{"run": "half and much longer than what shall stand there in the end"' * 9)
    assert acquire(OWNER)["acquired"]
    assert json.loads(path.read_text())["run"] == "run-a"


def test_nobody_else_changes_the_lock_between_reading_and_writing(
    acquire: RunModule, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    for step in ("read", "write"):
        original = getattr(airflow_lock, step)

        def guarded(*args: Any, step: str = step, original: Callable[..., Any] = original) -> Any:
            with open(f"{path}.guard") as stream, pytest.raises(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            steps.append(step)
            return original(*args)

        monkeypatch.setattr(airflow_lock, step, guarded)
    acquire(OWNER)
    assert steps == ["read", "write"]
    with open(f"{path}.guard") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("owner", [OWNER, OTHER])
@pytest.mark.parametrize("params", [{}, {"force": True}])
def test_check_mode_says_what_would_be_and_takes_nothing(
    acquire: RunModule, path: Path, tmp_path: Path, tree: Tree, owner: dict[str, Any], params: dict[str, Any]
) -> None:
    assert acquire(owner, check=True, **params)["acquired"]
    assert not path.parent.exists()
    acquire(OWNER)
    age(path, 100)
    before = tree(tmp_path)
    told = acquire(owner, check=True, **params)
    assert tree(tmp_path) == before
    done = acquire(owner, **params)
    for key in ("changed", "acquired"):
        assert told[key] == done[key]
