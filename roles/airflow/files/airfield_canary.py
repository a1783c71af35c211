"""The DAG that a worker must pass before Airfield gives it queues: each run has one task, on one worker's private queue.

The task looks at what no other host can see for the worker (its clock, its release, its options and secrets, its way to the
bucket and to the result backend) and returns it as XCom; the module airflow_canary starts the runs and judges.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from socket import gethostname
from typing import Any

try:
    from airflow.sdk import dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.operators.python import get_current_context


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    tags=["airfield", "slack:off"],
    doc_md=__doc__,
)
def airfield_canary() -> None:
    @task(retries=0)
    def prove() -> None:
        """Report as XCom, then fail if anything is wrong, so that a red run in the UI means a refused worker."""
        context: Any = get_current_context()
        with own_secrets():
            report = look(context["run_id"])
        context["ti"].xcom_push("report", report)
        if report["problems"]:
            raise RuntimeError(" ".join(report["problems"]))

    prove()


def own_secrets() -> AbstractContextManager[None]:
    """The worker's secrets in the environment, which a task of a release with airfield_guard does not have there."""
    try:
        from airfield_guard.environment import restored
    except ImportError:
        return nullcontext()
    return restored()


def look(nonce: str) -> dict[str, Any]:
    """What the worker is like, and what does not work on it."""
    import hashlib
    import hmac
    import os
    import sys
    import time

    from airflow import __version__
    from airflow.configuration import conf

    key = conf.get("webserver" if __version__.startswith("2.") else "api", "secret_key")
    return {
        "time": time.time(),
        "release": os.path.basename(os.path.realpath(sys.prefix)),
        "options": {name: conf.get(*name.split(".", 1), fallback="") for name in SHARED_OPTIONS},
        # Proves the key without giving it away: the key is long and random.
        "key": hmac.new(key.encode(), nonce.encode(), hashlib.sha256).hexdigest(),
        "problems": [problem for problem in (try_bucket(nonce), try_result_backend()) if problem],
    }


# What must be equal on all hosts for a task to run anywhere.
SHARED_OPTIONS = (
    "celery_broker_transport_options.visibility_timeout",
    "core.default_timezone",
    "core.execution_api_server_url",
    "core.executor",
    "dag_processor.dag_bundle_config_list",
    "logging.remote_base_log_folder",
    "logging.remote_log_conn_id",
    "logging.remote_logging",
    "logging.worker_log_server_port",
)


def try_bucket(content: str) -> str:
    """Write, read and delete an object beside the logs with the worker's own credentials; what went wrong, or nothing."""
    from airflow.configuration import conf

    folder = conf.get("logging", "remote_base_log_folder")
    if not conf.getboolean("logging", "remote_logging") or not folder.startswith("s3://"):
        return ""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config
    from botocore.exceptions import ClientError

    try:
        # boto's own patience is ten minutes.
        config = Config(connect_timeout=5, read_timeout=10, retries={"max_attempts": 1})
        hook = S3Hook(aws_conn_id=conf.get("logging", "remote_log_conn_id") or None, config=config)
        bucket, prefix = S3Hook.parse_s3_url(folder)
        key = f"{prefix.rstrip('/')}/airfield_canary/{gethostname()}".lstrip("/")
        hook.load_string(content, key, bucket_name=bucket, replace=True)
        if hook.read_key(key, bucket_name=bucket) != content:
            return f"The bucket {folder} gave back something else than was written."
        # Keeping logs needs no right to delete them.
        with suppress(ClientError):
            hook.delete_objects(bucket, key)
    except Exception as error:  # boto's errors share no base
        remedy = "Remedy: let there be this bucket, and the account of airflow_logs_access_key read and write in it."
        return f"Logs cannot be kept in {folder}: {type(error).__name__}: {error}. {remedy}"
    return ""


def try_result_backend() -> str:
    """Log in to the result backend; what went wrong, or nothing."""
    from airflow.configuration import conf
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    url = make_url(conf.get("celery", "result_backend").removeprefix("db+"))
    if not url.get_backend_name().startswith(("postgresql", "mysql")):
        return ""
    try:
        with create_engine(url, connect_args={"connect_timeout": 10}).connect() as connection:
            connection.execute(text("select 1"))
    except Exception as error:  # drivers' errors share no base
        reason = str(getattr(error, "orig", error)).strip()
        return f"Celery's results cannot be kept at {url.host}:{url.port}/{url.database}: {reason}"
    return ""


airfield_canary()
