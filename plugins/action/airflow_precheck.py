"""Find what is wrong with the inventory and a host, before anything is changed."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.airfield.metal.plugins.module_utils import objects
from ansible_collections.airfield.metal.plugins.plugin_utils import login, precheck
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import (
    account,
    capacity,
    inventory,
    options,
    ownership,
    units,
)
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import values as typed

ROLES = Path(__file__).resolve().parents[2] / "roles"


class ActionModule(ActionBase):
    """Runs on the controller, once for each host; needs no connection."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, given = self.validate_argument_spec(
            argument_spec={
                "facts": {"type": "dict", "required": True},
                "platforms": {"type": "list", "elements": "dict", "required": True},
                "version": {"type": "str", "required": True},
                "end_of_life": {"type": "str", "default": ""},
                "versions": {"type": "list", "elements": "str", "required": True},
                "secrets": {"type": "dict", "required": True},
                "generated": {"type": "list", "elements": "str", "required": True},
                "reference": {"type": "str", "required": True},
                "options": {"type": "dict", "required": True},
                "own_options": {"type": "dict", "default": {}},
                "variables": {"type": "dict", "required": True},
                "catalogue_file": {"type": "path", "required": True},
                "extra_packages": {"type": "bool", "required": True},
                "disks": {"type": "dict", "required": True},
                "memory_mb": {"type": "int", "required": True},
                "clock_offsets": {"type": "dict", "required": True},
                "clock_skew": {"type": "float", "required": True},
                "topology": {"type": "list", "elements": "str", "required": True},
                "objects": {"type": "bool", "required": True},
                "schema": {"type": "list", "elements": "str", "default": []},
                "components": {"type": "list", "elements": "str", "default": []},
                "slots": {"type": "int", "default": 0},
            }
        )
        host = task_vars["inventory_hostname"]
        specs = inventory.documented(precheck.read_argument_specs(ROLES), task_vars["group_names"])
        raw = task_vars["hostvars"].raw_get(host)
        # They have rules of their own, and belong to the cluster: one host has them checked.
        own: dict[str, Any] = {name: {} for name in objects.VARIABLES}
        of_host = {name: spec for name, spec in specs.items() if name not in own}
        values, problems = inventory.read(raw, task_vars, self._templar, of_host)
        if given["objects"]:
            of_objects, found = inventory.read(raw, task_vars, self._templar, own)
            problems += found + precheck.object_problems(of_objects)
        facts = given["facts"]
        warnings = [precheck.end_of_life(given["version"], given["end_of_life"])] if given["end_of_life"] else []
        wanted = account.read_wanted(values)
        # With values that are none, the commands of the remedy would do harm.
        if given["components"] and wanted and not typed.find(account.variables(wanted), specs):
            problems += account.find_problems(facts, wanted, values.get("airflow_take_over", []))
            warnings += account.unnamed_groups(wanted.user, facts["other_groups"])
        if given["slots"]:
            warnings += capacity.warnings(given["slots"], values.get("airflow_parallelism"), self._pools(raw, task_vars))
        problems += precheck.unknown_variables(inventory.ours(raw, task_vars["group_names"]), specs)
        problems += precheck.mistyped_variables(values, specs)
        problems += typed.texts(typed.find(values, specs))
        problems += units.find_problems(facts)
        problems += self._foreign(facts, values, task_vars, given["schema"])
        authentication = values.get("airflow_authentication", {"type": "database"})
        if not precheck.mistyped_variables({"airflow_authentication": authentication}, specs):
            problems += login.find_problems(
                authentication, values.get("airflow_oauth_client_secrets"), values.get("airflow_roles")
            )
        problems += [*given["topology"], *facts.get("broken", [])]
        problems += precheck.unsupported_version(given["version"], given["versions"])
        problems += precheck.unsupported_platform(facts, given["platforms"])
        problems += precheck.unfit_secrets(values, given["secrets"], given["generated"])
        problems += precheck.unequal_secrets(
            values, self._variables_of(given["reference"], given["secrets"], task_vars), given["secrets"], given["reference"]
        )
        if given["components"]:
            problems += typed.unequal(
                values, self._variables_of(given["reference"], typed.OF_THE_CLUSTER, task_vars), specs, given["reference"]
            )
        problems += precheck.abandoned_fernet_key(values, facts["fernet_keys"])
        problems += precheck.misplaced_options(given["options"], given["variables"])
        problems += options.find_problems(given["options"], given["own_options"], given["variables"])
        if given["version"] in given["versions"]:
            declared = json.loads(Path(given["catalogue_file"]).read_text(encoding="utf-8"))
            problems += precheck.option_problems(given["options"], declared, given["extra_packages"])
        problems += precheck.scarce_resources(facts, given["disks"], given["memory_mb"])
        problems += precheck.skewed_clock(host, given["clock_offsets"], given["clock_skew"])
        problems += precheck.unreachable_services(facts)
        problems += precheck.unfit_database_urls(values)
        problems += precheck.unfit_mysql_settings(values)
        state = facts.get("database", {}).get("mysql")
        problems += precheck.unfit_mysql([*facts["mysql_servers"], *([state] if state else [])])
        result.update(changed=False, problems=problems)
        if warnings:
            result["warnings"] = warnings
        return result

    def _pools(self, raw: Any, task_vars: Any) -> list[Any]:
        """The operator's pools, as far as they can be read: what is wrong with them is told elsewhere."""
        pools = inventory.read(raw, task_vars, self._templar, {"airflow_pools": {}})[0].get("airflow_pools")
        return pools if isinstance(pools, list) else []

    @staticmethod
    def _foreign(facts: dict[str, Any], values: dict[str, Any], task_vars: Any, schema: list[str]) -> list[str]:
        """What is there and is not Airfield's, or not of this cluster."""
        host, hostvars = task_vars["inventory_hostname"], task_vars["hostvars"]
        taken = values.get("airflow_take_over", [])
        cluster = str(values.get("airflow_cluster") or "")
        problems = ownership.foreign_cluster(facts["cluster"], cluster, taken)
        problems += ownership.foreign_files(facts["unmarked"], taken)
        if "postgresql" in facts["stores"]:
            addresses = {
                name: hostvars[name].get("__airflow_host", {}).get("address", "") for name in task_vars["ansible_play_hosts"]
            }
            addresses = {name: address for name, address in addresses.items() if address}
            problems += ownership.foreign_clients(facts["stores"]["postgresql"], addresses, bool(facts["cluster"]), taken)
        own = {
            host,
            facts["address"],
            *(str(task_vars[name]) for name in ("airflow_host", "ansible_host") if name in task_vars),
        }
        unused = ownership.unused_services(values, task_vars["groups"], own)
        same = bool(cluster) and facts["cluster"] == cluster
        return [*problems, *ownership.foreign_stores(facts["stores"], unused, same, taken), *schema]

    @staticmethod
    def _variables_of(host: str, names: Any, task_vars: Any) -> dict[str, Any]:
        others = task_vars["hostvars"][host]
        # What needs the role's own variables has no value in there.
        found = {}
        for name in names:
            with contextlib.suppress(AnsibleError):
                if name in others:
                    found[name] = others[name]
        return found
