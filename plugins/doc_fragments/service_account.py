"""Documentation of the options that modules take which run Airflow's own code."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """What `ARGUMENTS` of module_utils/service_account.py says, in words."""

    DOCUMENTATION = r"""
options:
  account:
    description: Account of the Airflow processes.
    type: str
    default: airflow
  config:
    description: The file airflow.cfg.
    type: path
    default: /etc/airflow/airflow.cfg
  environment_file:
    description: Environment file with the secrets of the command line.
    type: path
    default: /etc/airflow/cli.env
"""
