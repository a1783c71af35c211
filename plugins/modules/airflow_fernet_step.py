#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# The work is done on the controller, by the action plugin of the same name.
from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_fernet_step
short_description: Move the rotation of the Fernet key one step on
version_added: "0.1.0"
description:
  - Changes C(airflow_fernet_key) in the inventory's secrets file on the controller to the next value of a rotation, in one
    step, and leaves every other line of the file to the letter. The value itself says how far the rotation is.
  - With V(old), and O(begin), the step V(announce) makes V(old,new,old), so that all components get to know a new key while
    they still encrypt with the old one.
  - With V(old,new,old) the step V(use) makes V(new,old), so that they encrypt with the new one.
  - With V(new,old) the step V(drop) makes V(new). Everything must have been re-encrypted before.
  - Each step may be taken only when all components were started with the value before it.
  - A key that is not a plain line of that file is the operator's, and RV(by_hand) says what to change.
options:
  path:
    description: The file.
    type: path
    required: true
  value:
    description: Present value of C(airflow_fernet_key), one key or a list with commas.
    type: str
    required: true
  begin:
    description: Whether to begin a rotation where there is a single key.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Returns the next value for the tasks that follow, and writes nothing.
  diff_mode:
    support: none
    description: Secrets are not shown.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Begin a rotation, or go on with it
  airfield.metal.airflow_fernet_step:
    path: "{{ inventory_dir }}/group_vars/all/secrets.yml"
    value: "{{ airflow_fernet_key }}"
    begin: true
  register: rotation
  no_log: true
"""

RETURN = r"""
by_hand:
  description: What the operator has to change, where the key is in a place of their own; else empty.
  returned: always
  type: str
step:
  description: The step that was taken (in check mode, would be), or that is left to the operator; empty where none is left.
  returned: always
  type: str
  sample: announce
value:
  description: Value of the variable after the step.
  returned: always
  type: str
"""
