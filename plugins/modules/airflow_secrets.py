#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# The work is done on the controller, by the action plugin of the same name.
from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_secrets
short_description: Add the secrets that an inventory lacks to its own secrets file
version_added: "0.1.0"
description:
  - Generates those of O(secrets) that are not defined, and adds them to a file on the controller, readable by its owner
    alone and encrypted where a vault password is configured. What the file holds already stays to the letter.
options:
  path:
    description: The file. Ansible must read it as variables of all hosts.
    type: path
    required: true
  secrets:
    description: Name of each variable and its kind, one of V(age), V(fernet), V(jwt), V(key), V(password) and
      V(access_key).
    type: dict
    required: true
  given:
    description: Values for those of O(secrets) that are known from elsewhere, as from a backup.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Generates the values for the tasks that follow, and writes nothing.
  diff_mode:
    support: none
    description: Secrets are not shown.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Generate what is missing
  airfield.metal.airflow_secrets:
    path: "{{ inventory_dir }}/group_vars/all/secrets.yml"
    secrets:
      airflow_fernet_key: fernet
      airflow_admin_password: password
  register: generated
  no_log: true
"""

RETURN = r"""
names:
  description: Names of the variables that were added.
  returned: always
  type: list
  elements: str
path:
  description: The file.
  returned: always
  type: str
secrets:
  description: Name and value of each variable that was added.
  returned: always
  type: dict
"""
