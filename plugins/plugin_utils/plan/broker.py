"""How Celery reaches its broker and keeps its results."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

REDIS = ("redis", "rediss", "sentinel")
# Without them a worker whose Redis vanishes waits for the kernel to give up: 932 s. With 3 s to connect it died at its start
# on a busy machine. The last one lets a connection that was idle be tried before it is used.
REDIS_TIMEOUTS = {"socket_timeout": 10, "socket_connect_timeout": 10, "socket_keepalive": True, "health_check_interval": 5}
# libpq's: what was sent and not acknowledged ends a connection after 20 s, and silence of the other side does so, too.
POSTGRESQL_TIMEOUTS = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# MySQL's client cannot tell a slow statement from a server that is gone: no limit for answers.
MYSQL_TIMEOUTS = {"connect_timeout": 10}


def transport_options(broker_url: str, visibility_timeout: int) -> dict[str, Any]:
    """[celery_broker_transport_options] for a broker. Only Redis' transport knows the time-outs."""
    options: dict[str, Any] = {"visibility_timeout": int(visibility_timeout)}
    return {**options, **REDIS_TIMEOUTS} if urlsplit(broker_url).scheme in REDIS else options


def result_engine_options(result_backend_url: str) -> dict[str, Any]:
    """[celery] result_backend_sqlalchemy_engine_options for a result backend; what its URL says stays as it says."""
    url = urlsplit(result_backend_url.removeprefix("db+"))
    kind = url.scheme.partition("+")[0]
    timeouts = {
        "postgresql": POSTGRESQL_TIMEOUTS,
        "postgres": POSTGRESQL_TIMEOUTS,
        "mysql": MYSQL_TIMEOUTS,
        "mariadb": MYSQL_TIMEOUTS,
    }.get(kind, {})
    said = dict(parse_qsl(url.query, keep_blank_values=True))
    arguments = {name: value for name, value in timeouts.items() if name not in said}
    return {"connect_args": arguments} if arguments else {}
