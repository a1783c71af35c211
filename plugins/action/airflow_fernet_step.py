"""Move the rotation of the Fernet key one step on, in the inventory's secrets file on the controller."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.airfield.metal.plugins.plugin_utils import secrets, secrets_file

NAME = "airflow_fernet_key"
# For those who keep the key in a place of their own.
BY_HAND = {
    "announce": 'OLD,NEW,OLD": your present key, a new one, and your present one again',
    "use": 'NEW,OLD": remove the first of its keys',
    "drop": 'NEW": remove all keys but the first',
}


def next_step(keys: list[str], begin: bool) -> str:
    """Which step brings a value with these keys further; none where the rotation is at its end."""
    if keys[0] in keys[1:]:
        return "use"
    if len(keys) > 1:
        return "drop"
    return "announce" if begin else ""


def take_step(step: str, keys: list[str]) -> list[str]:
    """The keys after a step."""
    if step == "announce":
        # The old one in front, where it goes on to encrypt: nobody may use the new one before all know it. And once more at
        # the end, which tells this value from the next one.
        return [keys[0], secrets.random_fernet_key(), keys[0]]
    return keys[1:] if step == "use" else keys[:1]


class ActionModule(ActionBase):
    """In check mode nothing is written, but the value is returned for the tasks after."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "value": {"type": "str", "required": True, "no_log": True},
                "begin": {"type": "bool", "default": False},
            }
        )
        path, value = Path(arguments["path"]), arguments["value"]
        keys = [key.strip() for key in value.split(",")]
        step = next_step(keys, arguments["begin"])
        result.update(changed=False, step=step, value=value, by_hand="")
        if not step:
            return result
        after = ",".join(take_step(step, keys))
        text = self._replace(path, keys, after)
        if not text:
            result["by_hand"] = (
                f'{NAME} is not kept as a plain line of {path}, so it is yours to change. Set it to "{BY_HAND[step]}. '
                f"Then run this playbook again."
            )
            return result
        if not self._task.check_mode:
            secrets_file.write(self._loader, path, text)
        result.update(changed=True, value=after)
        return result

    def _replace(self, path: Path, keys: list[str], after: str) -> str:
        """The file's text with the value after the step; empty where the value before is not from there."""
        text = secrets_file.read(self._loader, path)
        # What the command line sets would still be there after the file was changed.
        if NAME in load_extra_vars(self._loader) or NAME not in text:
            return ""
        value = str((self._loader.load(text, file_name=str(path), show_content=False) or {}).get(NAME, ""))
        present = [key.strip() for key in value.split(",")]
        # In check mode the file is still where the rotation begins, and that key stays one of them to the end.
        if present != keys and not (self._task.check_mode and present[0] in keys):
            return ""
        try:
            return secrets_file.replace_value(text, NAME, after)
        except ValueError:
            return ""
