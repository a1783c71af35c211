from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import service_account
from ansible_collections.airfield.metal.plugins.modules import airflow_logs

RunModule = Callable[..., dict[str, Any]]
Tree = Callable[[Path], Any]
FIRST = "dag_id=a/run_id=r/task_id=t/attempt=1.log"
SECOND = "dag_id=a/run_id=r/task_id=t/attempt=2.log"
OTHER = "dag_id=b/run_id=r/task_id=t/map_index=3/attempt=1.log"
URL = "postgresql://airflow:hunter2@db1/airflow"


class Store:
    """The folder of the logs, and the place where Airflow keeps them."""

    remote_base = "s3://logs/here"

    def __init__(self, root: Path) -> None:
        self.folder = root / "logs"
        self.secrets = root / "worker.env"
        self.secrets.write_text(f'AIRFLOW__CELERY__RESULT_BACKEND="{URL}"\nAIRFLOW__EMPTY__OPTION=""\n')
        self.logs: dict[str, str] = {}
        self.refused: list[str] = []
        self.error = ""
        self.calls: list[tuple[Any, ...]] = []

    def put(self, path: str, text: str = "text\n") -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def s3_log_exists(self, place: str) -> bool:
        return False

    def write(self, log: str, place: str, append: bool) -> bool:
        """What Airflow does: it raises nothing where it fails."""
        path = place.removeprefix("s3://logs/here/")
        if path not in self.refused:
            self.logs[path] = log
        return path not in self.refused

    def call_as(self, account: str, environment: dict[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
        self.calls.append((account, environment))
        if self.error:
            raise RuntimeError(self.error)
        return function(*arguments)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    fake = Store(tmp_path)
    monkeypatch.setattr(service_account, "call_as", fake.call_as)
    return fake


def provide_airflow(monkeypatch: pytest.MonkeyPatch, remote: Any) -> None:
    module = ModuleType("airflow.logging_config")
    vars(module)["get_remote_task_log"] = lambda: remote
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.logging_config", module)


@pytest.fixture
def run(run_module: RunModule, store: Store, monkeypatch: pytest.MonkeyPatch) -> RunModule:
    provide_airflow(monkeypatch, store)

    def run(check: bool = False) -> dict[str, Any]:
        arguments = {"folder": str(store.folder), "environment_file": str(store.secrets)}
        return run_module(airflow_logs, check=check, account="somebody", config="/etc/a.cfg", **arguments)

    return run


def test_logs_are_uploaded_and_removed(run: RunModule, store: Store) -> None:
    store.put(FIRST, "one\n")
    store.put(SECOND, "two\n")
    store.put(OTHER, "three\n")
    result = run()
    assert (result["changed"], result["logs"]) == (True, [FIRST, SECOND, OTHER])
    assert store.logs == {FIRST: "one\n", SECOND: "two\n", OTHER: "three\n"}
    assert not list(store.folder.rglob("*.log"))
    assert not run()["changed"]


def test_worker_without_logs_asks_nobody(run: RunModule, store: Store) -> None:
    result = run()
    assert (result["changed"], result["logs"], store.calls) == (False, [], [])


def test_log_that_could_not_be_uploaded_stays_and_is_named(run: RunModule, store: Store) -> None:
    store.put(FIRST)
    store.put(SECOND, "two\n")
    store.refused = [SECOND]
    result = run()
    assert result["failed"]
    assert result["msg"].startswith(f"1 of 2 logs that are left on this worker could not be uploaded, {SECOND} among them.")
    assert result["logs"] == [SECOND]
    assert (store.folder / SECOND).read_text() == "two\n"
    assert not (store.folder / FIRST).exists()


def test_logs_stay_where_airflow_keeps_them_nowhere_else(
    run: RunModule, store: Store, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide_airflow(monkeypatch, None)
    store.put(FIRST)
    before = tree(store.folder)
    result = run()
    assert (result["changed"], result["logs"]) == (False, [])
    assert tree(store.folder) == before


def test_check_mode_names_the_logs_and_uploads_none(run: RunModule, store: Store, tree: Tree) -> None:
    store.put(FIRST)
    before = tree(store.folder)
    told = run(check=True)
    assert (tree(store.folder), store.logs, store.calls) == (before, {}, [])
    done = run()
    assert (told["changed"], told["logs"]) == (done["changed"], done["logs"]) == (True, [FIRST])


def test_airflow_runs_as_the_worker_does(run: RunModule, store: Store) -> None:
    store.put(FIRST)
    run()
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
        "AIRFLOW__CELERY__RESULT_BACKEND": URL,
        "AIRFLOW__EMPTY__OPTION": "",
        "AIRFLOW_CONFIG": "/etc/a.cfg",
        "AIRFLOW_HOME": "/var/lib/airflow",
    }
    assert store.calls == [("somebody", environment)]


def test_failure_of_airflow_is_told_without_its_secrets(run: RunModule, store: Store) -> None:
    store.put(FIRST)
    store.error = f"bad URL {URL}"
    result = run()
    assert result["failed"]
    assert result["msg"] == "The logs that are left on this worker could not be uploaded: bad URL ********"
    assert result["logs"] == [FIRST]
    assert "hunter2" not in json.dumps(result)
