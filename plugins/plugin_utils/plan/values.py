"""What a variable's value must be like, beyond the type that its role documents.

A value is looked at before any template uses it: what one cannot work with ends elsewhere in an error of Jinja's that names
no variable.
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import ArgumentTypeError, ElementError, SubParameterTypeError
from ansible_collections.airfield.metal.plugins.module_utils import catalogue

NUMBERS = ("int", "float", "bool")
KINDS = {"list": "a list", "dict": "a mapping", "str": "a text", "path": "a path", "int": "a whole number", "float": "a number"}
# Variables whose values are shown to nobody.
SECRET = ("_connections", "_key", "_password", "_secret", "_secrets", "_token", "_url", "_users", "_variables")
# What some values need, so that everybody who meets them has the same.
OF_THE_CLUSTER = (
    "airflow_authentication",
    "airflow_base_url",
    "airflow_broker",
    "airflow_database",
    "airflow_gid",
    "airflow_group",
    "airflow_logs",
    "airflow_result_backend",
    "airflow_timezone",
    "airflow_uid",
    "airflow_user",
    "airflow_version",
    "airflow_visibility_timeout",
    "airflow_webserver_port",
)


@dataclass(frozen=True)
class Rule:
    """One demand on a value."""

    fits: Callable[[Any], bool]
    expected: str
    remedy: str = ""
    # Its value is shown to nobody.
    secret: bool = False
    # Templates of the precheck itself fail with a value that is none.
    blocks: bool = False


def is_int(value: Any) -> bool:
    """Whether a value is a whole number, as YAML or -e has one."""
    return isinstance(value, (int, str)) and not isinstance(value, bool) and re.fullmatch(r"[+-]?\d+", str(value)) is not None


def between(least: int, most: int | None = None) -> Rule:
    """A whole number; one that is none is told with its type."""
    expected = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    return Rule(lambda value: not is_int(value) or (int(value) >= least and (most is None or int(value) <= most)), expected)


def matching(pattern: str, expected: str, remedy: str = "", secret: bool = False) -> Rule:
    """A text of this form; an empty one is as good as none."""
    return Rule(lambda value: value == "" or re.fullmatch(pattern, str(value)) is not None, expected, remedy, secret)


def each(rule: Rule) -> Rule:
    """A list whose elements all fit."""
    return Rule(
        lambda value: not isinstance(value, list) or all(element != "" and rule.fits(element) for element in value),
        f"a list, each of them {rule.expected}",
        rule.remedy,
    )


def is_address(value: Any) -> bool:
    """A host's name or IPv4 address: with a scheme, a port or colons it would not fit into a URL."""
    return value == "" or re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?[.]?", str(value)) is not None


def has_web_address(value: Any) -> bool:
    """Whether a URL is one that a browser takes, with a host, and a port if there is one."""
    try:
        parts = urlsplit(str(value))
        return value == "" or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        return False


def has_one_host(value: Any) -> bool:
    """Whether a URL names a scheme, and at most one host with a port."""
    try:
        parts = urlsplit(str(value))
        return value == "" or ("://" in str(value) and (parts.port is None or parts.port > 0))
    except ValueError:
        return False


def is_time_zone(value: Any) -> bool:
    """Whether IANA has this zone; Airflow takes UTC for one that it does not know, without a word."""
    zones = zoneinfo.available_timezones()
    return value == "system" or not zones or value in zones


def suggested_time_zone(value: Any) -> str:
    """The one that was meant, for the end of a sentence."""
    return catalogue.suggest(str(value), sorted(zoneinfo.available_timezones()))


def is_autoscale(value: Any) -> bool:
    """Whether the least number of processes is no more than the most."""
    if not isinstance(value, dict) or not all(is_int(value.get(name)) for name in ("min", "max")):
        return True  # told with its fields
    return 0 <= int(value["min"]) <= int(value["max"]) and int(value["max"]) > 0


def is_environment(value: Any) -> bool:
    """Whether systemd takes all names, and all values are texts or numbers."""
    return not isinstance(value, dict) or all(
        re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)) and isinstance(body, (str, int, float))
        for name, body in value.items()
    )


