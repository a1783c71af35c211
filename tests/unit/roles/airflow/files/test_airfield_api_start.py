from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/airfield_api_start.py"


class Versioned:
    def __init__(self, ready: bool = False) -> None:
        self._cadwyn_initialized, self.prepared = ready, 0

    def _cadwyn_initialize(self) -> None:
        self.prepared += 1
        self._cadwyn_initialized = True


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    plugins = ModuleType("airflow.plugins_manager")
    vars(plugins)["AirflowPlugin"] = object
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.plugins_manager", plugins)
    spec = importlib.util.spec_from_file_location("airfield_api_start", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_api_of_the_tasks_is_ready_when_the_process_starts(plugin: Any) -> None:
    tasks, other = Versioned(), Versioned(ready=True)
    # Middlewares stand between; the application itself has an `app`, too, as Starlette's router does.
    mounts = [SimpleNamespace(app=tasks), tasks, other, object()]
    routes = [*(SimpleNamespace(app=app) for app in mounts), SimpleNamespace(path="/")]
    plugin.Prepared(SimpleNamespace(app=SimpleNamespace(routes=routes, app=object())))
    assert (tasks.prepared, other.prepared) == (1, 0)


def test_release_without_it_starts_all_the_same(plugin: Any) -> None:
    plugin.Prepared(SimpleNamespace(app=SimpleNamespace()))
