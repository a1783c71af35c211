from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import broker, options

VARS = Path(__file__).parents[5] / "roles/airflow/vars/main"
OWN: dict[str, dict[str, Any]] = {
    "core": {"executor": "CeleryExecutor"},
    "logging": {"base_log_folder": "/var/log/airflow"},
    "api": {"port": 8080},
}


def own_options() -> set[str]:
    """Every option that the roles set, for any series."""
    every = yaml.safe_load((VARS / "options.yml").read_text(encoding="utf-8"))["__airflow_options_of_every_series"]
    series = yaml.safe_load((VARS / "series.yml").read_text(encoding="utf-8"))["__airflow_series"]
    # The one section that comes from a function whole.
    every["celery_broker_transport_options"] = broker.transport_options("redis://", 1)
    bodies = [every, *(body["options"] for body in series.values())]
    return {f"{section}.{option}" for body in bodies for section, names in body.items() for option in names}


def test_every_option_of_ours_has_a_decision() -> None:
    # The precheck's own rules have these.
    elsewhere = {"dag_processor.dag_bundle_config_list"}
    assert own_options() - set(options.DEPENDENCES) - options.FREE - elsewhere == set()
    assert set(options.DEPENDENCES) & options.FREE == set()


@pytest.mark.parametrize("name", options.CELERY)
def test_executor_of_celery_does_not_replace_the_one_that_waits_for_its_broker(name: str) -> None:
    given = {"core": {"executor": name, "parallelism": 8}}
    assert options.without_celery(given) == {"core": {"parallelism": 8}}
    assert options.without_celery({"core": {"executor": "x"}, "api": {}}) == {"core": {"executor": "x"}, "api": {}}
    assert options.without_celery({"api": {"workers": 1}}) == {"api": {"workers": 1}}


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("core.plugins_folder", "/srv/plugins", "put your plugins there"),
        ("core.dags_folder", "/srv/dags", "set airflow_dags_source instead"),
        ("core.executor", "LocalExecutor", "leave it out"),
        ("core.executor", "CeleryExecutor,LocalExecutor", "leave it out"),
        ("core.default_timezone", "Asia/Kolkatta", "set airflow_timezone instead"),
        ("core.auth_manager", "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager", "leave it out"),
        ("core.execution_api_server_url", "web1:8080", "write a URL"),
        ("core.default_impersonation", "etl", "leave it out"),
        ("logging.base_log_folder", "/data/airflow/logs", "mount the other disk at /var/log/airflow"),
        ("logging.remote_base_log_folder", "s3://other", "set airflow_logs instead"),
        ("logging.remote_log_conn_id", "s3", "set airflow_logs"),
        ("logging.dag_processor_child_process_log_directory", "/data/x", "choose a folder there"),
        ("logging.dag_processor_child_process_log_directory", "/var/log/airflow/../x", "choose a folder there"),
        ("celery.worker_concurrency", 4, "set airflow_worker_concurrency instead"),
        ("celery.worker_autoscale", "8,2", "set airflow_worker_autoscale instead"),
        ("celery.worker_enable_remote_control", False, "leave it out"),
        ("celery.extra_celery_config", "{a: 1", "JSON of one"),
        ("scheduler.enable_health_check", "False", "leave it out"),
        ("scheduler.scheduler_health_check_server_port", 9000, "leave it out"),
        ("scheduler.scheduler_health_check_server_host", "10.0.0.1", "leave it out"),
        ("scheduler.standalone_dag_processor", False, "leave it out"),
        ("api.port", 9090, "set airflow_webserver_port instead"),
        ("api.base_url", "https://x", "set airflow_base_url instead"),
        ("api.host", "127.0.0.1", "leave it out"),
        ("api.ssl_cert", "/x.pem", "put a proxy with TLS before it"),
        ("api.auth_backends", "airflow.api.auth.backend.deny_all", "basic_auth"),
        ("webserver.web_server_port", 80, "set airflow_webserver_port instead"),
        ("fab.config_file", "/srv/w.py", "set airflow_webserver_config instead"),
        ("database.sql_alchemy_schema", "airflow", "search_path"),
        ("database.external_db_managers", "x.Y", "FABDBManager"),
    ],
)
def test_option_that_airfield_depends_on_is_refused_with_what_to_set(name: str, value: Any, remedy: str) -> None:
    section, _, option = name.partition(".")
    (problem,) = options.dependence_problems({section: {option: value}}, OWN)
    assert problem.startswith(f"variable airflow_config: [{section}] {option} is ")
    assert remedy in problem.partition("Remedy: ")[2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("core.executor", "CeleryExecutor"),
        ("core.executor", "airflow.providers.celery.executors.celery_executor.CeleryExecutor"),
        ("core.default_timezone", "Asia/Seoul"),
        ("core.parallelism", 64),
        ("core.load_examples", True),
        ("core.execution_api_server_url", "http://lb.example.org/execution/"),
        ("logging.base_log_folder", "/var/log/airflow"),
        ("logging.remote_logging", False),
        ("logging.dag_processor_child_process_log_directory", "/var/log/airflow/dags"),
        ("celery.extra_celery_config", {"worker_max_tasks_per_child": 100}),
        ("celery.extra_celery_config", '{"worker_max_tasks_per_child": 100}'),
        ("celery.worker_prefetch_multiplier", 1),
        ("scheduler.enable_health_check", True),
        ("api.port", "8080"),
        ("api.host", "0.0.0.0"),  # noqa: S104
        ("database.external_db_managers", "airflow.providers.fab.auth_manager.models.db.FABDBManager,x.Y"),
    ],
)
def test_option_that_works_is_the_operators(name: str, value: Any) -> None:
    section, _, option = name.partition(".")
    assert options.dependence_problems({section: {option: value}}, OWN) == []


def test_sections_that_are_none_are_told_elsewhere() -> None:
    assert options.dependence_problems({"core": None}, OWN) == []
    assert options.command_problems({"core": None}, {"core.fernet_key": "airflow_fernet_key"}) == []


@pytest.mark.parametrize("suffix", ["_cmd", "_secret"])
def test_secret_of_a_program_is_refused_with_its_variable(suffix: str) -> None:
    given = {"database": {f"sql_alchemy_conn{suffix}": "/opt/bin/secret db"}}
    (problem,) = options.command_problems(given, {"database.sql_alchemy_conn": "airflow_database_url"})
    assert f"[database] sql_alchemy_conn{suffix} would reach every component. Remedy: set airflow_database_url" in problem
