#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# MIT License (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_config
short_description: Validate and install airflow.cfg
version_added: "0.1.0"
description:
  - Checks every option against what the installed release declares, then writes the file sorted, in one step. Unknown,
    moved or mistyped options fail the task and leave the old file in place.
  - Options that Airflow treats as secrets are refused; they belong in a component's environment file.
options:
  options:
    description: Section, then option, then value. Booleans and numbers may be YAML's own; lists and mappings become JSON.
    type: dict
    required: true
  path:
    description: The file.
    type: path
    default: /etc/airflow/airflow.cfg
  release:
    description: Directory of the release whose C(airfield.json) says which options there are.
    type: path
    default: /opt/airflow/current
  group:
    description: Group that may read the file, by name or number.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Reports whether the file would change. Without a release on the host there is nothing to check against.
  diff_mode:
    support: full
    description: Shows the whole file, which holds no secret.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Install airflow.cfg
  airfield.metal.airflow_config:
    group: airflow
    options:
      core:
        executor: CeleryExecutor
        load_examples: false
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import catalogue
from ansible_collections.airfield.metal.plugins.module_utils.files import read_text, write_text


def main():
    module = AnsibleModule(
        argument_spec={
            "options": {"type": "dict", "required": True},
            "path": {"type": "path", "default": "/etc/airflow/airflow.cfg"},
            "release": {"type": "path", "default": "/opt/airflow/current"},
            "group": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    description = read_text(os.path.join(params["release"], "airfield.json"))
    if description is not None:
        declared = json.loads(description)
        problems = catalogue.find_problems(params["options"], declared)
        dummy, secrets = catalogue.split_sensitive(params["options"], declared)
        problems += ["%s holds a secret and must not stand in %s." % (name, params["path"]) for name in sorted(secrets)]
        if problems:
            module.fail_json(
                msg="airflow.cfg was not changed: %s Remedy: correct airflow_config in the inventory." % " ".join(problems)
            )
    before = read_text(params["path"])
    after = catalogue.render(params["options"])
    changed = write_text(module, params["path"], after, 0o640, "root", params["group"])
    diff = {"before_header": params["path"], "after_header": params["path"], "before": before or "", "after": after}
    module.exit_json(changed=changed, path=params["path"], diff=diff if before != after else None)


if __name__ == "__main__":
    main()
