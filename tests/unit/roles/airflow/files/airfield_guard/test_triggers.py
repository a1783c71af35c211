"""What a task defers with makes a trigger in the triggerer, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airfield_guard import triggers

KINDS = {"exception": triggers.EXCEPTION, "builtin": triggers.BUILTIN_EXCEPTION}


class BaseTrigger:
    pass


class Trigger(BaseTrigger):
    pass


class AirflowException(Exception):  # noqa: N818 - Airflow's name
    pass


@pytest.fixture(autouse=True)
def _airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    contents: dict[str, dict[str, Any]] = {
        "airflow": {},
        "airflow.triggers": {},
        "airflow.triggers.base": {"BaseTrigger": BaseTrigger},
        "airflow.exceptions": {"AirflowException": AirflowException},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


def found(name: str) -> Any:
    return {"mine": Trigger, "base": BaseTrigger, "subprocess.Popen": subprocess.Popen, "os.system": sys.exit, "text": "x"}[
        name
    ]


@pytest.mark.parametrize("name", ["subprocess.Popen", "os.system", "text"])
def test_triggerer_makes_nothing_but_triggers(name: str) -> None:
    class Runner:
        def get_trigger_by_classpath(self, classpath: str) -> Any:
            return found(classpath)

    triggers.guard_runner(SimpleNamespace(TriggerRunner=Runner))
    assert Runner().get_trigger_by_classpath("mine") is Trigger
    with pytest.raises(TypeError, match=f"{name} is no trigger"):
        Runner().get_trigger_by_classpath(name)


@pytest.fixture
def deserialize() -> Callable[[Any], Any]:
    """That of Airflow before 3.3, which calls what is named."""
    module: Any = SimpleNamespace(import_string=found)

    class Serialization:
        @classmethod
        def deserialize(cls, encoded_var: Any) -> Any:
            if not isinstance(encoded_var, dict):
                return encoded_var
            if encoded_var["__type"] == "dict":
                return {name: cls.deserialize(value) for name, value in encoded_var["__var"].items()}
            return "called", cls.deserialize(encoded_var["__var"])

    module.BaseSerialization = Serialization
    triggers.guard_serialization(module)
    deserialize: Callable[[Any], Any] = module.BaseSerialization.deserialize
    return deserialize


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("exception", "subprocess.Popen"),
        ("exception", "airflow.exceptions.AirflowException.x"),
        ("exception", "airflow.exceptions.missing"),
        ("exception", "not.loaded.Error"),
        ("exception", "builtins.eval"),
        ("builtin", "eval"),
        ("builtin", "print"),
        ("builtin", "missing"),
    ],
)
def test_nothing_but_exceptions_is_called(kind: str, name: str, deserialize: Callable[[Any], Any]) -> None:
    value = {"__type": KINDS[kind], "__var": {"__type": "dict", "__var": {"exc_cls_name": name}}}
    # However deep it lies.
    for hidden in (value, {"__type": "dict", "__var": {"a": value}}):
        with pytest.raises(TypeError, match="is none of"):
            deserialize(hidden)


@pytest.mark.parametrize(("kind", "name"), [("exception", "airflow.exceptions.AirflowException"), ("builtin", "KeyError")])
def test_exceptions_are_made(kind: str, name: str, deserialize: Callable[[Any], Any]) -> None:
    value = {"__type": KINDS[kind], "__var": {"__type": "dict", "__var": {"exc_cls_name": name}}}
    assert deserialize(value) == ("called", {"exc_cls_name": name})


def test_trigger_in_arguments_is_one(deserialize: Callable[[Any], Any]) -> None:
    assert deserialize({"__type": "base_trigger", "__var": ["mine", {}]}) == ("called", ["mine", {}])
    with pytest.raises(TypeError, match="is no trigger"):
        deserialize({"__type": "base_trigger", "__var": ["subprocess.Popen", {}]})


def test_what_looks_itself_is_left_alone() -> None:
    module: Any = SimpleNamespace(_resolve_airflow_exception=None)
    triggers.guard_serialization(module)
    assert vars(module) == {"_resolve_airflow_exception": None}
