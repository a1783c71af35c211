#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_database_mark
short_description: Note in the metadata database which cluster it belongs to
version_added: "0.2.0"
description:
  - Keeps the name in a table of its own, C(airfield_cluster), which Airflow's migrations leave alone and backups contain.
  - Runs with the release's Python (set C(ansible_python_interpreter)), which has the drivers.
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  environment_file:
    description: Environment file that holds E(AIRFLOW__DATABASE__SQL_ALCHEMY_CONN).
    type: path
    default: /etc/airflow/cli.env
attributes:
  check_mode:
    support: full
    description: Reports a change and makes none.
  diff_mode:
    support: none
    description: Has nothing to show.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Note whose database it is
  airfield.metal.airflow_database_mark:
    cluster: production
  vars:
    ansible_python_interpreter: /opt/airflow/current/bin/python
"""

RETURN = r"""
before:
  description: Name that it had; empty where it had none.
  returned: success
  type: str
"""

import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.airfield.metal.plugins.module_utils import environment_file
from ansible_collections.airfield.metal.plugins.module_utils.files import read_text

try:
    import sqlalchemy

    SQLALCHEMY_ERROR = None
except ImportError:
    SQLALCHEMY_ERROR = traceback.format_exc()


def mark(url: str, cluster: str, write: bool) -> str:
    """Bring the name into the database; returns the one from before."""
    engine = sqlalchemy.create_engine(url)
    there = "airfield_cluster" in sqlalchemy.inspect(engine).get_table_names()
    with engine.begin() as connection:
        row = connection.execute(sqlalchemy.text("select name from airfield_cluster")).fetchone() if there else None
        before = str(row[0]) if row else ""
        if write and before != cluster:
            if not there:
                connection.execute(sqlalchemy.text("create table airfield_cluster (name varchar(63) primary key)"))
            connection.execute(sqlalchemy.text("delete from airfield_cluster"))
            connection.execute(sqlalchemy.text("insert into airfield_cluster values (:name)"), {"name": cluster})
    return before


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "str", "required": True},
            "environment_file": {"type": "path", "default": "/etc/airflow/cli.env"},
        },
        supports_check_mode=True,
    )
    if SQLALCHEMY_ERROR:
        module.fail_json(msg=missing_required_lib("sqlalchemy"), exception=SQLALCHEMY_ERROR)
    secrets = environment_file.parse(read_text(module.params["environment_file"]))
    cluster = module.params["cluster"]
    before = mark(secrets["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], cluster, not module.check_mode)
    module.exit_json(changed=before != cluster, before=before)


if __name__ == "__main__":
    main()
