"""Try a webserver_config.py, which comes on standard input, before the API server gets it.

Run with the release's own Python, as the account that Airflow runs as. Does with it what Airflow will do, imports what FAB
imports only when somebody logs in, and ends with status 1 and the reason where that cannot work.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

REMEDY = "Remedy: correct airflow_authentication or airflow_webserver_config; the libraries come with the release."


def load(text: str, folder: Path) -> dict[str, Any]:
    """The settings, read as Airflow does it (airflow/providers/fab/www/app.py)."""
    from flask import Flask

    path = folder / "webserver_config.py"
    path.write_text(text, encoding="utf-8")
    app = Flask("check")
    with app.app_context():
        app.config.from_pyfile(str(path))
    return app.config


def try_to_use(config: dict[str, Any]) -> None:
    """Raise where what FAB does with the settings at its start, or at a login, cannot work."""
    from flask_appbuilder.const import AUTH_DB, AUTH_LDAP, AUTH_OAUTH, AUTH_REMOTE_USER

    kind = config["AUTH_TYPE"]
    if kind not in (AUTH_DB, AUTH_LDAP, AUTH_OAUTH, AUTH_REMOTE_USER):
        raise ValueError(f"AUTH_TYPE is {kind!r}, which Airflow does not know")
    certificates = set()
    if kind == AUTH_LDAP:
        import ldap

        ldap.initialize(config["AUTH_LDAP_SERVER"])
        certificates.add(config.get("AUTH_LDAP_TLS_CACERTFILE"))
    if kind == AUTH_OAUTH:
        from authlib.integrations.flask_client import OAuth
        from flask import Flask

        oauth = OAuth(Flask("check"))
        for provider in config["OAUTH_PROVIDERS"]:
            oauth.register(provider["name"], **provider["remote_app"])
            certificates.add(provider["remote_app"].get("client_kwargs", {}).get("verify"))
    for path in certificates - {None, True, False, ""}:
        Path(path).read_bytes()
    if config.get("SECURITY_MANAGER_CLASS"):
        from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride

        if not issubclass(config["SECURITY_MANAGER_CLASS"], FabAirflowSecurityManagerOverride):
            raise TypeError("SECURITY_MANAGER_CLASS is not derived from FabAirflowSecurityManagerOverride")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        # Importing Airflow writes below AIRFLOW_HOME. Nothing here needs a database.
        os.environ.update(AIRFLOW_HOME=home, AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="sqlite://")
        try:
            try_to_use(load(sys.stdin.read(), Path(home)))
        except BaseException as error:
            # Of the lines of the file itself only: the rest of a traceback is Airflow's and Python's.
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(home)]
            where = f" (line {lines[-1]})" if lines else ""
            sys.exit(f"{type(error).__name__}: {error}{where}. {REMEDY}")


if __name__ == "__main__":
    main()
