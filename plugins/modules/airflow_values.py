#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# The work is done on the controller, by the action plugin of the same name.
from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_values
short_description: Find values of variables with which no template can work
version_added: "0.2.0"
description:
  - Looks at the variables that the inventory and the command line set for a host, before a template uses them.
  - Says nothing of values that are merely wrong, as long as there is none of another kind; M(airfield.metal.airflow_precheck)
    tells those with all else.
  - Runs on the controller and never fails by a problem, so that a play can name those of all hosts at once.
options: {}
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
- name: Find values that no task can work with
  airfield.metal.airflow_values:
  register: values
"""

RETURN = r"""
problems:
  description: What must be put right, one sentence each with variable and remedy. Never holds the value of a secret.
  returned: always
  type: list
  elements: str
probes:
  description: Arguments for M(airfield.metal.airflow_info), for what only the host can say of the values.
  returned: always
  type: dict
"""
