#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_worker
short_description: Wait until this host's Celery worker consumes its queues
version_added: "0.1.0"
description:
  - Asks the worker through the broker, as its work will come, which queues it consumes. A worker that merely answers a
    ping may be deaf.
  - Runs with the release's Python (set C(ansible_python_interpreter)), which has Celery.
options:
  broker_url:
    description: URL of the broker.
    type: str
    required: true
  transport_options:
    description: Celery's broker transport options.
    type: dict
    default: {}
  queues:
    description: Queues that the worker must consume.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 120
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Has nothing to show.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Wait until the worker consumes its queues
  airfield.metal.airflow_worker:
    broker_url: "{{ airflow_broker_url }}"
    queues: [default, "{{ inventory_hostname }}"]
  vars:
    ansible_python_interpreter: /opt/airflow/current/bin/python
"""

RETURN = r"""
node:
  description: Celery's name of the worker.
  returned: always
  type: str
  sample: celery@worker1
queues:
  description: Queues that it consumes.
  returned: always
  type: list
  elements: str
"""

import socket
import time
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.airfield.metal.plugins.module_utils.systemd import journal_tail

try:
    from celery import Celery
except ImportError:
    CELERY_ERROR = traceback.format_exc()
else:
    CELERY_ERROR = ""


def consumed_queues(app: Celery, node: str) -> tuple[list[str], str]:
    """Queues that a worker consumes at this moment, and what kept it from answering where it did not."""
    try:
        replies = app.control.inspect(destination=[node], timeout=2).active_queues() or {}
    except Exception as error:  # redis, kombu and socket errors share no base
        return [], f"the broker: {error}"
    if node not in replies:
        return [], f"no answer from {node}"
    return sorted(queue["name"] for queue in replies[node]), ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "broker_url": {"type": "str", "required": True, "no_log": True},
            "transport_options": {"type": "dict", "default": {}},
            "queues": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    if CELERY_ERROR:
        module.fail_json(msg=missing_required_lib("celery"), exception=CELERY_ERROR)
    params = module.params
    app = Celery(broker=params["broker_url"])
    app.conf.broker_transport_options = params["transport_options"]
    node = "celery@" + socket.gethostname()
    deadline = time.monotonic() + params["timeout"]
    while True:
        queues, problem = consumed_queues(app, node)
        missing = sorted(set(params["queues"]) - set(queues))
        if not missing:
            module.exit_json(changed=False, node=node, queues=queues)
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    module.fail_json(
        msg="The worker {} does not consume {} after {} s ({}). Remedy: read its journal below.".format(
            node, ", ".join(missing), params["timeout"], problem or "it consumes " + (", ".join(queues) or "nothing")
        ),
        journal=journal_tail(module, "airflow-worker.service", secrets=[params["broker_url"]]).splitlines(),
        node=node,
        queues=queues,
    )


if __name__ == "__main__":
    main()
