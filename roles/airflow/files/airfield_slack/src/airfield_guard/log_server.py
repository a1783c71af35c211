"""The log servers of workers and triggerers have logs, and no description of themselves for everybody (Airflow 3)."""

from __future__ import annotations

from typing import Any


def guard_app(log_server: Any) -> None:
    """Make the server without the pages that describe it."""
    create: Any = log_server.create_app

    def create_app() -> Any:
        app = create()
        descriptions = {app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url}
        app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) not in descriptions]
        return app

    log_server.create_app = create_app
