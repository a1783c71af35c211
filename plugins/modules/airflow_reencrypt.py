#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_reencrypt
short_description: Encrypt with the first Fernet key what the metadata database holds
version_added: "0.1.0"
description:
  - Encrypts connections, variables, the arguments of triggers and waiting tests of connections anew where another than the
    first of O(keys) has encrypted them. What is encrypted with the first key, or not at all, stays as it is.
  - Airflow may go on working. A value is replaced only where it is still the one that was read, so no change of a user's is
    lost, and no row stays locked. Airflow's own command C(airflow rotate-fernet-key) can lose such a change, and in
    Airflow 3.3.2 it fails while a task is deferred, because arguments of such triggers are not encrypted.
  - Fails before it changes anything where a value can be decrypted with none of the keys.
  - Runs on a host with the command line (a scheduler), as root, with the release's Python (set
    C(ansible_python_interpreter)).
options:
  keys:
    description: The keys with commas between them, as in C(airflow_fernet_key).
    type: str
    required: true
extends_documentation_fragment:
  - airfield.metal.service_account
attributes:
  check_mode:
    support: full
    description: Counts what would be encrypted anew, and says whether all of it can be read.
  diff_mode:
    support: none
    description: Has nothing to show but secrets.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Encrypt everything with the new key
  airfield.metal.airflow_reencrypt:
    keys: "{{ new_key }},{{ old_key }}"
  vars:
    ansible_python_interpreter: /opt/airflow/current/bin/python
"""

RETURN = r"""
values:
  description: Number of values that were (in check mode, would be) encrypted anew, by table.
  returned: always
  type: dict
  sample: {connection: 4, variable: 2}
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import service_account

# Table, its values with number and name, and how one is replaced. Those are the columns of Airflow's models with a method
# rotate_fernet_key (3.3.2); tests/testinfra/faults/test_fernet.py compares the two. Names that mean something in SQL are in
# standard SQL's quotes, with which MySQL has strings.
VALUES = (
    (
        "connection",
        "select id, conn_id, password from connection where is_encrypted and password <> ''",
        "update connection set password = :after where id = :id and password = :before",
    ),
    (
        "connection",
        "select id, conn_id, extra from connection where is_extra_encrypted and extra <> ''",
        "update connection set extra = :after where id = :id and extra = :before",
    ),
    (
        "variable",
        'select id, "key", val from variable where is_encrypted and val is not null',
        "update variable set val = :after where id = :id and val = :before",
    ),
    (
        # A deferred task's are plain JSON, those of others are encrypted.
        "trigger",
        "select id, classpath, kwargs from \"trigger\" where kwargs not like '{%'",
        'update "trigger" set kwargs = :after where id = :id and kwargs = :before',
    ),
    (
        "connection_test_request",
        "select id, connection_id, password from connection_test_request where is_encrypted and password <> ''",
        "update connection_test_request set password = :after where id = :id and password = :before",
    ),
    (
        "connection_test_request",
        "select id, connection_id, extra from connection_test_request where is_extra_encrypted and extra <> ''",
        "update connection_test_request set extra = :after where id = :id and extra = :before",
    ),
)
# What Airflow writes meanwhile is encrypted with the first key; more rounds mean that some process has another one.
ROUNDS = 10
QUOTED = re.compile('"([a-z_]+)"')


@dataclass(frozen=True)
class Change:
    """A value to encrypt anew: its table, the statement that replaces it, and the statement's parameters."""

    table: str
    statement: str
    values: dict[str, Any]


def reencrypt(keys: list[str], write: bool) -> dict[str, Any]:
    """Encrypt with the first key what another has encrypted; returns how many values, and which no key can decrypt.

    Runs with the service's environment. Where a value cannot be decrypted, nothing is written.
    """
    import sqlalchemy

    # A word in the URL counts more.
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    # Each statement for itself: no row stays locked, and what is done is done when this is killed.
    engine = sqlalchemy.create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], isolation_level="AUTOCOMMIT")
    tables = set(sqlalchemy.inspect(engine).get_table_names())
    quote = engine.dialect.identifier_preparer.quote_identifier
    counts: Counter[str] = Counter()
    with engine.connect() as connection:

        def execute(statement: str, **values: Any) -> Any:
            return connection.execute(sqlalchemy.text(QUOTED.sub(lambda match: quote(match[1]), statement)), values)

        changes, unreadable = find_changes(keys, tables, execute)
        if not write:
            counts.update(change.table for change in changes)
            changes = []
        rounds = 0
        while changes and not unreadable and rounds < ROUNDS:
            for change in changes:
                counts[change.table] += execute(change.statement, **change.values).rowcount
            changes, unreadable = find_changes(keys, tables, execute)
            rounds += 1
    return {"values": +counts, "unreadable": unreadable, "left": len(changes)}


def find_changes(keys: list[str], tables: set[str], execute: Callable[[str], Any]) -> tuple[list[Change], list[str]]:
    """What is encrypted with another key than the first, and names of what no key can decrypt."""
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    first, every = Fernet(keys[0]), MultiFernet([Fernet(key) for key in keys])
    changes, unreadable = [], set()
    for table, select, update in VALUES:
        for number, name, before in execute(select) if table in tables else ():
            try:
                first.decrypt(before)
            except InvalidToken:
                try:
                    after = every.rotate(before).decode()
                    changes.append(Change(table, update, {"id": number, "before": before, "after": after}))
                except InvalidToken:
                    unreadable.add(f"{table} {name}")
    return changes, sorted(unreadable)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **service_account.ARGUMENTS,
            "keys": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    keys = [key.strip() for key in module.params["keys"].split(",")]
    module.no_log_values.update(keys)
    try:
        result = service_account.call_airflow(module, {}, reencrypt, keys, not module.check_mode)
    except RuntimeError as error:
        module.fail_json(msg=f"Nothing or not all could be encrypted anew: {error}. Remedy: see whether the database answers.")
    values = result["values"]
    if result["unreadable"]:
        module.fail_json(
            msg="No key of airflow_fernet_key decrypts {}, so Airflow cannot read it either. It was not changed. Remedy: set "
            "or delete it, or add the key that has encrypted it at the end of airflow_fernet_key; then run this again.".format(
                ", ".join(result["unreadable"])
            ),
            values=values,
        )
    if result["left"]:
        module.fail_json(
            msg=f"{result['left']} values are still encrypted with an old key after {ROUNDS} rounds. Remedy: some process "
            "encrypts with another first key; restart it, and run this again.",
            values=values,
        )
    module.exit_json(changed=bool(values), values=values)


if __name__ == "__main__":
    main()
