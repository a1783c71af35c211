"""The log server has the logs and no page about itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from airfield_guard import log_server


def test_descriptions_are_taken_away() -> None:
    def create_app() -> Any:
        paths = ["/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/log"]
        names = ("openapi_url", "docs_url", "swagger_ui_oauth2_redirect_url", "redoc_url")
        router = SimpleNamespace(routes=[SimpleNamespace(path=path) for path in paths])
        return SimpleNamespace(router=router, **dict(zip(names, paths, strict=False)))

    module: Any = SimpleNamespace(create_app=create_app)
    log_server.guard_app(module)
    assert [route.path for route in module.create_app().router.routes] == ["/log"]