def is_section(value: Any) -> bool:
    """Whether directives of a unit have names and values of their form; the host's systemd looks at the rest."""
    return not isinstance(value, dict) or all(
        re.fullmatch(r"[A-Z][A-Za-z0-9]+", str(name)) and body is not None and not isinstance(body, dict)
        for name, body in value.items()
    )


def has_fields(**rules: Rule) -> Rule:
    """A mapping some of whose fields have rules."""

    def fits(value: Any) -> bool:
        return not isinstance(value, dict) or all(
            rule.fits(value[name]) for name, rule in rules.items() if value.get(name) is not None
        )

    # Templates take them apart.
    return Rule(fits, "; ".join(f"{name}: {rule.expected}" for name, rule in rules.items()), blocks=True)


NAME = matching(r"[a-z_][a-z0-9_-]{0,31}", "a name of small letters, digits, _ and -, of at most 32 characters")
ACCOUNT = Rule(
    lambda value: NAME.fits(value) and value not in ("root", "nobody", ""), f"{NAME.expected}, but not root or nobody"
)
IDENTITY = Rule(
    lambda value: not is_int(value) or (0 < int(value) < 2**31 - 1 and int(value) not in (65534, 65535)),
    "a number from 1 to 2147483646, but not 65534 and 65535",
)
PORT = between(1, 65535)
COUNT = between(1)
AMOUNT = between(0)
PERCENT = between(0, 100)
ADDRESS = Rule(
    is_address, "a host's name or an IPv4 address, without scheme and port", "IPv6 is not supported yet", blocks=True
)
WEB = Rule(has_web_address, "a URL with http:// or https:// and a host")
FOLDER = matching(r"/.*", "a whole path, which begins with /")
UNIT = Rule(is_section, "a mapping of systemd's directives, each with a value, for example {Nice: 5}")
SERVICE_URL = Rule(
    has_one_host, "a URL with one host, as in postgresql://user:password@host:5432/name", secret=True, blocks=True
)
STORE = has_fields(
    bucket=matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3 to 63 small letters, digits, dots and hyphens"),
    endpoint_url=Rule(has_web_address, WEB.expected),
    region=matching(r"[a-z0-9-]+", "a region such as us-east-1"),
    prefix=matching(r"[^/\s].*", "a folder without / at its begin"),
)
SERVER = has_fields(host=ADDRESS, port=PORT, database=AMOUNT)
FILE = Rule(lambda value: Path(str(value)).expanduser().is_file(), "a file on the controller", blocks=True)
SIZE = matching(r"\d+([.]\d+)?[KMGTPE]?|\d+([.]\d+)?%|infinity", "a size as systemd takes it, such as 48G, 512M or 75%")

