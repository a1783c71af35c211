"""Bring managed files and folders to their content, owner and mode, with a diff."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Collection
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils.stores import is_marked

# Suboptions of a module's list of files.
FILE_OPTIONS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
}


def read_text(path: str) -> str | None:
    """The content of a file, or None where there is none. What is no text differs from every text."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def read_json(path: str, names: Collection[str] = ()) -> tuple[dict[str, Any], str]:
    """A JSON file of ours, and what is wrong with it; empty and nothing where there is none.

    Nothing that is wrong with such a file may stop what reads it: it tells the problem, and makes the file anew where it can.

    :arg names: what must be in it.
    """
    try:
        with open(path, "rb") as stream:
            value = json.loads(stream.read())
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"{path} cannot be read ({error.strerror})."
    except (ValueError, RecursionError):
        value = None
    return (value, "") if isinstance(value, dict) and {*names} <= value.keys() else ({}, f"{path} is broken.")


def sync(path: str) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(temporary: str, path: str) -> None:
    """Give a file its name. After a power cut the old one or the new one has it, whole."""
    sync(temporary)
    os.replace(temporary, path)
    sync(os.path.dirname(path) or ".")


def set_attributes(module: AnsibleModule, path: str, mode: str, owner: str, group: str) -> bool:
    """Bring mode and owner of an existing path; returns whether they differed."""
    wanted = {"path": path, "mode": mode, "owner": owner, "group": group, "secontext": [None, None, None], "attributes": None}
    return module.set_fs_attributes_if_different(wanted, False)


def make_folders(path: str) -> None:
    """Make a folder and those above it, 0755 whatever the mask of root's shell is."""
    mask = os.umask(0o022)
    try:
        os.makedirs(path, exist_ok=True)
    finally:
        os.umask(mask)


def ensure_folder(module: AnsibleModule, path: str, mode: str = "0755", owner: str = "root", group: str = "root") -> bool:
    """Bring a folder, and those above it, into being; returns whether anything differed."""
    if os.path.isdir(path):
        return set_attributes(module, path, mode, owner, group)
    if not module.check_mode:
        make_folders(path)
        set_attributes(module, path, mode, owner, group)
    return True


def ensure_file(
    module: AnsibleModule, path: str, content: str, mode: str = "0644", owner: str = "root", group: str = "root"
) -> bool:
    """Bring a file to this content, mode and owner in one step; returns whether anything differed."""
    before = read_text(path)
    if before == content:
        return set_attributes(module, path, mode, owner, group)
    if not module.check_mode:
        folder = os.path.dirname(path)
        make_folders(folder)
        for leftover in glob.glob(os.path.join(glob.escape(folder), ".airfield-*")):
            os.unlink(leftover)  # of a run that was killed
        # Beside its destination and closed to others from its first byte; complete when it gets its name.
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".airfield-")
        module.add_cleanup_file(temporary)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(content)
        set_attributes(module, temporary, mode, owner, group)
        keep_copy(path, before, content)
        # Not module.atomic_move: it gives a file that is new the umask's mode, 0644 for a file of secrets.
        put_in_place(temporary, path)
    return True


def keep_copy(path: str, before: str | None, content: str) -> None:
    """Keep what somebody else wrote, and is replaced, beside the file with its owner and mode; the first copy stays."""
    copy = path + ".before-airfield"
    if before is None or is_marked(before) or not is_marked(content) or os.path.exists(copy) or os.path.islink(path):
        return
    shutil.copy2(path, copy)
    owner = os.stat(path)
    os.chown(copy, owner.st_uid, owner.st_gid)


def text_diff(path: str, before: str | None, after: str) -> list[dict[str, str]]:
    """An entry of a module's diff; empty where there is no difference."""
    if before == after:
        return []
    return [{"before_header": path, "after_header": path, "before": before or "", "after": after}]
