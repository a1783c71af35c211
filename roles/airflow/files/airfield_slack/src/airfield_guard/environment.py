"""The environment of a process that runs the code of DAGs: without the secrets that it has no use for, and the rest masked."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

# The account that Airflow's own processes write task logs with.
LOGS = "AIRFLOW_CONN_AIRFLOW_LOGS"
CONNECTIONS = "AIRFLOW_CONN_"
# Sections of airflow.cfg whose secrets are for Airflow's own processes; of all others, such as [smtp], operators make use.
SECTIONS = ("api", "api_auth", "celery", "webserver")
# Tasks of Airflow 2 use the database themselves.
SECTIONS_3 = (*SECTIONS, "database")
FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
# Whether or not Airflow calls them sensitive in this process, where providers may not be loaded yet.
SENSITIVE = frozenset(
    {
        FERNET_KEY,
        "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__CELERY__BROKER_URL",
        "AIRFLOW__CELERY__RESULT_BACKEND",
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__SENTINEL_KWARGS",
        "AIRFLOW__CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS__SENTINEL_KWARGS",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC",
        "AIRFLOW__WEBSERVER__SECRET_KEY",
    }
)
# prctl(2).
PR_SET_DUMPABLE = 4
# Fields of /proc/self/stat after the name, proc_pid_stat(5): bounds of the environment that the process was started with.
ENV_START, ENV_END = 47, 48
# What was withdrawn from this process. A process that was forked has it in its memory, whether or not it stands here.
kept: dict[str, str] = {}
# Airflow's maskers, each of which is one of its own: of 3.x for tasks and for the rest, and of 2.x.
MASKERS = ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker", "airflow.utils.log.secrets_masker")


@cache
def sensitive_names() -> frozenset[str]:
    """Variables for options that Airflow declares as sensitive."""
    from airflow.configuration import conf

    options = getattr(conf, "sensitive_config_values", ())
    return SENSITIVE | {f"AIRFLOW__{section.replace('.', '_')}__{key}".upper() for section, key in options}


def withdrawn(names: Iterable[str], sensitive: Iterable[str], sections: Iterable[str]) -> set[str]:
    """Those of the variables that the code of DAGs has no use for."""
    secret = {name for name in names if name in sensitive}
    prefixes = tuple(
        f"AIRFLOW__{section}{end}".upper()
        for section in sections
        # The options of Celery's transports are a section each.
        for end in (("_", "__") if section == "celery" else ("__",))
    )
    keys = {FERNET_KEY} if "database" in sections else set()
    return {name for name in secret if name.startswith(prefixes)} | (secret & keys) | ({LOGS} & set(names))


def passwords(value: str) -> Iterator[str]:
    """What is secret in a value beside the whole of it: the passwords in a URL or in JSON."""
    with suppress(ValueError):
        found = urlsplit(value).password
        if found:
            yield found
            yield unquote(found)
    with suppress(ValueError):
        document = json.loads(value)
        if isinstance(document, dict):
            yield from (str(document[name]) for name in ("password", "sentinel_password") if document.get(name))


def forms(secret: str) -> set[str]:
    """How a secret shows where it is printed: as it is, in a URL, in JSON, and in what Python shows of it or of a list."""
    shown = repr(secret)[1:-1]
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], shown, repr(shown)[1:-1]}


def secrets(environment: Mapping[str, str], sensitive: Iterable[str]) -> set[str]:
    """All that is to be masked of an environment."""
    found = set()
    for name, value in environment.items():
        if not value or not (name in sensitive or name.startswith(CONNECTIONS)):
            continue
        parts = {value, *passwords(value)}
        if name == LOGS:
            with suppress(ValueError, AttributeError):
                parts.add(str(json.loads(value).get("login") or ""))
        # An empty in-memory database is no secret, and a mask of few letters would hide half a log.
        found |= {form for part in parts if len(part) > len("sqlite://") for form in forms(part)}
    return found


def mask() -> None:
    """Let Airflow strike out of the logs of this process, and of those that it forks, what its environment has of secrets."""
    found = secrets(os.environ, sensitive_names())
    for name in MASKERS:
        # Only those in use: the others would be loaded by this.
        masker: Any = sys.modules.get(name)
        for secret in sorted(found) if masker else ():
            masker.mask_secret(secret)


def redact(text: str) -> str:
    """A text as the logs of this process would show it."""
    for name in MASKERS:
        masker: Any = sys.modules.get(name)
        if masker:
            text = str(masker.redact(text))
    return text


def withdraw(sections: Iterable[str]) -> None:
    """Take from this process, and from those that it starts, the secrets that the code of DAGs has no use for."""
    kept.update({name: os.environ.pop(name) for name in withdrawn(os.environ, sensitive_names(), sections)})
    erase(filter(None, kept.values()))


@contextmanager
def restored() -> Iterator[None]:
    """The environment as it was, for Airfield's canary, which proves a worker's own secrets."""
    os.environ.update(kept)
    try:
        yield
    finally:
        for name in kept:
            os.environ.pop(name, None)


def erase(values: Iterable[str]) -> None:
    """Erase values where the kernel shows them as those that the process was started with, in /proc/self/environ."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[ENV_START]), int(fields[ENV_END])
    if not 0 < start < end:
        return
    memory = ctypes.string_at(start, end - start)
    for value in map(str.encode, values):
        place = memory.find(value)
        while place >= 0:
            ctypes.memset(start + place, 0, len(value))
            place = memory.find(value, place + len(value))


def hide_memory() -> None:
    """Keep other processes of the same user from reading this one's memory and environment."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def guard_children(supervisor: Any) -> None:
    """Of Airflow 3, whose supervisors fork for the code of DAGs: tasks, DAG files, triggers."""
    start: Callable[..., Any] = supervisor.WatchedSubprocess.start.__func__
    fork_main: Callable[..., Any] = supervisor._fork_main

    def masked_start(cls: Any, *arguments: Any, **options: Any) -> Any:
        # Of tasks Airflow forgets all masks with each; it is the supervisor that writes the log.
        mask()
        return start(cls, *arguments, **options)

    def withdrawn_main(*arguments: Any, **options: Any) -> Any:
        if "airflow.jobs.triggerer_job_runner" in sys.modules:
            from airflow.models.crypto import get_fernet

            # It keeps the key, which the arguments of triggers are encrypted with.
            get_fernet()
        withdraw(SECTIONS_3)
        return fork_main(*arguments, **options)

    supervisor.WatchedSubprocess.start = classmethod(masked_start)
    supervisor._fork_main = withdrawn_main


def guard_raw_task(task_command: Any) -> None:
    """Of Airflow 2, where this runs a task in a process of its own."""
    run: Callable[..., Any] | None = getattr(task_command, "_run_raw_task", None)
    if run is None:
        return

    def withdrawn_run(*arguments: Any, **options: Any) -> Any:
        mask()
        withdraw(SECTIONS)
        hide_memory()
        return run(*arguments, **options)

    task_command._run_raw_task = withdrawn_run