RULES: dict[str, Rule] = {
    "airflow_admin_email": matching(r"[^@\s]+@[^@\s]+", "an address such as admin@example.org"),
    "airflow_backup_access_key": matching(r"[\w.=@-]+", "letters, digits and . _ - = @ alone", secret=True),
    "airflow_backup_directory": FOLDER,
    "airflow_backup_keep": COUNT,
    "airflow_backup_keep_days": AMOUNT,
    "airflow_backup_public_key": matching(
        r"age1[02-9ac-hj-np-z]{58}|ssh-(ed25519|rsa) .+", "a public key of age's, age1 and 58 more characters"
    ),
    "airflow_backup_s3": STORE,
    "airflow_backup_test_days": AMOUNT,
    "airflow_base_url": WEB,
    "airflow_broker": SERVER,
    "airflow_broker_url": SERVICE_URL,
    "airflow_ca_file": FOLDER,
    "airflow_catalogue_file": FILE,
    "airflow_dags_keep": AMOUNT,
    "airflow_database": SERVER,
    "airflow_database_clean_batch_size": COUNT,
    "airflow_database_retention_days": AMOUNT,
    "airflow_database_url": SERVICE_URL,
    "airflow_disk_alert_percent": between(1, 100),
    "airflow_extras": each(matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "the name of an extra")),
    "airflow_flower_host": ADDRESS,
    "airflow_flower_port": PORT,
    "airflow_gid": IDENTITY,
    "airflow_group": ACCOUNT,
    "airflow_groups": each(ACCOUNT),
    "airflow_host": ADDRESS,
    "airflow_index_url": Rule(has_web_address, WEB.expected, secret=True),
    "airflow_journal_max_mb": COUNT,
    "airflow_local_log_days": AMOUNT,
    "airflow_local_log_max_mb": COUNT,
    "airflow_lock_file": FILE,
    "airflow_lock_timeout": COUNT,
    "airflow_log_retention_days": AMOUNT,
    "airflow_log_retention_rate": COUNT,
    "airflow_logs": STORE,
    "airflow_logs_access_key": matching(r"[\w.=@-]+", "letters, digits and . _ - = @ alone", secret=True),
    "airflow_minimum_free_mb": AMOUNT,
    "airflow_parallelism": AMOUNT,
    "airflow_proxy": WEB,
    "airflow_releases_keep": AMOUNT,
    "airflow_result_backend": SERVER,
    "airflow_result_backend_url": SERVICE_URL,
    "airflow_slack_flood_alerts": COUNT,
    "airflow_slack_flood_seconds": COUNT,
    "airflow_smtp": has_fields(host=ADDRESS, port=PORT),
    "airflow_system_packages": each(matching(r"[a-z0-9][a-z0-9+.:-]*(=\S+)?", "the name of a Debian package")),
    "airflow_timezone": Rule(is_time_zone, "a time zone of IANA's, such as Asia/Seoul"),
    "airflow_uid": IDENTITY,
    "airflow_user": ACCOUNT,
    "airflow_uv_cache": FOLDER,
    "airflow_visibility_timeout": between(60),
    "airflow_webserver_port": PORT,
    "airflow_worker_autoscale": Rule(is_autoscale, "min from 0 and no more than max"),
    "airflow_worker_batch": COUNT,
    "airflow_worker_canary_timeout": COUNT,
    "airflow_worker_concurrency": COUNT,
    "airflow_worker_cpu_quota": matching(r"\d+([.]\d+)?%", "a percentage of one processor, such as 200%"),
    "airflow_worker_drain_timeout": AMOUNT,
    "airflow_worker_environment": Rule(is_environment, "a mapping of variables' names (letters, digits, _) to texts"),
    "airflow_worker_memory_max": SIZE,
    "airflow_worker_minimum_percent": PERCENT,
    "airflow_worker_queues": each(
        matching(r"(?!canary[.])[^,\s\"'\\]+", "the name of one queue, without commas, quotes and spaces, not canary...")
    ),
    "airflow_worker_watchdog_patience": COUNT,
    "airflow_worker_writable_paths": each(matching(r"-?/.*", FOLDER.expected)),
    "mysql_max_connections": COUNT,
    "mysql_port": PORT,
    "postgresql_max_connections": COUNT,
    "postgresql_port": PORT,
    "redis_maxmemory": matching(r"(?i)\d+(b|k|kb|m|mb|g|gb)?", "a size as Redis takes it, such as 512mb or 2gb"),
    "redis_port": PORT,
    "seaweedfs_minimum_free_percent": between(0, 99),
    "seaweedfs_port": PORT,
    **{
        f"airflow_{component}_unit": UNIT
        for component in ("dag_processor", "flower", "logs", "scheduler", "slack", "triggerer", "webserver", "worker")
    },
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with a value."""

    text: str
    # Nothing can be known of the rest.
    blocks: bool


def shown(value: Any) -> str:
    """A value as the inventory may have it, shortened."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "..."


def kind_problem(name: str, value: Any, spec: Mapping[str, Any]) -> str:
    """Why a value is not of the kind of its variable, which Ansible would make of many another; empty where it is."""
    kind = spec.get("type", "str")
    given = "has a value of another kind" if name.endswith(SECRET) else f"is {shown(value)}"
    expected = KINDS.get(kind, "another kind of value")
    if value is None:
        return f"variable {name} has no value. Remedy: give it one, or remove the line."
    if (kind == "list" and not isinstance(value, list)) or (kind == "dict" and not isinstance(value, dict)):
        example = (
            f'["{value}"]' if kind == "list" and isinstance(value, str) and "is " in given else f"see docs/reference.md#{name}"
        )
        return f"variable {name} {given}, expected {expected}. Remedy: write {expected}, {example}."
    if kind in ("int", "float") and isinstance(value, bool):
        return f"variable {name} {given}, expected {expected}. Remedy: write a number."
    if kind in ("str", "path") and isinstance(value, (bool, float, list, dict)):
        return (
            f"variable {name} {given}, expected {expected}. Remedy: write it in quotes, as YAML makes another value of it else."
        )
    if kind == "list" and spec.get("elements", "raw") in ("str", "path"):
        wrong = [element for element in value if isinstance(element, (bool, float, list, dict)) or element is None]
        if wrong:
            return f"variable {name} has {shown(wrong[0])}, expected a list of texts. Remedy: write each in quotes."
    return ""


