"""Action plugin of the airflow_status module: says whether a cluster is well, and if not, what to do."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import health, status_report

display = Display()


def look(name: str, result: Mapping[str, Any]) -> health.Host:
    """A host by what airflow_info has registered for it."""
    if result.get("unreachable") or "health" not in result:
        # A module that has failed has its reason in the first, one that has died in the second.
        said = [result.get(part) for part in ("msg", "module_stderr", "exception")]
        reason = next((str(words) for words in said if words), "") or "it was not looked at"
        # Ansible's own frame around what ssh says.
        return health.Host(name, silent=reason.removeprefix("Task failed: ").rpartition(" can be reached over ssh: ")[2])
    return health.Host(name, facts=result["health"], clock=result.get("clock_offset"))


class ActionModule(ActionBase):
    """Runs once, on the controller; needs no connection."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, given = self.validate_argument_spec(
            argument_spec={
                "facts": {"type": "str", "required": True},
                "placement": {"type": "dict", "required": True},
                "services": {"type": "dict", "required": True},
                "housekeeping": {"type": "list", "elements": "str", "default": []},
                "version": {"type": "str", "required": True},
                "end_of_life": {"type": "str", "default": ""},
                "disk_percent": {"type": "float", "default": 85},
                "clock_skew": {"type": "float", "default": 2},
                "lock_timeout": {"type": "float", "default": 300},
                "format": {"type": "str", "choices": ["table", "json"], "default": "table"},
            }
        )
        names = task_vars["ansible_play_hosts_all"]
        wanted = health.components_of(given["placement"], given["services"], given["housekeeping"])
        limits = {name: given[name] for name in ("version", "end_of_life", "disk_percent", "clock_skew", "lock_timeout")}
        plan = health.Plan({name: wanted.get(name, []) for name in names}, **limits)
        hosts = {name: look(name, task_vars["hostvars"][name].get(given["facts"]) or {}) for name in names}
        arguments = context.CLIARGS
        inventories = [min(os.path.relpath(path), path, key=len) for path in arguments.get("inventory") or ()]
        installed = any("." in path and not path.endswith((".yml", ".yaml")) for path in arguments.get("args") or ())
        findings = [
            replace(finding, remedy=status_report.with_inventory(finding.remedy, inventories, installed))
            for finding in health.find(plan, hosts)
        ]
        document = status_report.document(plan, hosts, findings, time.time())
        if given["format"] == "json":
            display.display(json.dumps(document))
        else:
            display.display("\n" + status_report.text(plan, hosts, findings))
        # Of a task that fails Ansible would show the whole of it once more.
        result.update({"changed": False, "msg": document["summary"]})
        result.update({"status": document} if document["well"] else {"failed": True})
        return result
