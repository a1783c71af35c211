"""Check options for airflow.cfg against what a release of Airflow declares.

A catalogue is the JSON document that roles/airflow/files/describe_release.py makes of a release.
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.airfield.metal.plugins.module_utils.files import read_json

BOOLEANS = ("t", "true", "1", "f", "false", "0")


def render_value(value: Any) -> str:
    """An option's value as Airflow's parser reads it; YAML's true becomes True, a list or dict becomes JSON."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True)
    return str(value)


def has_type(value: Any, kind: str) -> bool:
    """Whether Airflow's getint, getfloat or getboolean would accept the value."""
    text = render_value(value).strip()
    try:
        if kind == "int":
            int(text)
        elif kind == "float":
            float(text)
        elif kind == "bool":
            return text.lower() in BOOLEANS
    except ValueError:
        return False
    return True


def suggest(name: str, names: Iterable[str]) -> str:
    """The nearest of the names, as the end of a message; empty where none is near."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f' Did you mean "{near[0]}"?' if near else ""


def read(release: str, names: Collection[str]) -> tuple[dict[str, Any], str]:
    """What an installed release says of itself, and what is wrong with that; empty and nothing where there is no release.

    :arg names: what is needed of it.
    """
    found, problem = read_json(os.path.join(release, "airfield.json"), names)
    folder = os.path.realpath(release)
    remedy = f"Remedy: the release is damaged; remove {folder} on this host and run site.yml, which brings it anew."
    return found, f"{problem} {remedy}" if problem else ""


def find_problems(options: Mapping[str, Any], catalogue: Mapping[str, Any], unknown_sections: bool = False) -> list[str]:
    """What Airflow would not understand of the options, one sentence each.

    :arg options: section -> option -> value.
    :arg unknown_sections: accept sections that the catalogue does not have.
    """
    problems = []
    declared = catalogue["options"]
    every_name = [f"{section}.{option}" for section, body in declared.items() for option in body]
    for section, body in sorted(options.items()):
        if not isinstance(body, dict):
            problems.append(f"[{section}] must be a mapping of options, it is {body!r}.")
            continue
        if section in catalogue["free_sections"]:
            continue
        for option, value in sorted(body.items()):
            name = f"{section}.{option}"
            if any(line.lstrip().startswith(("#", ";")) for line in render_value(value).splitlines()[1:]):
                problems.append(f"[{section}] {option} has a line that begins with # or ;, which airflow.cfg would lose.")
            known = declared.get(section, {}).get(option)
            if known:
                if not has_type(value, known["type"]):
                    problems.append(
                        "[{}] {} must be of type {}, it is {!r}.".format(section, option, known["type"], render_value(value))
                    )
            elif name in catalogue["moved"]:
                new = catalogue["moved"][name]
                where = "it is now [{}] {}.".format(*new.split(".", 1)) if new else "it was removed and has no successor."
                problems.append(
                    "[{}] {} is not an option of Airflow {}: {}".format(section, option, catalogue["airflow"], where)
                )
            elif section not in declared and unknown_sections:
                continue
            else:
                hint = suggest(name, every_name)
                problems.append("[{}] {} is not an option of Airflow {}.{}".format(section, option, catalogue["airflow"], hint))
    return problems


def is_sensitive(section: str, option: str, catalogue: Mapping[str, Any]) -> bool:
    """Whether Airflow itself treats the option's value as a secret."""
    return bool(catalogue["options"].get(section, {}).get(option, {}).get("sensitive"))


def split_sensitive(
    options: Mapping[str, Mapping[str, Any]], catalogue: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Part options into those for airflow.cfg and those for an environment file (as AIRFLOW__SECTION__OPTION)."""
    plain: dict[str, dict[str, Any]] = {}
    environment: dict[str, str] = {}
    for section, body in options.items():
        for option, value in body.items():
            if is_sensitive(section, option, catalogue):
                environment[variable_name(section, option)] = render_value(value)
            else:
                plain.setdefault(section, {})[option] = value
    return plain, environment


def variable_name(section: str, option: str) -> str:
    """The environment variable that sets an option."""
    return "AIRFLOW__{}__{}".format(section.upper().replace(".", "_"), option.upper())


def render(options: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of airflow.cfg: sections and options sorted, `%` doubled for Airflow's parser."""
    lines = ["# Managed by Airfield: set options in the inventory, under airflow_config."]
    for section in sorted(options):
        lines += ["", f"[{section}]"]
        for option in sorted(options[section]):
            value = render_value(options[section][option]).replace("%", "%%").replace("\n", "\n    ")
            lines.append(f"{option} = {value}")
    return "\n".join(lines) + "\n"
