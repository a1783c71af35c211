"""Remember what a run has written, so that a file which somebody has changed since is found (module_utils/host_health.py)."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def path_of(name: str) -> str:
    """Where the record of a service's files is."""
    return f"/var/lib/airfield/{name}.written.json"


def record(path: str, files: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The record as a file to write, of files as `ensure_file` takes them: their hash, mode, and owner with group."""
    content = {
        file["path"]: {
            "sha256": hashlib.sha256(file["content"].encode()).hexdigest(),
            "mode": f"{int(file.get('mode', '0644'), 8):04o}",
            "owner": f"{file.get('owner', 'root')}:{file.get('group', 'root')}",
        }
        for file in files
    }
    # Hashes of secrets are for nobody else.
    return {"path": path, "content": json.dumps(content, indent=1, sort_keys=True) + "\n", "mode": "0600"}
