"""Write a managed file in one step, with a diff."""

# Copyright: (c) 2026, The Airfield developers
# MIT License (see LICENSE)

from __future__ import annotations

import os
import tempfile


def read_text(path):
    """The content of a file, or None where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write_text(module, path, content, mode, owner="root", group="root"):
    """Bring a file to this content, mode and owner; nothing is written in check mode.

    :arg module: the AnsibleModule at work.
    :arg mode: permission bits, an int such as 0o640.
    :returns: True where the content, the mode or the owner differed.
    """
    before = read_text(path)
    if before != content:
        if not module.check_mode:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            # Beside its destination and closed to others from its first byte; atomic_move puts it in place.
            handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".airfield-")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(content)
            module.add_cleanup_file(temporary)
            os.chmod(temporary, mode)
            module.atomic_move(temporary, path, keep_dest_attrs=False)
        elif before is None:
            return True
    file_args = {
        "path": path,
        "mode": mode,
        "owner": owner,
        "group": group,
        "secontext": [None, None, None],
        "attributes": None,
    }
    if before is None and module.check_mode:
        return True
    attributes_changed = module.set_fs_attributes_if_different(file_args, False)
    return before != content or attributes_changed
