from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import local_logs

NOW = time.time()
DAY = 86400
FIRST = "dag_id=a/run_id=r/task_id=t/attempt=1.log"
SECOND = "dag_id=a/run_id=r/task_id=t/attempt=2.log"
OTHER = "dag_id=b/run_id=r/task_id=t/map_index=3/attempt=1.log"
PARSED = "dag_processor/2026-11-20/dags-folder/a.py.log"
# A process that has a file open for writing until its input ends.
WRITER = "import sys; file = open(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"


class Store:
    """The place where Airflow keeps logs, with what of its own class is used here."""

    remote_base = "s3://logs/here"

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}
        self.away = False
        self.refuses: list[str] = []
        self.asked = 0
        self.hook = SimpleNamespace(read_key=lambda place: self.objects[place])

    def s3_log_exists(self, place: str) -> bool:
        self.asked += 1
        if self.away:
            raise ConnectionError("no answer")
        return place in self.objects

    def write(self, log: str, place: str, append: bool) -> bool:
        assert append is False
        if place in self.refuses:
            return False
        self.objects[place] = log
        return True

    def text(self, path: str) -> str:
        return self.objects[f"s3://logs/here/{path}"]


def provide_airflow(monkeypatch: pytest.MonkeyPatch, remote: Any) -> None:
    module = ModuleType("airflow.logging_config")
    vars(module)["get_remote_task_log"] = lambda: remote
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.logging_config", module)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    provide_airflow(monkeypatch, store)
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def write(folder: Path, path: str, text: str = "text\n", age: float = 0) -> Path:
    """A log, last written so many seconds ago."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (NOW - age, NOW - age))
    return file


def paths(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def busy(file: Path) -> Any:
    """A process that writes to this file."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process


# Which ---------------------------------------------------------------------------------------------------------------


def test_logs_of_tasks_that_are_not_empty_are_found(folder: Path) -> None:
    for path in (SECOND, FIRST, OTHER, PARSED, "dag_id=a/notes.txt", "a.log"):
        write(folder, path)
    write(folder, "dag_id=a/run_id=r/task_id=t/attempt=3.log", "")
    assert local_logs.find_logs(str(folder)) == [FIRST, SECOND, OTHER]


def test_file_that_another_process_writes_to_is_in_use(folder: Path) -> None:
    file = write(folder, FIRST)
    with busy(file) as process:
        with pytest.raises(BlockingIOError):
            local_logs.Unused(str(file)).__enter__()
        assert not local_logs.remove(str(file))
        process.communicate()
    assert local_logs.remove(str(file))


def test_file_is_given_to_who_opens_it_meanwhile(folder: Path) -> None:
    file = write(folder, FIRST)
    with local_logs.Unused(str(file)) as log:
        with file.open("a") as stream:
            stream.write("more\n")
        log.remove()
    assert file.read_text() == "text\nmore\n"


# Upload ---------------------------------------------------------------------------------------------------------------


def test_logs_are_uploaded_and_removed(folder: Path, store: Store) -> None:
    write(folder, FIRST, "one\n")
    write(folder, OTHER, "two\n")
    assert local_logs.upload(str(folder), [FIRST, OTHER]) == []
    assert (store.text(FIRST), store.text(OTHER), paths(folder)) == ("one\n", "two\n", [])


def test_airflow_2_has_its_store_elsewhere(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "airflow.providers",
        "airflow.providers.amazon",
        "airflow.providers.amazon.aws",
        "airflow.providers.amazon.aws.log",
    ]
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    handler = ModuleType("airflow.providers.amazon.aws.log.s3_task_handler")
    vars(handler)["S3RemoteLogIO"] = SimpleNamespace(from_config=lambda: store)
    monkeypatch.setitem(sys.modules, handler.__name__, handler)
    monkeypatch.setitem(sys.modules, "airflow.logging_config", ModuleType("airflow.logging_config"))
    path = "dag_id=a/run_id=b/task_id=c/attempt=1.log"
    log = write(folder, path)
    assert local_logs.upload(str(folder), [path]) == []
    assert store.text(path) == "text\n"
    assert not log.exists()


def test_log_is_appended_to_what_is_there(folder: Path, store: Store) -> None:
    store.objects[f"s3://logs/here/{FIRST}"] = "before"
    write(folder, FIRST, "one\n")
    local_logs.upload(str(folder), [FIRST])
    assert store.text(FIRST) == "before\none\n"


def test_log_that_has_arrived_without_an_answer_is_not_there_twice(folder: Path, store: Store) -> None:
    store.objects[f"s3://logs/here/{FIRST}"] = "before\none\n"
    write(folder, FIRST, "one\n")
    assert local_logs.upload(str(folder), [FIRST]) == []
    assert (store.text(FIRST), paths(folder)) == ("before\none\n", [])


def test_log_of_a_running_task_is_not_touched(folder: Path, store: Store) -> None:
    file = write(folder, FIRST)
    with busy(file) as process:
        assert local_logs.upload(str(folder), [FIRST]) == []
        process.communicate()
    assert (store.objects, paths(folder)) == ({}, [FIRST])


