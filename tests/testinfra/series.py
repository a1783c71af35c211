"""What a cluster of each series of Airflow has to be like, as far as they differ."""

from __future__ import annotations

from dataclasses import dataclass, field

ANYWHERE = "0.0.0.0"  # noqa: S104 - what is looked for, not what is bound
# Who has the metadata database, by Airflow's own security model: on 3.x a worker has neither that nor a key to what is in it.
CONTROL = {"scheduler", "dag-processor", "triggerer", "cli"}


@dataclass(frozen=True)
class Series:
    """Where a path or a value has {web}, it is the first web server's name."""

    web: str
    # Of the API: where it is, what tells that a component lives, and the fewest paths that its description may have.
    api: str
    monitor: str
    descriptions: tuple[tuple[str, str], ...]
    paths: int
    # What answers a caller who has not logged in, and how all else refuses: Airflow 2 looks at the request first.
    open: frozenset[str]
    refusals: frozenset[int]
    # What whoever has no right login is answered with.
    wrong_login: int
    closed_pages: tuple[str, ...]
    # Pages about the API, for who has logged in, with a word that is on them.
    manuals: tuple[tuple[str, str], ...]
    login_page: str
    # Environment variable -> the components that have it; what both series have is in test_secrets.py.
    secrets: dict[str, set[str]]
    # Variables whose values no process of a worker may have.
    not_for_workers: frozenset[str]
    # Groups whose hosts may connect to the metadata database.
    database_clients: tuple[str, ...]
    # Of airflow.cfg, beside what both have.
    options: dict[tuple[str, str], str]
    # The option that says how soon a new DAG is seen, and what the inventory may set it by.
    refresh: tuple[str, str]
    listeners: dict[str, set[str]] = field(default_factory=dict)


AIRFLOW_3 = Series(
    web="api-server",
    api="/api/v2",
    monitor="/api/v2/monitor/health",
    descriptions=(("/openapi.json", ""),),
    paths=60,
    # Health, version, and the way to the login; the rest of the API is for those who are logged in.
    open=frozenset({"/api/v2/monitor/health", "/api/v2/version", "/api/v2/auth/login", "/api/v2/auth/logout"}),
    refusals=frozenset({401, 403}),
    wrong_login=401,
    closed_pages=(
        *("/docs", "/redoc", "/openapi.json", "/auth/docs", "/auth/redoc", "/auth/openapi.json", "/execution/docs"),
        *("/ui/config", "/ui/dags", "/auth/fab/v1/users", "/auth/fab/v1/roles", "/auth/users/list/", "/auth/roles/list/"),
    ),
    manuals=(("/docs", "docs"), ("/auth/docs", "docs"), ("/execution/docs", "docs")),
    login_page="/auth/login",
    secrets={
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": CONTROL | {"api-server"},
        "AIRFLOW__CORE__FERNET_KEY": CONTROL | {"api-server"},
        "AIRFLOW__API_AUTH__JWT_SECRET": {"api-server", "scheduler", "cli"},
        "AIRFLOW__API__SECRET_KEY": {"api-server", "triggerer", "worker", "cli"},
    },
    not_for_workers=frozenset({"airflow_database_password", "airflow_jwt_secret", "airflow_fernet_key"}),
    database_clients=("airflow_scheduler", "airflow_webserver"),
    options={
        ("core", "execution_api_server_url"): "http://{web}:8080/execution/",
        ("workers", "max_failed_heartbeats"): "20",
        ("workers", "execution_api_retries"): "12",
        ("workers", "execution_api_timeout"): "30",
    },
    refresh=("dag_processor", "refresh_interval"),
    listeners={
        "airflow_scheduler": {f"{ANYWHERE}:8794", "[::]:8794"},
        "airflow_worker": {f"{ANYWHERE}:8793", "[::]:8793"},
    },
)
AIRFLOW_2 = Series(
    web="webserver",
    api="/api/v1",
    monitor="/health",
    descriptions=(("/api/v1/openapi.yaml", "/api/v1"), ("/auth/fab/v1/openapi.yaml", "/auth/fab/v1")),
    paths=50,
    open=frozenset({"/api/v1/health", "/api/v1/version"}),
    refusals=frozenset({400, 401, 403, 404, 415}),
    wrong_login=403,
    closed_pages=(
        *("/home", "/dags/x/grid", "/object/grid_data", "/configuration", "/variable/list/", "/connection/list/"),
        *("/auth/fab/v1/users", "/auth/fab/v1/roles", "/users/list/", "/roles/list/"),
    ),
    manuals=(("/api/v1/ui/", "swagger"),),
    login_page="/login/",
    secrets={
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": CONTROL | {"webserver", "worker"},
        "AIRFLOW__CORE__FERNET_KEY": CONTROL | {"webserver", "worker"},
        "AIRFLOW__WEBSERVER__SECRET_KEY": {"webserver", "triggerer", "worker", "cli"},
    },
    not_for_workers=frozenset({"airflow_jwt_secret"}),
    database_clients=("airflow_scheduler", "airflow_webserver", "airflow_worker"),
    options={
        ("scheduler", "standalone_dag_processor"): "True",
        ("webserver", "base_url"): "http://{web}:8080",
        ("webserver", "web_server_port"): "8080",
    },
    refresh=("scheduler", "dag_dir_list_interval"),
    # Its log servers bind one socket for IPv4 and IPv6.
    listeners={"airflow_scheduler": {"*:8794"}, "airflow_worker": {"*:8793"}},
)


def of(version: str) -> Series:
    """That of a version of Airflow."""
    return AIRFLOW_2 if version.startswith("2.") else AIRFLOW_3
