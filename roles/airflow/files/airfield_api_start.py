"""Airflow plugin for the API server: each of its processes is ready before it answers.

Airflow prepares the API of the tasks at a process's first call of a task, and answers nobody meanwhile: 5.5 s of CPU time
with 3.3.2, a minute on a host whose CPUs are busy. Tasks give up waiting before that.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


def innermost(app: Any, name: str) -> Any:
    """The first application below middlewares that has something of this name; None where none has."""
    while app is not None and not hasattr(app, name):
        app = getattr(app, "app", None)
    return app


def prepare(app: Any) -> None:
    """Do now what the applications that are mounted below this one would do at their first call."""
    for route in getattr(innermost(app, "routes"), "routes", ()):
        # Of Cadwyn, which Airflow takes for the versions of this API; another release of it may have none.
        mounted = innermost(getattr(route, "app", None), "_cadwyn_initialized")
        if mounted is not None and not mounted._cadwyn_initialized:
            mounted._cadwyn_initialize()


class Prepared:
    """ASGI middleware that passes everything on. It is made when the process starts, before it takes connections."""

    def __init__(self, app: Any) -> None:
        prepare(app)
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class AirfieldApiStartPlugin(AirflowPlugin):
    """Airflow's entry point."""

    name = "airfield_api_start"
    fastapi_root_middlewares = [{"name": "prepared", "middleware": Prepared}]  # noqa: RUF012 - Airflow's interface
