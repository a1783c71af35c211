"""Find values of variables with which no template can work, before one is used."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.airfield.metal.plugins.module_utils import objects
from ansible_collections.airfield.metal.plugins.plugin_utils import precheck
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import inventory, units, values

ROLES = Path(__file__).resolve().parents[2] / "roles"


class ActionModule(ActionBase):
    """Runs on the controller, once for each host; needs no connection."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        specs = inventory.documented(precheck.read_argument_specs(ROLES), task_vars["group_names"])
        raw = task_vars["hostvars"].raw_get(task_vars["inventory_hostname"])
        # Lookups of secrets may be in these, and one host has them checked later.
        of_objects = {name: raw[name] for name in objects.VARIABLES if name in raw and not isinstance(raw[name], str)}
        given, unreadable = inventory.read(
            raw, task_vars, self._templar, {name: spec for name, spec in specs.items() if name not in objects.VARIABLES}
        )
        found = [*(values.Problem(text, True) for text in unreadable), *values.find({**given, **of_objects}, specs)]
        problems = []
        if any(problem.blocks for problem in found):
            # The precheck that comes after says all of this, too, and more; it is not reached.
            problems = [
                *values.texts(found),
                *precheck.mistyped_variables(given, specs),
                *precheck.unknown_variables(inventory.ours(raw, task_vars["group_names"]), specs),
            ]
        scheduler = task_vars["groups"].get("airflow_scheduler", [])[:1]
        first = task_vars["inventory_hostname"] in scheduler
        result.update(changed=False, problems=problems, probes=units.probes(given, task_vars["group_names"], first))
        return result
