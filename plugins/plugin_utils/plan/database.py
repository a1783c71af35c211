"""How Airflow reaches its metadata database."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
CONNECTION_ASYNC = CONNECTION + "_ASYNC"
ARGUMENTS = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS"
ARGUMENTS_ASYNC = ARGUMENTS + "_ASYNC"
# What both drivers for PostgreSQL understand in a URL. The rest is libpq's, and asyncpg refuses it.
OF_BOTH = ("host", "port")


def environment(url: str, options: dict[str, Any]) -> dict[str, str]:
    """Environment of those who have the database, for its URL; what the operator has in [database] stays as it is.

    Time-outs and what the asynchronous driver needs come from modules of ours: no option and no URL can express them.
    """
    found = {CONNECTION: url}
    backend = urlsplit(url).scheme.partition("+")[0]
    if backend not in ("mysql", "mariadb", "postgresql", "postgres"):
        return found
    if "sql_alchemy_connect_args" not in options:
        found[ARGUMENTS] = "airfield_database.synchronous"
    if "sql_alchemy_conn_async" in options or "sql_alchemy_connect_args_async" in options:
        return found
    encrypted = backend == "mysql" and "ssl_mode=REQUIRED" in url
    found[ARGUMENTS_ASYNC] = "airfield_mysql.tls" if encrypted else "airfield_database.asynchronous"
    if encrypted:
        url_async = re.sub("^mysql([+]mysqldb)?:", "mysql+aiomysql:", url)
        found[CONNECTION_ASYNC] = re.sub("&?ssl_mode=REQUIRED", "", url_async)
    elif backend.startswith("postgres") and (plain := without_libpq(url)) != url:
        found[CONNECTION_ASYNC] = plain
    return found


def without_libpq(url: str) -> str:
    """The URL for asyncpg; the same where it has nothing that this refuses."""
    parts = urlsplit(url)
    words = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in words if name in OF_BOTH]
    if kept == words:
        return url
    scheme = "postgresql+asyncpg"
    return urlunsplit((scheme, parts.netloc, parts.path, urlencode(kept), parts.fragment))
