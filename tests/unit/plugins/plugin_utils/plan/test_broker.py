from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import broker


@pytest.mark.parametrize("url", ["redis://u:p@h:6379/0", "rediss://h/1", "sentinel://a:26379;sentinel://b:26379"])
def test_transport_options_have_timeouts_for_redis(url: str) -> None:
    options = broker.transport_options(url, 3600)
    assert options == {
        "visibility_timeout": 3600,
        "socket_timeout": 10,
        "socket_connect_timeout": 10,
        "socket_keepalive": True,
        "health_check_interval": 5,
    }


@pytest.mark.parametrize("url", ["amqp://u:p@h//", "amqps://h//", "sqs://"])
def test_transport_options_have_no_timeouts_that_another_transport_would_refuse(url: str) -> None:
    assert broker.transport_options(url, 86400) == {"visibility_timeout": 86400}


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        pytest.param("db+postgresql+psycopg2://u:p@h:5432/d", broker.POSTGRESQL_TIMEOUTS, id="postgresql"),
        pytest.param("db+postgresql://u:p@h/d?sslmode=verify-full", broker.POSTGRESQL_TIMEOUTS, id="other parameters"),
        pytest.param(
            "db+postgresql://h/d?connect_timeout=3&tcp_user_timeout=0",
            {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3},
            id="own word",
        ),
        pytest.param("db+mysql+mysqldb://h/d?charset=utf8mb4&ssl_mode=REQUIRED", {"connect_timeout": 10}, id="mysql"),
    ],
)
def test_result_engine_options_add_what_the_url_does_not_say(url: str, arguments: dict[str, Any]) -> None:
    assert broker.result_engine_options(url) == {"connect_args": arguments}


@pytest.mark.parametrize("url", ["redis://h/1", "rpc://", "db+sqlite:////tmp/x", "db+mysql://h/d?connect_timeout=5"])
def test_result_engine_options_leave_other_backends_alone(url: str) -> None:
    assert broker.result_engine_options(url) == {}
