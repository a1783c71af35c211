"""Celery's results in a database, as data: entry point `celery.result_backends` of this package, for `db+...` URLs.

Celery pickles them. Whoever may write results, as every task may, could so have the scheduler run what he likes, which reads
them in each of its loops. The tables stay Celery's own: a worker of a release without this goes on beside one that has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from celery.backends.database import DatabaseBackend, models
from sqlalchemy import LargeBinary, MetaData, inspect
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator


class Data(TypeDecorator):
    """What is JSON, in a column that Celery has for pickles."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> bytes | None:
        return None if value is None else json.dumps(value, default=str).encode()

    def process_result_value(self, value: bytes | None, dialect: Any) -> Any:
        """None for what is no JSON, such as a pickle of a release without this."""
        try:
            return None if value is None else json.loads(bytes(value))
        except (ValueError, RecursionError):
            return None


def mapped(model: Any) -> Any:
    """A class that does what Celery's does, with the same columns but for the type of the result."""
    table = model.__table__.to_metadata(MetaData())
    table.c.result.type = Data()
    columns = [column.name for attribute in inspect(model).column_attrs for column in attribute.columns]

    class Row:
        __table__ = table
        # Celery's own class names no more, and an older table may have no more.
        __mapper_args__: Mapping[str, Any] = {"include_properties": columns}

        def __init__(self, key: str, result: Any = None) -> None:
            setattr(self, next(name for name in columns if name in {"task_id", "taskset_id"}), key)
            self.result = result

        def to_dict(self) -> dict[str, Any]:
            return {name: getattr(self, name) for name in columns if name != "id"}

        @classmethod
        def configure(cls, schema: str | None = None, name: str | None = None) -> None:
            """Let the table be elsewhere, as `database_table_schemas` and `database_table_names` say."""
            # It is by this one that Celery makes the table.
            model.configure(schema=schema, name=name)
            table.schema = table.c.id.default.schema = schema
            table.name = name or model.__tablename__
            # SQLAlchemy keeps that by itself where a table is made with it.
            table.fullname = f"{schema}.{table.name}" if schema else table.name

    Row.__name__ = Row.__qualname__ = model.__name__
    return registry().mapped(Row)


Task, TaskExtended, TaskSet = mapped(models.Task), mapped(models.TaskExtended), mapped(models.TaskSet)


class Backend(DatabaseBackend):
    """Celery's backend for databases, which Airflow's executor knows by its class, without pickles."""

    task_cls = Task
    taskset_cls = TaskSet

    def exception_to_python(self, exc: Any) -> Exception | None:
        """What is told of a failure, as the text of an exception: no class of a row's choice."""
        if not exc:
            return None
        if isinstance(exc, Mapping):
            message = exc.get("exc_message")
            parts = message if isinstance(message, list) else [message]
            return Exception(f"{exc.get('exc_type')}: {', '.join(map(str, parts))}")
        return Exception(str(exc))
