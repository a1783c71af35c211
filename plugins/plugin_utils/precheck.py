"""The rules that an inventory and its hosts must meet before a run changes anything.

Every function returns problems, each one sentence that names the variable (or what was looked at) and the remedy. None of
them ever holds the value of a secret.
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import UnsupportedError
from ansible_collections.airfield.metal.plugins.module_utils import catalogue, objects
from ansible_collections.airfield.metal.plugins.plugin_utils import secrets

# What MySQL needs besides its defaults, and what comes of it otherwise.
MYSQL_VARIABLES = {
    "explicit_defaults_for_timestamp": "dates in Airflow's tables would change by themselves",
    "log_bin_trust_function_creators": "a migration to Airflow 3 would end half-way, and could not be undone",
}
# The driver sends several statements at once, as migrations do (CLIENT_MULTI_STATEMENTS).
MULTI_STATEMENTS = 65536
PREFIXES = ("airflow_", "mysql_", "redis_", "postgresql_", "seaweedfs_")


def read_argument_specs(roles: Path) -> dict[str, dict[str, Any]]:
    """Every variable that the roles document, by name."""
    options: dict[str, dict[str, Any]] = {}
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        # libyaml's loader: the pure Python one takes most of a second for our specs, on every host of every run.
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        for entry_point in document["argument_specs"].values():
            options.update(entry_point.get("options") or {})
    return options


def unknown_variables(names: Iterable[str], specs: Mapping[str, Any]) -> list[str]:
    """Variables with one of our prefixes that no role documents: most likely mistyped, and without effect."""
    return [
        f"variable {name} is not one of Airfield's.{catalogue.suggest(name, list(specs))} "
        f"Remedy: correct its name; a variable of your own needs another prefix."
        for name in sorted(names)
        if name.startswith(PREFIXES) and name not in specs
    ]


def mistyped_variables(values: Mapping[str, Any], specs: Mapping[str, dict[str, Any]]) -> list[str]:
    """Variables whose value is not of the documented type or not one of the documented choices."""
    problems = []
    for name, value in sorted(values.items()):
        if name not in specs:
            continue
        validator = ArgumentSpecValidator({name: {**specs[name], "required": False}})
        for error in validator.validate({name: value}).errors:
            # Ansible's own message is only the field's name.
            message = f"unknown field {error.msg}" if isinstance(error, UnsupportedError) else error.msg
            problems.append(f"variable {name}: {message.rstrip('.')}. Remedy: see `ansible-doc -t role` or docs/reference.md.")
    return problems


def unfit_secrets(values: Mapping[str, Any], kinds: Mapping[str, str], generated: Iterable[str]) -> list[str]:
    """Secrets that are weak, public, malformed, or missing and not ours to generate."""
    problems = []
    for name, kind in sorted(kinds.items()):
        if name in values:
            fault = secrets.problem(kind, values[name])
            if fault:
                problems.append(
                    f"secret {name} {fault}. Remedy: set another, or remove it and a run generates it into the secrets file."
                    if name in generated
                    else f"secret {name} {fault}. Remedy: set another, in a file encrypted with ansible-vault."
                )
        elif name not in generated:
            problems.append(
                f"secret {name} is missing: it belongs to a service that is yours, so it cannot be generated. "
                f"Remedy: set it in a file encrypted with ansible-vault."
            )
    return problems


def unequal_secrets(mine: Mapping[str, Any], others: Mapping[str, Any], names: Iterable[str], reference: str) -> list[str]:
    """Secrets that differ from those of the reference host."""
    return [
        f"secret {name} differs from that of {reference}. Remedy: define it once for all hosts (group_vars/all), not in "
        f"host_vars or a smaller group."
        for name in sorted(names)
        if name in mine and name in others and mine[name] != others[name]
    ]


def abandoned_fernet_key(values: Mapping[str, Any], running: Mapping[str, list[str]]) -> list[str]:
    """A Fernet key that is in use on the host and that the inventory no longer has."""
    value = str(values.get("airflow_fernet_key") or "")
    if value and secrets.problem("fernet", value):
        return []  # told by unfit_secrets
    given = [hashlib.sha256(key.strip().encode()).hexdigest() for key in value.split(",")]
    # The first of the keys is the one that encrypts.
    if all(keys[0] in given for keys in running.values() if keys):
        return []
    return [
        "secret airflow_fernet_key lacks the key with which this host encrypts (AIRFLOW__CORE__FERNET_KEY in "
        "/etc/airflow/*.env): connections and variables would become unreadable. Remedy: use the present secrets file, in "
        'which another controller may have rotated the key; or put that key behind the new one, as "new,old". If this host was '
        "away during a rotation, or nothing encrypted is needed any more, remove /etc/airflow/*.env from it."
    ]


def unsupported_platform(facts: Mapping[str, Any], platforms: list[dict[str, str]]) -> list[str]:
    """An operating system, or its Python, that nobody has tried."""
    system, python = facts["distribution"], facts["python"]
    if any(p["id"] == system["id"] and p["version"] == system["version"] and p["python"] == python for p in platforms):
        return []
    known = ", ".join(f"{p['id']} {p['version']} with Python {p['python']}" for p in platforms)
    return [
        f"runs {system['id']} {system['version']} with Python {python}, supported are: {known}. "
        f"Remedy: take this host out of the inventory, or install a supported system."
    ]


def unsupported_version(version: str, supported: Iterable[str]) -> list[str]:
    """A version of Airflow for which there is no lock."""
    if version in supported:
        return []
    return [
        f"variable airflow_version: there is no lock for Airflow {version}, only for {', '.join(sorted(supported))}. "
        f"Remedy: choose one of these, or give a lock of your own by airflow_lock_file and airflow_catalogue_file."
    ]


def end_of_life(version: str, month: str) -> str:
    """A warning, for one who may have reasons."""
    return (
        f"Airflow {version} reached its end of life in {month}: nobody mends it any more, not even where an attacker gets in. "
        f"Upgrade to 3.x."
    )


def scarce_resources(facts: Mapping[str, Any], disks: Mapping[str, int], memory_mb: int) -> list[str]:
    """Too little free disk space or too little memory for what the inventory puts on the host."""
    problems = [
        f"has {facts['disks'][path]} MB free for {path}, {needed} MB are needed. "
        f"Remedy: free space there, or lower airflow_minimum_free_mb."
        for path, needed in sorted(disks.items())
        if facts["disks"][path] < needed
    ]
    if facts["memory_mb"] < memory_mb:
        problems.append(
            f"has {facts['memory_mb']} MB of memory, its components need {memory_mb} MB. Remedy: move a component or "
            f"lower airflow_worker_concurrency; airflow_memory_check: false skips this check."
        )
    return problems


def skewed_clock(host: str, offsets: Mapping[str, float], most: float) -> list[str]:
    """A clock away from the other hosts': signatures and tokens then fail hours later, far from the cause.

    The controller only carries the measurement; its own clock may be wrong.
    """
    middle = statistics.median_low(offsets.values())
    worst = max(offsets, key=lambda name: abs(offsets[name] - middle))
    offset = offsets[host] - middle
    apart = max(offsets.values()) - min(offsets.values())
    if abs(offset) <= most and not (apart > most and host == worst):
        return []
    word = "ahead of" if offset > 0 else "behind"
    return [
        f"its clock is {abs(offset):.1f} s {word} the other hosts', at most {most:g} s (airflow_maximum_clock_skew) are "
        f"allowed between any two. Remedy: set up time synchronisation (systemd-timesyncd or chrony) on all hosts."
    ]


def unreachable_services(facts: Mapping[str, Any]) -> list[str]:
    """Names that have no address on the host, and services of the operator's that it cannot connect to."""
    return [
        f"cannot resolve {name}. Remedy: give it an address in DNS or /etc/hosts, or set airflow_host of that host to one."
        for name in facts["unresolvable"]
    ] + [
        f"cannot reach the {failure}. Remedy: correct the host, port or firewall; see airflow_database, airflow_broker, "
        f"airflow_result_backend, airflow_logs and airflow_authentication."
        for failure in facts["unanswered"]
    ]


