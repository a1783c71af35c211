"""Add the secrets that an inventory lacks to its own secrets file, on the controller."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.airfield.metal.plugins.plugin_utils import secrets, secrets_file

HEADER = "---\n# Made by Airfield; a run adds what is missing, and only a rotation of the Fernet key changes a line.\n"


def render(text: str, generated: dict[str, str]) -> str:
    """The file's text with the new secrets at its end; what stands there is kept to the letter."""
    if text and not text.endswith("\n"):
        text += "\n"
    return (text or HEADER) + yaml.safe_dump(generated, default_flow_style=False)


class ActionModule(ActionBase):
    """Generate what is missing; in check mode nothing is written, but the values are returned for the tasks after."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "secrets": {"type": "dict", "required": True},
                "given": {"type": "dict", "default": {}, "no_log": True},
            }
        )
        missing = {name: kind for name, kind in arguments["secrets"].items() if name not in (task_vars or {})}
        given = arguments["given"]
        generated = {
            name: str(given[name]) if name in given else secrets.KINDS[kind][0]() for name, kind in sorted(missing.items())
        }
        if generated and not self._task.check_mode:
            self._add(Path(arguments["path"]), generated)
        result.update(changed=bool(generated), secrets=generated, names=sorted(generated), path=arguments["path"])
        return result

    def _add(self, path: Path, generated: dict[str, str]) -> None:
        for sibling in (path.parent.with_name(path.parent.name + suffix) for suffix in (".yml", ".yaml")):
            if sibling.exists():
                raise AnsibleActionFail(
                    f"{path} was not written: beside a folder {path.parent.name}/ Ansible does not read {sibling}. "
                    f"Remedy: move {sibling} to {path.parent}/main.yml, or set airflow_secrets_file."
                )
        text = secrets_file.read(self._loader, path)
        for name in generated:
            if re.search(rf"^{name}\s*:", text, re.MULTILINE):
                raise AnsibleActionFail(
                    f"{path} holds {name}, but Ansible does not load that file for the hosts of this inventory. A second value "
                    f"would make what the first one encrypted unreadable. Remedy: set airflow_secrets_file to a file in "
                    f"group_vars/all of this inventory, and move the secrets there."
                )
        secrets_file.write(self._loader, path, render(text, generated))
