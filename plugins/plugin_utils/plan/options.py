"""Options of airflow.cfg that Airfield itself depends on: which of the operator's values work, and what to set instead.

Every option that roles/airflow/vars/main/options.yml and series.yml set is either here or in FREE (a test compares them).
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.airfield.metal.plugins.module_utils import catalogue
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import values

# The operator's word holds: whatever Airflow takes works here, too.
FREE = frozenset(
    {
        "celery.result_backend_sqlalchemy_engine_options",
        "celery_broker_transport_options.health_check_interval",
        "celery_broker_transport_options.socket_connect_timeout",
        "celery_broker_transport_options.socket_keepalive",
        "celery_broker_transport_options.socket_timeout",
        "celery_broker_transport_options.visibility_timeout",
        "core.load_examples",
        "core.parallelism",
        "dag_processor.refresh_interval",
        "logging.delete_local_logs",
        "logging.remote_logging",
        "scheduler.dag_dir_list_interval",
        "scheduler.task_queued_timeout",
        "workers.execution_api_retries",
        "workers.execution_api_timeout",
        "workers.max_failed_heartbeats",
    }
)


# Celery's executor, as people write it. Airfield's own goes by the same name.
CELERY = ("CeleryExecutor", "airflow.providers.celery.executors.celery_executor.CeleryExecutor")


def without_celery(options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options without an executor that is Celery's: it would take the place of Airfield's, which waits for its broker."""
    kept = {section: dict(body) for section, body in options.items()}
    if str(kept.get("core", {}).get("executor", "")).strip() in CELERY:
        del kept["core"]["executor"]
    return kept


@dataclass(frozen=True)
class Dependence:
    """An option, why not every value of it works, which do, and the remedy."""

    reason: str
    remedy: str
    fits: Callable[[Any], bool] = lambda value: False


def one_of(*texts: str) -> Callable[[Any], bool]:
    """Values that work, as Airflow reads them."""
    return lambda value: catalogue.render_value(value).strip().lower() in {text.lower() for text in texts}


def is_true(value: Any) -> bool:
    """Whether Airflow takes a value for true."""
    return catalogue.render_value(value).strip().lower() in ("t", "true", "1")