def unfit_mysql(servers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Servers, as module airflow_info describes them, that are not MySQL, or not as Airflow needs it."""
    problems: dict[str, None] = {}
    for server in servers:
        name = f"the database server {server['host']}:{server['port']}"
        version, variables = server["version"], server.get("variables", {})
        if "mariadb" in version.lower():
            problems[
                f"{name} is MariaDB ({version}), on which Airflow is not tested: the migration from 2.11 to 3.3 ends half-way, "
                f"as its REGEXP_REPLACE is another, and only one scheduler can work, as Airflow locks no rows there. "
                f"Remedy: use MySQL 8.0 or later, or PostgreSQL."
            ] = None
            continue
        if int((re.findall(r"^\d+", version) or ["0"])[0]) < 8:
            problems[f"{name} is MySQL {version}. Remedy: use 8.0 or later."] = None
        for variable, consequence in MYSQL_VARIABLES.items():
            # Without a binary log nobody asks whether a function may be in it.
            needless = variable.startswith("log_bin") and variables.get("log_bin") == "OFF"
            if variables.get(variable) == "OFF" and not needless:
                problems[
                    f"{name} has the variable {variable} OFF, and {consequence}. Remedy: `SET PERSIST {variable} = ON`, or set "
                    f"it in the server's option file or parameter group."
                ] = None
        if server.get("charset", "utf8mb4") != "utf8mb4":
            problems[
                f"{name} has the character set {server['charset']} for the database, which lacks letters. Remedy: `ALTER "
                f"DATABASE ... CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci` before Airflow makes its tables."
            ] = None
    return list(problems)


def unfit_mysql_settings(values: Mapping[str, Any]) -> list[str]:
    """Settings for our own MySQL that take away what Airflow needs."""
    settings = values.get("mysql_settings")
    if not isinstance(settings, Mapping):
        return []  # told by mistyped_variables
    return [
        f"variable mysql_settings: with {name} off {MYSQL_VARIABLES[name]}. Remedy: leave it out."
        for name, value in sorted((str(name).replace("-", "_"), value) for name, value in settings.items())
        if name in MYSQL_VARIABLES and str(value).lower() in ("0", "off", "false")
    ]


def unfit_database_urls(values: Mapping[str, Any]) -> list[str]:
    """URLs for a database, or a driver, with which Airflow fails, now or in a migration."""
    problems = []
    for name in ("airflow_database_url", "airflow_result_backend_url"):
        # A fault in a URL is told by who connects, without the password.
        scheme, dummy, rest = str(values.get(name) or "").removeprefix("db+").partition(":")
        kind, dummy, driver = scheme.partition("+")
        if kind == "mariadb":
            problems.append(f"variable {name} is for MariaDB, on which Airflow is not tested. Remedy: use MySQL or PostgreSQL.")
        elif kind == "mysql" and driver == "pymysql" and name == "airflow_database_url":
            flags = parse_qs(urlsplit(rest).query).get("client_flag", ["0"])[0]
            if not flags.isdigit() or not int(flags) & MULTI_STATEMENTS:
                problems.append(
                    f"variable {name} has the driver pymysql, which refuses several statements at once: a migration to "
                    f"Airflow 3 would end half-way, and could not be undone. Remedy: begin it with mysql+mysqldb://, or add "
                    f"client_flag={MULTI_STATEMENTS}."
                )
        elif kind == "mysql" and driver not in ("", "mysqldb", "pymysql"):
            problems.append(
                f"variable {name} has the driver {driver}, which Airflow is not tested with. Remedy: begin it with "
                f"{'db+' if name == 'airflow_result_backend_url' else ''}mysql+mysqldb://."
            )
    return problems


def option_problems(options: Mapping[str, Any], declared: Mapping[str, Any], extra_packages: bool) -> list[str]:
    """Options for airflow.cfg that this release does not have, or not with such a value.

    A package of the operator's may bring sections that the shipped catalogue does not know: those are checked on the
    host, against the installed release, before the file is written.
    """
    return [
        f"variable airflow_config: {problem} Remedy: correct it in the inventory."
        for problem in catalogue.find_problems(options, declared, unknown_sections=extra_packages)
    ]


def misplaced_options(options: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """Options that have a variable of their own, which gives them to the components that need them and to no other."""
    given = {f"{section}.{option}" for section, body in options.items() if isinstance(body, Mapping) for option in body}
    return [
        "variable airflow_config: [{}] {} would reach every component. Remedy: set {} instead.".format(
            *name.split(".", 1), variables[name]
        )
        for name in sorted(given & set(variables))
    ]


def object_problems(values: Mapping[str, Any]) -> list[str]:
    """What nobody needs Airflow for to see that it is wrong with connections, variables, pools, roles and users."""
    wanted, problems = objects.read_wanted({kind: values[name] for name, kind in objects.VARIABLES.items() if name in values})
    for name, fields in wanted["users"].items():
        fault = secrets.problem("password", fields["password"]) if fields["password"] is not None else ""
        if fault:
            remedy = "set another, in a file encrypted with ansible-vault"
            problems.append(objects.blame("users", name, f"password {fault}.", remedy))
    return problems


def report(problems_by_host: Mapping[str, list[str]]) -> str:
    """All problems of all hosts as one text; one that several hosts share is named once."""
    hosts_by_problem: dict[str, list[str]] = {}
    for host, problems in problems_by_host.items():
        for problem in problems:
            hosts_by_problem.setdefault(problem, []).append(host)
    return "\n".join(f"{', '.join(hosts)}: {problem}" for problem, hosts in hosts_by_problem.items())
