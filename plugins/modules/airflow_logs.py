#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_logs
short_description: Upload the task logs that are still on a worker
version_added: "0.1.0"
description:
  - A worker uploads a task's log when the task ends. What was not uploaded, because the task was killed or the object store
    was away, is brought to the place where Airflow looks for it, by Airflow's own code and with the worker's own credentials.
  - Not for a worker that has running tasks.
  - Runs on the worker, as root, with the release's Python (set C(ansible_python_interpreter)).
options:
  folder:
    description: Folder of the task logs.
    type: path
    default: /var/log/airflow
  environment_file:
    description: Environment file of the worker.
    type: path
    default: /etc/airflow/worker.env
extends_documentation_fragment:
  - airfield.metal.service_account
attributes:
  check_mode:
    support: full
    description: Says which logs would be uploaded.
  diff_mode:
    support: none
    description: Has nothing to show.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Upload the logs that are left
  airfield.metal.airflow_logs:
  vars:
    ansible_python_interpreter: /opt/airflow/current/bin/python
"""

RETURN = r"""
logs:
  description: The logs, relative to O(folder).
  returned: always
  type: list
  elements: str
"""

import glob
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import service_account


def find_logs(folder: str) -> list[str]:
    """Task logs below a folder that are not empty: Airflow empties those that it has uploaded."""
    paths = glob.glob("dag_id=*/**/*.log", root_dir=folder, recursive=True)
    return sorted(path for path in paths if os.path.getsize(os.path.join(folder, path)))


def upload(folder: str, paths: list[str]) -> bool:
    """Append the logs to what the store has of them. Airflow is imported here, with the worker's environment."""
    from airflow.logging_config import get_remote_task_log

    remote = get_remote_task_log()
    if remote is None:
        return False
    # It would remove the folder of the first, with the other tries' logs in it.
    remote.delete_local_copy = False
    for path in paths:
        remote.upload(path)
        if os.path.getsize(os.path.join(folder, path)) == 0:
            os.unlink(os.path.join(folder, path))
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **service_account.ARGUMENTS,
            "folder": {"type": "path", "default": "/var/log/airflow"},
            "environment_file": {"type": "path", "default": "/etc/airflow/worker.env"},
        },
        supports_check_mode=True,
    )
    params = module.params
    logs = find_logs(params["folder"])
    if not logs or module.check_mode:
        module.exit_json(changed=bool(logs), logs=logs)
    # A worker has none, and Airflow would make a file for it.
    extra = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://"}
    try:
        kept_elsewhere = service_account.call_airflow(module, extra, upload, params["folder"], logs)
    except RuntimeError as error:
        module.fail_json(msg=f"The logs that are left on this worker could not be uploaded: {error}", logs=logs)
    if not kept_elsewhere:
        module.exit_json(changed=False, logs=[])
    left = find_logs(params["folder"])
    if left:
        module.fail_json(
            msg=f"{len(left)} of {len(logs)} logs that are left on this worker could not be uploaded, {left[0]} among them. "
            "Remedy: see that the bucket answers, and run this again; the logs stay where they are.",
            logs=left,
        )
    module.exit_json(changed=True, logs=logs)


if __name__ == "__main__":
    main()
