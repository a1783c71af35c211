"""Airflow plugin for the API server: the description of the API is for those who have logged in, as the API itself is."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

DESCRIPTIONS = frozenset(
    prefix + page
    for prefix in ("", "/auth", "/execution")
    for page in ("/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc")
)


class LoginFirst:
    """ASGI middleware: asks for the token of a logged-in user before it passes a request for a description on."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refusal = await self.refuse(scope) if scope["type"] == "http" and scope["path"] in DESCRIPTIONS else None
        await (refusal or self.app)(scope, receive, send)

    @staticmethod
    async def refuse(scope: Any) -> Any:
        """The answer to a caller who has not logged in; None for one who has."""
        # Not at the top: every command that loads plugins would pay for the whole API server.
        from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
        from airflow.api_fastapi.core_api.security import resolve_user_from_token
        from fastapi import HTTPException
        from starlette.requests import Request
        from starlette.responses import JSONResponse

        request = Request(scope)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            await resolve_user_from_token(bearer or request.cookies.get(COOKIE_NAME_JWT_TOKEN))
        except HTTPException as error:
            return JSONResponse({"detail": error.detail}, error.status_code)
        return None


class AirfieldPlugin(AirflowPlugin):
    """Airflow's entry point."""

    name = "airfield"
    fastapi_root_middlewares = [{"name": "login first", "middleware": LoginFirst}]  # noqa: RUF012 - Airflow's interface