def has_wrong_type(name: str, value: Any, spec: Mapping[str, Any]) -> bool:
    """Whether the value, or something in it, is of another type than its role documents."""
    errors = ArgumentSpecValidator({name: {**spec, "required": False}}).validate({name: value}).errors
    return any(isinstance(error, (ArgumentTypeError, ElementError, SubParameterTypeError)) for error in errors.errors)


def find(values: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """All that is wrong with values; what the argument specs say by themselves is left to their own check."""
    problems = []
    for name, value in sorted(values.items()):
        if name not in specs:
            continue
        spec = specs[name]
        text = kind_problem(name, value, spec)
        if text:
            problems.append(Problem(text, spec.get("type", "str") not in NUMBERS))
            continue
        if spec.get("type") not in NUMBERS and has_wrong_type(name, value, spec):
            problems.append(Problem("", True))
            continue
        rule = RULES.get(name)
        if rule and not rule.fits(value):
            problems.append(Problem(broken(name, value, rule), rule.blocks))
        if name == "airflow_config":
            problems += [Problem(text, True) for text in option_problems(value)]
    return problems


def broken(name: str, value: Any, rule: Rule) -> str:
    """The sentence for a value that does not fit."""
    given = "has a value that does not fit" if rule.secret else f"is {shown(value)}"
    hint = suggested_time_zone(value) if name == "airflow_timezone" else ""
    note = f" ({rule.remedy})" if rule.remedy else ""
    return (
        f"variable {name} {given}, expected {rule.expected}.{hint} Remedy: correct it{note}; docs/reference.md has its meaning."
    )


def option_problems(config: Mapping[str, Any]) -> list[str]:
    """Sections that are none, and options without a value, which would be the text None."""
    problems = []
    for section, body in config.items():
        if not isinstance(body, dict):
            problems.append(
                f"variable airflow_config: [{section}] is {shown(body)}, expected a mapping of options. Remedy: write each "
                f"option below its section."
            )
            continue
        problems += [
            f"variable airflow_config: [{section}] {option} has no value. Remedy: give it one, or remove it, and Airflow's "
            f"default holds."
            for option, value in body.items()
            if value is None
        ]
    return problems


def unequal(
    values: Mapping[str, Any], others: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]], reference: str
) -> list[str]:
    """Variables of the whole cluster that a host has otherwise than the reference host."""
    problems = []
    for name in OF_THE_CLUSTER:
        default = specs.get(name, {}).get("default")
        mine, theirs = values.get(name, default), others.get(name, default)
        if specs.get(name, {}).get("type") == "int" and not is_int(mine):
            continue  # told with its type
        if mine is not None and theirs is not None and mine != theirs and str(mine) != str(theirs):
            problems.append(
                f"variable {name} is {shown(mine)}, but {shown(theirs)} for {reference}. Remedy: define it once for all hosts "
                f"(group_vars/all), not in host_vars or a smaller group."
            )
    return problems


def evaluation_problem(name: str, error: object) -> str:
    """Why a variable has no value, with the way out for a template that is Airflow's."""
    reason = " ".join(str(error).split())
    return (
        f"variable {name} cannot be evaluated: {reason}. Remedy: correct it in the inventory; where {{{{ }}}} is meant for "
        f"Airflow and not for Ansible, write !unsafe before the text, as in log_filename_template: !unsafe "
        f'"{{{{ ti.dag_id }}}}.log".'
    )


def texts(problems: Iterable[Problem]) -> list[str]:
    """The sentences; those that the argument specs' own check has are not there."""
    return [problem.text for problem in problems if problem.text]
