"""What a process takes at its start from its account and from the host, beside its unit and its files.

Not here, as it comes into force without a restart, or only by a boot, which restarts everything: names (/etc/hosts,
resolv.conf), the locale and limits of PID 1, kernel parameters, and programs that a task starts.
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import hashlib
import os
import pwd
from collections.abc import Iterable
from typing import Any


def numbers_of(user: str) -> list[int]:
    """Uid, gid, then all groups that a process of the user starts with; empty where there is no such user."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return []
    return [account.pw_uid, account.pw_gid, *sorted(os.getgrouplist(user, account.pw_gid))]


def files_below(path: str) -> list[str]:
    """The file, or the files below a folder that are the operator's: Airfield's own are known by their names."""
    if os.path.isfile(path):
        return [path]
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [os.path.join(folder, name) for name in names if not name.startswith(("airfield_", ".airfield-"))]
    return sorted(found)


def content_hash(path: str) -> str:
    """A hash of a file, or of all files below a folder with their names; empty where there is none."""
    digest = hashlib.sha256()
    files = files_below(path)
    for name in files:
        digest.update(os.path.relpath(name, path).encode() + b"\0")
        try:
            with open(name, "rb") as stream:
                digest.update(hashlib.sha256(stream.read()).digest())
        except OSError:
            digest.update(b"unreadable")  # a link that leads nowhere
    return digest.hexdigest() if files else ""


def surroundings(user: str, reads: Iterable[str], localtime: str = "/etc/localtime") -> dict[str, Any]:
    """All of it, to be compared with what it was."""
    return {
        "account": numbers_of(user),
        "reads": {path: content_hash(path) for path in reads if path},
        "timezone": os.path.realpath(localtime),
    }