def test_log_that_a_task_goes_on_with_meanwhile_stays(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(folder, FIRST, "one\n")

    def slow(log: str, place: str, append: bool) -> bool:
        with file.open("a") as stream:
            stream.write("two\n")
        return True

    monkeypatch.setattr(store, "write", slow)
    local_logs.upload(str(folder), [FIRST])
    assert file.read_text() == "one\ntwo\n"


def test_log_that_could_not_be_uploaded_stays(folder: Path, store: Store) -> None:
    write(folder, FIRST)
    write(folder, SECOND)
    store.refuses = [f"s3://logs/here/{FIRST}"]
    assert local_logs.upload(str(folder), [FIRST, SECOND]) == [FIRST]
    assert paths(folder) == [FIRST]


def test_store_that_is_away_is_not_asked_for_every_log(folder: Path, store: Store) -> None:
    logs = [f"dag_id=a/{number}.log" for number in range(9)]
    for path in logs:
        write(folder, path)
    store.away = True
    assert local_logs.upload(str(folder), logs) == logs
    assert (store.asked, paths(folder)) == (local_logs.PATIENCE, logs)


def test_logs_stay_where_airflow_keeps_them_nowhere_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provide_airflow(monkeypatch, None)
    write(folder, FIRST)
    assert local_logs.upload(str(folder), [FIRST]) is None
    assert paths(folder) == [FIRST]


# Prune ----------------------------------------------------------------------------------------------------------------


def prune(folder: Path, days: float = 7, limit: int = 1000, waiting: tuple[str, ...] = ()) -> list[str]:
    return local_logs.prune(str(folder), days, limit, waiting, NOW)


def test_old_logs_go_and_young_ones_stay(folder: Path) -> None:
    write(folder, PARSED, age=8 * DAY)
    write(folder, "dag_processor/2026-11-27/a.log", age=6 * DAY)
    write(folder, "notes.txt", age=8 * DAY)
    assert prune(folder) == []
    assert paths(folder) == ["dag_processor/2026-11-27/a.log"]


def test_log_that_waits_for_its_upload_stays_whatever_its_age(folder: Path) -> None:
    write(folder, FIRST, age=400 * DAY)
    assert prune(folder, waiting=(FIRST,)) == []
    assert paths(folder) == [FIRST]


def test_empty_log_goes_once_nobody_is_about_to_open_it(folder: Path) -> None:
    write(folder, FIRST, "", age=2 * 3600)
    write(folder, SECOND, "", age=60)
    prune(folder, limit=0)
    assert paths(folder) == [SECOND]


def test_oldest_go_until_the_rest_is_small_enough(folder: Path) -> None:
    for number in range(5):
        write(folder, f"dag_processor/{number}.log", "x" * 100, age=number * 60)
    assert prune(folder, limit=250) == []
    assert paths(folder) == ["dag_processor/0.log", "dag_processor/1.log"]


def test_logs_that_wait_are_the_last_to_go_and_are_named(folder: Path) -> None:
    write(folder, FIRST, "x" * 100, age=120)
    write(folder, SECOND, "x" * 100, age=60)
    write(folder, PARSED, "x" * 100)
    assert prune(folder, limit=250, waiting=(FIRST, SECOND)) == []
    assert paths(folder) == [FIRST, SECOND]
    assert prune(folder, limit=150, waiting=(FIRST, SECOND)) == [FIRST]
    assert paths(folder) == [SECOND]


def test_log_of_a_running_task_stays_whatever_its_size(folder: Path) -> None:
    with busy(write(folder, FIRST, "x" * 2000, age=8 * DAY)) as process:
        assert prune(folder) == []
        process.communicate()
    assert paths(folder) == [FIRST]


def test_empty_folders_go_once_nobody_is_about_to_use_them(folder: Path) -> None:
    for name, age in (("a/b", 7200), ("c", 60), ("d", 7200)):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (NOW - age, NOW - age))
    write(folder, "d/a.log")
    os.utime(folder / "d", (NOW - 7200, NOW - 7200))
    os.utime(folder, (NOW - 7200, NOW - 7200))
    prune(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "c", "d"]
    assert not (folder / "a/b").exists()


def test_links_are_left_alone(folder: Path) -> None:
    (folder / "latest").symlink_to("gone")
    os.utime(folder / "latest", (NOW - 9 * DAY, NOW - 9 * DAY), follow_symlinks=False)
    prune(folder)
    assert (folder / "latest").is_symlink()


# Disks ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Paths, the file system of each, and how full that is."""
    found: dict[str, Any] = {}

    def provide(path: str, device: int, used: int, files: int = 0, everything: int = 1000) -> None:
        found[path] = SimpleNamespace(
            st_dev=device,
            f_blocks=everything,
            f_bfree=everything - used,
            # A share of it is kept for root.
            f_bavail=everything - used - 50,
            f_frsize=2**20,
            f_files=1000,
            f_ffree=1000 - files,
        )

    monkeypatch.setattr(os.path, "exists", lambda path: path in found)
    monkeypatch.setattr(os, "stat", found.__getitem__)
    monkeypatch.setattr(os, "statvfs", found.__getitem__)
    provide("/", 1, 100)
    provide("/opt", 1, 100)
    provide("/logs", 2, 810)
    provide("/files", 3, 100, files=990)
    return found


