"""What a task defers with names a class and its arguments, for the triggerer to make: a trigger, and nothing else.

Airflow takes any name. `subprocess.Popen` would run a program beside the metadata database's URL and the Fernet key, which a
worker of Airflow 3 does not have.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any

EXCEPTION, BUILTIN_EXCEPTION, TRIGGER = "airflow_exc_ser", "base_exc_ser", "base_trigger"


def guard_runner(triggerer: Any) -> None:
    """Let the triggerer make triggers alone."""
    runner = triggerer.TriggerRunner
    get = runner.get_trigger_by_classpath

    def get_trigger_by_classpath(self: Any, classpath: str) -> Any:
        return only_trigger(get(self, classpath), classpath)

    runner.get_trigger_by_classpath = get_trigger_by_classpath


def only_trigger(found: Any, name: str) -> Any:
    """The class, where it is one of triggers.

    :raises TypeError: it is not; Airflow fails the task with that.
    """
    from airflow.triggers.base import BaseTrigger

    if isinstance(found, type) and issubclass(found, BaseTrigger):
        return found
    raise TypeError(f"{name} is no trigger. A task may defer to a subclass of airflow.triggers.base.BaseTrigger alone.")


def only_exception(name: str) -> None:
    """Refuse what is not one of Airflow's exceptions that are loaded, as Airflow 3.3 does.

    :raises TypeError: it is not.
    """
    from airflow.exceptions import AirflowException

    module, dummy, attribute = name.rpartition(".")
    found = vars(sys.modules[module]).get(attribute) if module in sys.modules else None
    if not (isinstance(found, type) and issubclass(found, AirflowException)):
        raise TypeError(f"{name} is none of Airflow's exceptions.")


def only_builtin_exception(name: str) -> None:
    """Refuse what is not one of Python's exceptions.

    :raises TypeError: it is not.
    """
    found = getattr(builtins, name, None)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise TypeError(f"{name} is none of Python's exceptions.")


def guard_serialization(serialized_objects: Any) -> None:
    """Let what is deserialized, such as the arguments that a task defers with, make exceptions and triggers alone.

    Before 3.3 Airflow imports and calls whatever is named there.
    """
    if hasattr(serialized_objects, "_resolve_airflow_exception"):
        return
    serialization = serialized_objects.BaseSerialization
    original = serialization.deserialize.__func__

    def deserialize(cls: Any, encoded_var: Any, *arguments: Any, **options: Any) -> Any:
        kind = encoded_var.get("__type") if isinstance(encoded_var, dict) else None
        if kind in (EXCEPTION, BUILTIN_EXCEPTION):
            name = str(cls.deserialize(encoded_var["__var"], *arguments, **options)["exc_cls_name"])
            (only_exception if kind == EXCEPTION else only_builtin_exception)(name)
        elif kind == TRIGGER:
            name = str(cls.deserialize(encoded_var["__var"], *arguments, **options)[0])
            only_trigger(serialized_objects.import_string(name), name)
        return original(cls, encoded_var, *arguments, **options)

    serialization.deserialize = classmethod(deserialize)
