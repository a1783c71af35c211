"""How Airflow's connections to its metadata find out that the database is gone.

Airflow reads both by `[database] sql_alchemy_connect_args` and `sql_alchemy_connect_args_async`. What the URL says is the
operator's word and stays. The asynchronous driver for PostgreSQL has time-outs of its own, and none of libpq's parameters:
those in the URL are said to it in its own way.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# What was sent and not acknowledged ends a connection after 20 s, and silence of the other side does so, too.
POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# MySQL's client cannot tell a slow statement from a server that is gone: no limit for answers.
MYSQL = {"connect_timeout": 10}
# asyncpg knows no keepalives: its statements have a limit instead. None of Airflow's takes a minute.
ASYNCPG = {"timeout": 10, "command_timeout": 60}


def kind_and_words(url: str) -> tuple[str, dict[str, str]]:
    """Kind of a database, and the parameters in its URL."""
    parts = urlsplit(url)
    return parts.scheme.partition("+")[0], dict(parse_qsl(parts.query, keep_blank_values=True))


def synchronous_arguments(url: str) -> dict[str, Any]:
    """What the synchronous driver gets beside a URL."""
    kind, said = kind_and_words(url)
    known = {"postgresql": POSTGRESQL, "postgres": POSTGRESQL, "mysql": MYSQL, "mariadb": MYSQL}.get(kind, {})
    return {name: value for name, value in known.items() if name not in said}


def asynchronous_arguments(url: str) -> dict[str, Any]:
    """What asyncpg gets beside a URL, from what the same URL says to libpq."""
    kind, said = kind_and_words(url)
    if kind not in ("postgresql", "postgres"):
        return dict(MYSQL) if kind in ("mysql", "mariadb") else {}
    arguments: dict[str, Any] = dict(ASYNCPG)
    if int(said.get("connect_timeout") or 0):
        arguments["timeout"] = int(said["connect_timeout"])
    mode = said.get("sslmode", "")
    if mode in ("disable", "allow", "prefer"):
        arguments["ssl"] = mode
    elif mode:
        arguments["ssl"] = context(mode, said)
    return arguments


def context(mode: str, said: dict[str, str]) -> ssl.SSLContext:
    """Encryption as libpq has it: a given root certificate is looked at in every mode."""
    root = said.get("sslrootcert", "")
    made = ssl.create_default_context(cafile=root if root and root != "system" else None)
    made.check_hostname = mode == "verify-full"
    if mode == "require" and not root:
        made.verify_mode = ssl.CERT_NONE
    if said.get("sslcert"):
        made.load_cert_chain(said["sslcert"], said.get("sslkey") or None, said.get("sslpassword") or None)
    return made


def __getattr__(name: str) -> dict[str, Any]:
    """The arguments for this process' database, of which it learns when Airflow asks."""
    make = {"synchronous": synchronous_arguments, "asynchronous": asynchronous_arguments}.get(name)
    if make is None:
        raise AttributeError(name)
    from airflow.configuration import conf

    return make(conf.get("database", "sql_alchemy_conn"))