def test_full_disks_are_named_once_with_what_is_left(disks: dict[str, Any]) -> None:
    found = local_logs.full_disks(["/", "/opt", "/gone", "/logs", "/files"], 85)
    assert list(found) == ["/logs", "/files"]
    assert found["/logs"].startswith(
        "The file system of /logs is 85 % full, more than the 85 of airflow_disk_alert_percent; 140 MB"
    )
    assert "is 99 % full of files" in found["/files"]
    assert local_logs.full_disks(["/", "/opt", "/logs"], 86) == {}
    assert list(local_logs.full_disks(["/", "/opt"], 5)) == ["/"]


# The program ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the program; returns its status and what it says."""

    def run(*more: str) -> tuple[int, str]:
        usual = ["--folder", str(folder), "--days=7", "--max-mb=1", "--disk-percent=85", f"--state={folder.parent}/told.json"]
        monkeypatch.setattr(sys, "argv", ["local_logs.py", *usual, *more])
        try:
            local_logs.main()
        except SystemExit as end:
            return int(str(end.code)), capsys.readouterr().out
        return 0, capsys.readouterr().out

    return run


def test_run_uploads_prunes_and_says_nothing(run: Any, folder: Path, store: Store) -> None:
    write(folder, FIRST, "one\n", age=9 * DAY)
    write(folder, PARSED, age=8 * DAY)
    assert run("--upload", f"--disk={folder}", "--disk-percent=100") == (0, "")
    assert (store.text(FIRST), paths(folder)) == ("one\n", [])


def test_without_upload_tasks_logs_are_logs_like_others(run: Any, folder: Path, store: Store) -> None:
    write(folder, FIRST, age=9 * DAY)
    write(folder, SECOND, age=6 * DAY)
    assert run() == (0, "")
    assert (store.objects, paths(folder)) == ({}, [SECOND])


def test_logs_stay_as_long_as_the_store_is_away(run: Any, folder: Path, store: Store) -> None:
    write(folder, FIRST, age=9 * DAY)
    store.away = True
    status, said = run("--upload")
    assert status == 1
    assert f"{FIRST}: ConnectionError: no answer\n1 logs of tasks could not be uploaded, {FIRST} among them" in said
    assert paths(folder) == [FIRST]
    store.away = False
    assert run("--upload") == (0, "")
    assert store.text(FIRST) == "text\n"


def test_airflow_that_does_not_even_start_keeps_no_disk_from_being_looked_at(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide_airflow(monkeypatch, SimpleNamespace())
    write(folder, FIRST, age=9 * DAY)
    write(folder, PARSED, age=9 * DAY)
    status, said = run("--upload", f"--disk={folder}", "--disk-percent=0.01")
    assert (status, paths(folder)) == (1, [FIRST])
    assert "could not be uploaded" in said
    assert "more than the 0.01 of airflow_disk_alert_percent" in said


def test_log_that_is_lost_is_named(run: Any, folder: Path, store: Store) -> None:
    write(folder, FIRST, "x" * 2**21)
    store.away = True
    dummy, said = run("--upload")
    assert f"{FIRST} is lost: it was not uploaded yet" in said


def test_logs_never_need_all_of_their_file_system(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SimpleNamespace(f_blocks=1000, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda path: small)
    write(folder, "old.log", "x" * 400, age=60)
    write(folder, "new.log", "x" * 500)
    assert run() == (0, "")
    assert paths(folder) == ["new.log"]


def test_problem_is_new_once_and_again_after_it_was_gone(run: Any, folder: Path) -> None:
    full, fine = (f"--disk={folder}", "--disk-percent=0.01"), (f"--disk={folder}", "--disk-percent=100")
    ends = [run(*options)[0] for options in (full, full, full, fine, full)]
    assert ends == [1, local_logs.TOLD_BEFORE, local_logs.TOLD_BEFORE, 0, 1]


def test_problem_beside_another_is_new(run: Any, folder: Path, store: Store) -> None:
    write(folder, FIRST)
    store.away = True
    assert run("--upload")[0] == 1
    assert run("--upload", f"--disk={folder}", "--disk-percent=0.01")[0] == 1
    assert run("--upload", f"--disk={folder}", "--disk-percent=0.01")[0] == local_logs.TOLD_BEFORE


def test_state_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert local_logs.recall(str(tmp_path / "gone")) == set()
    (tmp_path / "bad").write_text("{")
    assert local_logs.recall(str(tmp_path / "bad")) == set()
    (tmp_path / "good").write_text(json.dumps(["a"]))
    assert local_logs.recall(str(tmp_path / "good")) == {"a"}


def test_spoilt_state_is_none(tmp_path: Path, spoilt: bytes) -> None:
    (tmp_path / "told.json").write_bytes(spoilt)
    assert local_logs.recall(str(tmp_path / "told.json")) == set()
