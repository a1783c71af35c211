"""Read what the inventory and the command line set of our variables."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.airfield.metal.plugins.plugin_utils.plan.values import evaluation_problem


def documented(specs: Mapping[str, Any], groups: Collection[str]) -> dict[str, Any]:
    """The variables that count on a host. Many a role for MySQL has names like ours, which count where our server is."""
    return {name: specs[name] for name in ours(specs, groups)}


def ours(names: Iterable[str], groups: Collection[str]) -> list[str]:
    """Those of the names that could be Airfield's on a host."""
    others = () if "mysql" in groups else ("mysql_",)
    return [name for name in names if not name.startswith(others)]


def read(
    raw: Iterable[str], variables: Mapping[str, Any], templar: Any, specs: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Values of the variables that the inventory sets, templated, and what cannot be.

    :arg raw: names that the inventory and the command line set for the host.
    :arg variables: the variables of the task.
    """
    values, problems = {}, []
    for name in raw:
        if name in specs:
            try:
                values[name] = templar.template(variables[name])
            except AnsibleError as error:
                problems.append(evaluation_problem(name, error))
    return values, problems
