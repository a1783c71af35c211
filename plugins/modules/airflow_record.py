#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_record
short_description: Note something that later runs must know
version_added: "0.1.0"
description:
  - Keeps a JSON file. It is on the disk when this returns, and a power cut leaves the old one or the new one, whole.
options:
  path:
    description: The file. It gets mode 0600 and belongs to root.
    type: path
    required: true
  content:
    description: What is in it.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: full
    description: Shows the content.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Note how far an upgrade has come
  airfield.metal.airflow_record:
    path: /var/lib/airfield/upgrade.json
    content: {from: 3.2.2, to: 3.3.2, state: stopped}
"""

RETURN = r"""
path:
  description: The O(path).
  returned: always
  type: str
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils.files import ensure_file, read_text, text_diff


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    text = json.dumps(module.params["content"], indent=4, sort_keys=True, ensure_ascii=False) + "\n"
    diff = text_diff(path, read_text(path), text)
    module.exit_json(path=path, changed=ensure_file(module, path, text, mode="0600"), diff=diff)


if __name__ == "__main__":
    main()
