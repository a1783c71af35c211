"""Filters for URLs, options, workers, the login, keys, versions, and where DAGs come from."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import math
import pprint
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.airfield.metal.plugins.module_utils import catalogue, dag_source
from ansible_collections.airfield.metal.plugins.plugin_utils import age_key, login, upgrade_path
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import (
    broker,
    capacity,
    database,
    object_store,
    ownership,
    schema,
    upgrade,
    web_server,
)
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import options as plan_options
from ansible_collections.airfield.metal.plugins.plugin_utils.precheck import report, unfit_mysql


def url_quote(text: Any) -> str:
    """Quote every character that has a meaning in a URL, "/" among them, and "~", which Airflow would expand."""
    return quote(str(text), safe="").replace("~", "%7E")


def unit_environment(variables: dict[str, Any]) -> list[str]:
    """Assignments as systemd's Environment= reads them back unchanged."""
    return [
        '"' + re.sub(r'(["\\])', r"\\\1", f"{name}={value}").replace("%", "%%").replace("\n", "\\n") + '"'
        for name, value in sorted(variables.items())
    ]


def python_literal(value: Any) -> str:
    """A value of YAML's as one of Python's source."""
    # Ansible's own kinds of text and mapping become plain ones.
    return pprint.pformat(json.loads(json.dumps(value)), width=120)


def split(options: dict[str, dict[str, Any]], catalogue_file: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Part the operator's options by the catalogue in a file, which is not even read when there are none."""
    if not options:
        return {}, {}
    with open(catalogue_file, encoding="utf-8") as stream:
        return catalogue.split_sensitive(options, json.load(stream))


def plain_options(options: dict[str, dict[str, Any]], catalogue_file: str) -> dict[str, dict[str, Any]]:
    """Those of the options that may stand in airflow.cfg."""
    return plan_options.without_celery(split(options, catalogue_file)[0])


def secret_options(options: dict[str, dict[str, Any]], catalogue_file: str) -> dict[str, str]:
    """Those of the options that Airflow treats as secrets, as environment variables."""
    return split(options, catalogue_file)[1]


def source_problems(source: Any, variable: str) -> list[str]:
    """What is wrong with the form of a variable that says where DAGs come from."""
    return dag_source.find_problems(variable, source)


def workers_needed(queues_by_worker: dict[str, list[str]], worker: str, percent: int | str) -> dict[str, int]:
    """How many other workers must consume each queue of a worker before it may leave it; none where it is alone."""
    needed = {}
    for queue in queues_by_worker[worker]:
        number = sum(queue in queues for queues in queues_by_worker.values())
        needed[queue] = min(number - 1, math.ceil(number * int(percent) / 100))
    return needed


def worker_batch(queues_by_worker: dict[str, list[str]], batch: int | str, percent: int | str) -> int:
    """How many workers may be out at the same time: as many as asked for, as long as enough others have each queue."""
    spare = [int(batch)]
    for worker, queues in queues_by_worker.items():
        needed = workers_needed(queues_by_worker, worker, percent)
        for queue in queues:
            number = sum(queue in others for others in queues_by_worker.values())
            if number > 1:
                spare.append(number - needed[queue])
    return max(1, min(spare))


def schema_problems(state: dict[str, Any], version: str, releases: str, taken_over: list[str], cluster: str) -> list[str]:
    """Why a run that nobody asked to upgrade must leave the metadata database as it is."""
    foreign = ownership.foreign_database(state["cluster"], cluster, taken_over)
    if foreign:
        return foreign
    known = upgrade_path.schema_version(state["revisions"], map(str, Path(releases).glob("airflow-*.json")))
    return schema.schema_problems(state, version, known, taken_over)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {
            "age_recipient": age_key.recipient,
            "content_hash": dag_source.content_hash,
            "database_environment": database.environment,
            "interrupted_upgrade": upgrade.interrupted_upgrade,
            "login_secrets": login.environment,
            "login_server": login.server,
            "login_settings": login.settings,
            "login_type": login.kind_of,
            "own_paths": ownership.own_paths,
            "schema_problems": schema_problems,
            "mysql_problems": unfit_mysql,
            "problem_report": report,
            "options_of_component": capacity.options_of_component,
            "parallelism": capacity.parallelism,
            "plain_options": plain_options,
            "python_literal": python_literal,
            "result_engine_options": broker.result_engine_options,
            "s3_accounts": object_store.s3_accounts,
            "schema_version": upgrade_path.schema_version,
            "secret_options": secret_options,
            "source_problems": source_problems,
            "transport_options": broker.transport_options,
            "unfinished_problem": upgrade.unfinished_problem,
            "unit_environment": unit_environment,
            "units_to_resume": upgrade.units_to_resume,
            "upgrade_problem": upgrade_path.upgrade_problem,
            "web_server_plan": web_server.plan,
            "with_default_pool": capacity.with_default_pool,
            "worker_batch": worker_batch,
            "worker_slots": capacity.worker_slots,
            "workers_needed": workers_needed,
            "url_quote": url_quote,
        }
