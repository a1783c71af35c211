#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# The work is done on the controller, by the action plugin of the same name.
from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_precheck
short_description: Find what is wrong with the inventory and a host, before anything is changed
version_added: "0.1.0"
description:
  - Holds the variables of a host against the argument specs of all roles, the options for airflow.cfg against the
    release's catalogue, and the facts of M(airfield.metal.airflow_info) against what the host shall run.
  - Runs on the controller and never fails by a problem, so that a play can name those of all hosts at once.
options:
  facts:
    description: What M(airfield.metal.airflow_info) has found on the host.
    type: dict
    required: true
  platforms:
    description: Supported systems, each with C(id), C(version) and C(python).
    type: list
    elements: dict
    required: true
  version:
    description: Wanted version of Airflow.
    type: str
    required: true
  end_of_life:
    description: Month since which O(version) is mended no more, to be warned of; empty for no warning.
    type: str
    default: ""
  versions:
    description: Versions for which there is a lock.
    type: list
    elements: str
    required: true
  secrets:
    description: Name of each secret's variable and its kind, which says what makes it unfit.
    type: dict
    required: true
  generated:
    description: Those of O(secrets) that a run generates where they are missing.
    type: list
    elements: str
    required: true
  reference:
    description: Host whose secrets must be equal.
    type: str
    required: true
  options:
    description: The operator's options for airflow.cfg, as section, then option, then value.
    type: dict
    required: true
  own_options:
    description: What the roles set in airflow.cfg by themselves.
    type: dict
    default: {}
  variables:
    description: Options that must not be in O(options), as C(section.option), each with the variable to set instead.
    type: dict
    required: true
  catalogue_file:
    description: JSON file on the controller that says which options O(version) has.
    type: path
    required: true
  extra_packages:
    description: Whether packages of the operator's may bring sections that the catalogue does not know.
    type: bool
    required: true
  disks:
    description: Free megabytes that each path needs.
    type: dict
    required: true
  memory_mb:
    description: Memory that the host needs, in megabytes; 0 for no check.
    type: int
    required: true
  clock_offsets:
    description: The C(clock_offset) of each host in the play, in seconds.
    type: dict
    required: true
  clock_skew:
    description: Seconds that the clocks of any two hosts may differ.
    type: float
    required: true
  topology:
    description: Further problems that the caller has found.
    type: list
    elements: str
    required: true
  objects:
    description: Whether to check connections, variables, pools, roles and users, which belong to the whole cluster.
    type: bool
    required: true
  schema:
    description: Problems with the schema of the metadata database, of which the first scheduler knows.
    type: list
    elements: str
    default: []
  components:
    description: Components of Airflow that the host shall run.
    type: list
    elements: str
    default: []
  slots:
    description: Tasks that all workers run at the same time, for a warning of less room elsewhere; 0 for none.
    type: int
    default: 0
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
- name: Check the host
  ansible.builtin.import_role:
    name: airfield.metal.airflow
    tasks_from: precheck
"""

RETURN = r"""
problems:
  description: What must be put right, one sentence each with variable and remedy. Never holds the value of a secret.
  returned: always
  type: list
  elements: str
"""
