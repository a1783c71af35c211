#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_lock
short_description: Let one run at a time work on a cluster
version_added: "0.1.0"
description:
  - Takes the lock of a cluster, a file on one of its hosts, for the rest of the run. Where another run has it, the task fails
    and says who, from where and since when. A run may take its lock again.
  - A process on the controller renews the lock while C(ansible-playbook) lives, and removes it when that process has ended,
    however it has. It needs a connection that runs a program for each command, such as C(ssh) or C(local).
  - The next run takes over a lock that has not been renewed for O(timeout), and at once that of a run that it knows to be
    dead, because it would be running on the same controller.
options:
  path:
    description: The file of the lock. Beside it there is one that ends in C(.guard), which stays.
    type: path
    default: /var/lib/airfield/run.lock
  timeout:
    description:
      - Seconds after its last renewal, by the host's clock, at which a lock counts no more. It is renewed five times as often.
      - Must be the same for all runs.
    type: int
    default: 300
  force:
    description: Take the lock from whoever has it. That run does not notice, so it must be dead.
    type: bool
    default: false
  owner:
    description: Set by the action plugin.
    type: dict
    suboptions:
      run:
        description: Identity of the run.
        type: str
        required: true
      who:
        description: User and host name of the controller.
        type: str
        required: true
      machine:
        description: Identity of the controller, and of the space in which its processes are numbered.
        type: str
        required: true
      boot:
        description: Identity of the controller's last start; empty where it has none.
        type: str
        required: true
      pid:
        description: Number of the C(ansible-playbook) process.
        type: int
        required: true
      started:
        description: When that process started, in clock ticks since the controller did; empty where that is not known.
        type: str
        required: true
      playbook:
        description: File names of the run's playbooks.
        type: str
        required: true
  replace:
    description: Set by the action plugin to the identity of a run that it knows to be dead.
    type: str
attributes:
  check_mode:
    support: full
    description: Takes no lock and minds none, because a run that changes nothing needs none.
  diff_mode:
    support: none
    description: A lock does not outlive the run.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: See that this is the only run
  airfield.metal.airflow_lock:

- name: Take the lock from a run that is certainly dead
  airfield.metal.airflow_lock:
    force: true
"""

RETURN = r"""
acquired:
  description: Whether this run has the lock.
  returned: always
  type: bool
held_by:
  description: The O(owner) that has the lock, with C(since), a time in UTC, and C(idle), the seconds since its last renewal.
  returned: when another run has the lock
  type: dict
path:
  description: The file of the lock.
  returned: not in check mode
  type: str
previous:
  description: The O(owner) that had the lock until now and did not free it, as in RV(held_by).
  returned: when the lock was taken over
  type: dict
timeout:
  description: Seconds after its last renewal at which the lock counts no more.
  returned: not in check mode
  type: int
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import files

OWNER: dict[str, dict[str, Any]] = {
    "run": {"type": "str", "required": True},
    "who": {"type": "str", "required": True},
    "machine": {"type": "str", "required": True},
    "boot": {"type": "str", "required": True},
    "pid": {"type": "int", "required": True},
    "started": {"type": "str", "required": True},
    "playbook": {"type": "str", "required": True},
}


@contextlib.contextmanager
def guard(path: str) -> Iterator[None]:
    """Nobody else looks at the lock or changes it meanwhile."""
    files.make_folders(os.path.dirname(path))
    # Not the lock's own file: that is replaced by another, which would not be locked.
    with open(path + ".guard", "a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def read(path: str) -> dict[str, Any] | None:
    """The owner, with `since` and `idle`, or None where there is no lock. One that makes no sense has an unknown owner."""
    holder: dict[str, Any] = dict.fromkeys((*OWNER, "since"), "unknown")
    try:
        with open(path, encoding="utf-8") as stream:
            # Also a time in the future makes a lock old, or it would outlive a clock that was set back.
            holder["idle"] = round(abs(time.time() - os.fstat(stream.fileno()).st_mtime))
            holder.update(json.load(stream))
    except FileNotFoundError:
        return None
    except (TypeError, ValueError):
        pass
    return holder


def write(path: str, owner: dict[str, Any]) -> None:
    """Put the lock in place in one step, so that one that was killed on the way leaves none without an owner."""
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump({**owner, "since": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}, stream)
    files.put_in_place(path + ".new", path)


def acquire(module: AnsibleModule) -> dict[str, Any]:
    """Take the lock where it is free or need not be minded; returns the module's result."""
    path, owner, timeout = (module.params[name] for name in ("path", "owner", "timeout"))
    holder = read(path)
    if holder and holder["run"] == owner["run"]:
        if not module.check_mode:
            os.utime(path)
        return {"changed": False, "acquired": True}
    if holder and not (module.params["force"] or holder["idle"] > timeout or holder["run"] == module.params["replace"]):
        return {"changed": False, "acquired": False, "held_by": holder}
    if not module.check_mode:
        write(path, owner)
    return {"changed": True, "acquired": True, **({"previous": holder} if holder else {})}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/airfield/run.lock"},
            "timeout": {"type": "int", "default": 300},
            "force": {"type": "bool", "default": False},
            "owner": {"type": "dict", "options": OWNER},
            "replace": {"type": "str"},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    path = module.params["path"]
    with contextlib.nullcontext() if module.check_mode else guard(path):
        result = acquire(module)
    module.exit_json(path=path, timeout=module.params["timeout"], **result)


if __name__ == "__main__":
    main()
