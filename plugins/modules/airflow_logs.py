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
    was away, is brought to the place where Airflow looks for it, with the worker's own credentials. The timer C(airflow-logs)
    does the same on every host of workers and triggerers.
  - Not for a worker that has running tasks, whose logs would be left.
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import service_account
from ansible_collections.airfield.metal.plugins.module_utils.local_logs import find_logs, upload


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
        answer = service_account.call_airflow(module, extra, upload, params["folder"], logs)
    except RuntimeError as error:
        module.fail_json(msg=f"The logs that are left on this worker could not be uploaded: {error}", logs=logs)
    if answer is None:
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