def is_celery_config(value: Any) -> bool:
    """Whether a value is a mapping, or JSON of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    return isinstance(value, dict)


def below(*folders: str) -> Callable[[Any], bool]:
    """Paths in folders that the units may write to."""
    return lambda value: str(value).startswith(tuple(f"{folder}/" for folder in folders)) and ".." not in str(value).split("/")


# Addresses of which the loopback interface's is one.
ANY = ("0.0.0.0", "::")  # noqa: S104 - the operator's, not ours
WRITABLE = ("/var/log/airflow", "/var/lib/airflow")
LOG_FOLDER = Dependence("components may write below /var/log/airflow alone", "choose a folder there", below(*WRITABLE))
WRITES = f"the units may write below {' and '.join(WRITABLE)} alone"
EVERYWHERE = Dependence(
    "Airfield asks the server by 127.0.0.1 whether it works, and workers by its name", "leave it out", one_of(*ANY)
)
NO_TLS = Dependence(
    "Airfield and the workers call the server without TLS",
    "leave it out, and put a proxy with TLS before it (airflow_base_url)",
)


def another(variable: str, reason: str = "other parts of the cluster need it, too") -> Dependence:
    """An option that has a variable."""
    return Dependence(reason, f"set {variable} instead")


DEPENDENCES: dict[str, Dependence] = {
    "api.auth_backends": Dependence(
        "people log in by a session, and the service that talks to Slack by name and password",
        "name both airflow.api.auth.backend.session and a backend basic_auth",
        lambda value: "session" in str(value) and "basic_auth" in str(value),
    ),
    "api.base_url": another("airflow_base_url"),
    "api.host": EVERYWHERE,
    "api.port": another("airflow_webserver_port"),
    "api.ssl_cert": NO_TLS,
    "api.ssl_key": NO_TLS,
    "celery.extra_celery_config": Dependence(
        "the workers' own options are added to it", "write a mapping, or JSON of one", is_celery_config
    ),
    "celery.worker_autoscale": another("airflow_worker_autoscale"),
    "celery.worker_concurrency": another("airflow_worker_concurrency", "the watchdog and the memory check count by it"),
    "celery.worker_enable_remote_control": Dependence("workers are drained and given queues by it", "leave it out", is_true),
    "celery.worker_umask": another("airflow_umask", "in a unit it does nothing"),
    "core.auth_manager": Dependence(
        "users, roles and the first administrator are those of FAB's",
        "leave it out; airflow_authentication lets LDAP or OAuth check passwords",
        one_of("airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"),
    ),
    "core.dags_folder": another("airflow_dags_source", "DAGs are delivered to /opt/airflow/dags/current"),
    "core.default_impersonation": Dependence(
        "no task can become another user (NoNewPrivileges)", "leave it out", lambda value: value in ("", None)
    ),
    "core.default_timezone": Dependence(
        "Airflow runs in UTC with a time zone that there is not", "set airflow_timezone instead", values.is_time_zone
    ),
    "core.execution_api_server_url": Dependence(
        "workers report to it", "write a URL with http:// or https:// and /execution/", values.has_web_address
    ),
    "core.executor": Dependence(
        "only workers of Celery's are run, drained and watched here",
        "leave it out",
        one_of(*CELERY),
    ),
    "core.plugins_folder": Dependence(
        "Airfield's own modules are in /opt/airflow/plugins, and the login of /docs with them",
        "put your plugins there, beside them",
    ),
    "dag_processor.dag_bundle_storage_path": Dependence(WRITES, "choose a folder there", below(*WRITABLE)),
    "database.external_db_managers": Dependence(
        "users are in FAB's tables", "name FAB's FABDBManager, too", lambda value: "FABDBManager" in str(value)
    ),
    "database.sql_alchemy_schema": Dependence(
        "migrations, backups and checks look at the default schema", "leave it out, and set the account's search_path"
    ),
    "fab.config_file": another("airflow_webserver_config", "the login is written there"),
    "logging.base_log_folder": Dependence(
        "logs are kept within bounds, uploaded and served from /var/log/airflow, and the units may write nowhere else",
        "leave it out, and mount the other disk at /var/log/airflow",
    ),
    "logging.dag_processor_child_process_log_directory": LOG_FOLDER,
    "logging.dag_processor_log_target": Dependence(
        "the units have no other place for it", "leave it out", one_of("file", "stdout")
    ),
    "logging.dag_processor_manager_log_location": LOG_FOLDER,
    "logging.remote_base_log_folder": another("airflow_logs", "the retention and the canary look at the same bucket"),
    "logging.remote_log_conn_id": another("airflow_logs, airflow_logs_access_key and airflow_logs_secret_key"),
    "scheduler.child_process_log_directory": LOG_FOLDER,
    "scheduler.enable_health_check": Dependence("Airfield asks it whether the scheduler works", "leave it out", is_true),
    "scheduler.scheduler_health_check_server_host": Dependence(
        "Airfield asks the scheduler by 127.0.0.1 whether it works",
        "leave it out",
        one_of("127.0.0.1", "localhost", *ANY),
    ),
    "scheduler.scheduler_health_check_server_port": Dependence(
        "Airfield asks the scheduler by port 8974 whether it works", "leave it out", one_of("8974")
    ),
    "scheduler.standalone_dag_processor": Dependence("the DAG processor has a unit of its own", "leave it out", is_true),
    "webserver.base_url": another("airflow_base_url"),
    "webserver.config_file": another("airflow_webserver_config", "the login is written there"),
    "webserver.web_server_host": EVERYWHERE,
    "webserver.web_server_port": another("airflow_webserver_port"),
    "webserver.web_server_ssl_cert": NO_TLS,
    "webserver.web_server_ssl_key": NO_TLS,
}


def dependence_problems(options: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Options with which Airflow starts and Airfield does not work, one sentence each.

    :arg own: what the roles set; the same value changes nothing.
    """
    problems = []
    for section, body in options.items():
        for option, value in body.items() if isinstance(body, Mapping) else ():
            dependence = DEPENDENCES.get(f"{section}.{option}")
            same = option in own.get(section, {}) and catalogue.render_value(own[section][option]) == catalogue.render_value(
                value
            )
            if dependence and not same and not dependence.fits(value):
                problems.append(
                    f"variable airflow_config: [{section}] {option} is {values.shown(value)}, which does not work here: "
                    f"{dependence.reason}. Remedy: {dependence.remedy}."
                )
    return sorted(problems)


def command_problems(options: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """Options that would be asked of a program or a secrets backend, in place of one that a variable has."""
    problems = []
    for name, variable in variables.items():
        section, dummy, option = name.partition(".")
        body = options.get(section)
        for suffix in ("_cmd", "_secret"):
            if isinstance(body, Mapping) and option + suffix in body:
                problems.append(
                    f"variable airflow_config: [{section}] {option}{suffix} would reach every component. Remedy: set "
                    f"{variable} instead; a lookup plugin of Ansible's can ask your store of secrets for it."
                )
    return problems


def find_problems(options: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], variables: Mapping[str, str]) -> list[str]:
    """What is wrong with the operator's options for Airfield; their names and types are Airflow's catalogue's matter."""
    return dependence_problems(options, own) + command_problems(options, variables)
