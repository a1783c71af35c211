"""Describe an installed Airflow release as one JSON document on standard output.

Run with the release's own Python. The document holds what Airfield needs to know about a release without starting
Airflow, which costs 2 CPU seconds each time (docs/performance.md):

- ``airflow``: the version of apache-airflow-core (apache-airflow on 2.x).
- ``options``: section -> option -> ``{"type": ..., "sensitive": true}``, from Airflow's config.yml and from every
  installed provider. Types are str, int, float and bool.
- ``free_sections``: sections in which any option is accepted, because Airflow passes them on unread.
- ``moved``: "section.option" -> "section.option" of its present name, or null where it was removed.
- ``heads``: table of applied migrations -> revision that a migrated database has there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import sys
import tempfile
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

TYPES = {"string": "str", "integer": "int", "float": "float", "boolean": "bool"}
MIGRATIONS = {
    "alembic_version": "airflow/migrations",
    "alembic_version_fab": "airflow/providers/fab/migrations",
}
# What migrates the tables of others than Airflow. Airflow 2 lacks it: it makes FAB's tables itself and applies nothing to them.
MANAGER = "airflow/utils/db_manager.py"


def option_type(option: dict[str, Any]) -> str:
    """The type of an option; the declared one is "string" for many booleans, the default tells them."""
    if str(option.get("default")) in ("True", "False"):
        return "bool"
    return TYPES.get(option.get("type", "string"), "str")


def read_options(site_packages: Path) -> dict[str, dict[str, Any]]:
    """Every option that the installed Airflow and its providers declare."""
    import yaml  # not before the venv's own packages are known to be complete

    config = yaml.safe_load((site_packages / "airflow/config_templates/config.yml").read_text())
    sections = [config]
    for distribution in distributions(path=[str(site_packages)]):
        for entry in distribution.entry_points:
            if entry.group == "apache_airflow_provider":
                module = site_packages / (entry.module.replace(".", "/") + ".py")
                sections.append(runpy.run_path(str(module))[entry.attr]().get("config") or {})
    options: dict[str, dict[str, Any]] = {}
    for declared in sections:
        for section, body in declared.items():
            for name, option in (body.get("options") or {}).items():
                row: dict[str, Any] = {"type": option_type(option)}
                if option.get("sensitive"):
                    row["sensitive"] = True
                options.setdefault(section, {})[name] = row
    return options


def read_moved(options: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    """Former names of options, from the list behind `airflow config lint` and from the parser's own."""
    from airflow.cli.commands.config_command import CONFIGS_CHANGES
    from airflow.configuration import conf

    moved: dict[str, str | None] = {
        f"{section}.{option}": f"{new_section}.{new_option}"
        for (new_section, new_option), (section, option, since) in conf.deprecated_options.items()
    }
    for change in CONFIGS_CHANGES:
        name = f"{change.config.section}.{change.config.option}"
        if change.renamed_to:
            moved[name] = f"{change.renamed_to.section}.{change.renamed_to.option}"
        elif change.was_removed and change.remove_if_equals is None:
            moved[name] = None
    names = {f"{section}.{option}" for section, body in options.items() for option in body}
    present: dict[str, str | None] = {}
    for name, successor in moved.items():
        if name not in names:
            # An option may have moved more than once.
            new, steps = successor, 0
            while new and new not in names and steps < len(moved):
                new, steps = moved.get(new), steps + 1
            present[name] = new if new in names else None
    return present


def read_heads(site_packages: Path) -> dict[str, str]:
    """The newest revision of each chain of database migrations."""
    from alembic.script import ScriptDirectory

    heads = {}
    for table, folder in MIGRATIONS.items():
        if (site_packages / folder).is_dir() and (table == "alembic_version" or (site_packages / MANAGER).exists()):
            (heads[table],) = ScriptDirectory(str(site_packages / folder)).get_heads()
    return heads


def try_to_start() -> None:
    """Raise where Airflow or its Celery commands do not start, which consistent packages are no proof of."""
    from airflow.cli.cli_parser import get_parser

    # Where the provider cannot be imported, the parser knows no command `celery`, and exits.
    get_parser().parse_args(["celery", "worker"])
    # What the command itself imports, late.
    importlib.import_module("airflow.providers.celery.executors.celery_executor_utils")


def main() -> None:
    import yaml

    site_packages = Path(yaml.__file__).parents[1]
    options = read_options(site_packages)
    with tempfile.TemporaryDirectory() as home:
        # Importing Airflow writes below AIRFLOW_HOME.
        os.environ["AIRFLOW_HOME"] = home
        # Airflow 2 knows the commands of the executor that it is told of alone, which it refuses with its own SQLite.
        os.environ["AIRFLOW__CORE__EXECUTOR"] = "CeleryExecutor"
        os.environ["_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK"] = "1"
        # Airflow logs to standard output, where the document belongs.
        with contextlib.redirect_stdout(sys.stderr):
            try_to_start()
            document = {
                "airflow": version("apache-airflow"),
                "free_sections": sorted(section for section in options if section.endswith("_transport_options")),
                "heads": read_heads(site_packages),
                "moved": read_moved(options),
                "options": options,
            }
    json.dump(document, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
