#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_objects
short_description: Reconcile connections, variables, pools, roles and users
version_added: "0.1.0"
description:
  - Brings Airflow's metadata database to what is wanted, in one process with Airflow in it and in one transaction, in which
    only what differs is written. What was changed otherwise in a wanted object, as in the web interface, is put right.
  - Objects that are not wanted stay, unless O(purge) has their kind.
  - Refuses what Airflow would not understand before anything is written, and says all of it at once.
  - Runs on a host with the command line (a scheduler), as root, with the release's Python (set
    C(ansible_python_interpreter)).
options:
  objects:
    description:
      - The wanted objects, as a mapping of C(connections), C(variables), C(pools), C(roles) and C(users), each a list of
        mappings as role P(airfield.metal.airflow#role) documents them.
      - Give it as JSON text. Ansible hides each word of a secret mapping wherever it appears, but a secret text only as a
        whole.
    type: json
    required: true
  purge:
    description:
      - Kinds of which all objects that are not wanted are removed.
      - Never removed are C(default_pool), the roles that Airflow brings (Admin, Op, User, Viewer, Public), and
        O(administrator).
    type: list
    elements: str
    choices: [connections, pools, roles, users, variables]
    default: []
  administrator:
    description: The first administrator, made when there is no user at all.
    type: dict
    suboptions:
      username:
        description: Name.
        type: str
        required: true
      email:
        description: Mail address.
        type: str
        required: true
      password:
        description: Password.
        type: str
        required: true
  passwords_file:
    description:
      - File, 0600 root:root, that says which password belongs to the hash that the database has of it. For users with
        C(update_password=always), as computing a hash takes 0.15 to 0.3 CPU seconds.
      - Holds for each an HMAC-SHA256 of name, password and hash, with the Fernet key as its key, and nothing else.
    type: path
    default: /var/lib/airfield/user-passwords.json
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
attributes:
  check_mode:
    support: full
    description: Says what would change. The database is only read.
  diff_mode:
    support: full
    description: Shows what changes, without secrets. Passwords, and what Airflow takes for a secret by its name, are hidden;
      those that change are marked.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Reconcile a pool and a connection
  airfield.metal.airflow_objects:
    objects: >-
      {{ {'pools': [{'name': 'reports', 'slots': 4}],
          'connections': [{'conn_id': 'warehouse', 'conn_type': 'postgres', 'host': 'db1', 'login': 'airflow',
                           'password': warehouse_password}]} | to_json }}
  vars:
    ansible_python_interpreter: /opt/airflow/current/bin/python
"""

RETURN = r"""
changes:
  description: What was changed, without secrets.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: One of the choices of O(purge).
      type: str
    name:
      description: The object's name.
      type: str
    action:
      description: What was done, C(created), C(updated) or C(removed).
      type: str
    fields:
      description: Names of the fields that were updated.
      type: list
      elements: str
  sample: [{kind: pools, name: reports, action: updated, fields: [slots]}]
"""

import datetime
import hmac
import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.yaml import yaml_dump
from ansible_collections.airfield.metal.plugins.module_utils import objects
from ansible_collections.airfield.metal.plugins.module_utils.catalogue import suggest
from ansible_collections.airfield.metal.plugins.module_utils.files import ensure_file, read_text
from ansible_collections.airfield.metal.plugins.module_utils.objects import Change, Objects
from ansible_collections.airfield.metal.plugins.module_utils.service_account import call_airflow

# The database ----------------------------------------------------------------------------------------------------------
# From here to main() Airflow is there, with its environment.


class Rows:
    """The objects of a kind; those that are wanted and there, by name, once they have been read."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.rows: dict[str, Any] = {}

    def prepare(self, wanted: Objects) -> list[str]:
        return []


class Pools(Rows):
    def read(self, wanted: Objects) -> Objects:
        from airflow.models.pool import Pool
        from sqlalchemy import select

        self.rows = {row.pool: row for row in self.session.scalars(select(Pool).where(Pool.pool.in_(wanted)))}
        return {
            name: {"slots": row.slots, "description": row.description or "", "include_deferred": row.include_deferred}
            for name, row in self.rows.items()
        }

    def others(self, wanted: Objects) -> Objects:
        from airflow.models.pool import Pool
        from sqlalchemy import select

        rows = self.session.execute(
            select(Pool.pool, Pool.slots).where(Pool.pool.not_in([*wanted, objects.DEFAULT_POOL])).order_by(Pool.pool)
        )
        return {name: {"slots": slots} for name, slots in rows}

    def write(self, change: Change) -> None:
        from airflow.models.pool import Pool
        from sqlalchemy import delete

        if change.after is None:
            self.session.execute(delete(Pool).where(Pool.pool == change.name))
        elif change.before is None:
            self.session.add(Pool(pool=change.name, **change.after))
        else:
            for field, value in change.after.items():
                setattr(self.rows[change.name], field, value)


class Connections(Rows):
    def prepare(self, wanted: Objects) -> list[str]:
        from airflow.models.connection import Connection
        from airflow.providers_manager import ProvidersManager

        problems = []
        known = sorted(ProvidersManager().hooks) if wanted else []
        for name, fields in wanted.items():
            uri = fields.pop("uri")
            if uri:
                try:
                    given = self.fields_of(Connection(conn_id=name, uri=uri))
                except Exception:
                    # Its text may hold the password.
                    problems.append(objects.blame("connections", name, "Airflow does not understand its uri."))
                    continue
                fields.update(given, description=fields["description"])
            for field in ("host", "login", "password", "schema"):
                fields[field] = fields[field] or ""
            fields["extra"] = dict(fields["extra"] or {})
            if fields["conn_type"] not in known:
                problems.append(objects.unknown_type(name, fields["conn_type"], known))
        return problems

    @staticmethod
    def fields_of(row: Any) -> dict[str, Any]:
        fields = {name: getattr(row, name) or "" for name in ("conn_type", "host", "login", "password", "schema", "description")}
        try:
            extra = json.loads(row.extra or "{}")
        except ValueError:
            extra = "not a mapping in JSON"
        return {**fields, "port": row.port, "extra": extra}

    def read(self, wanted: Objects) -> Objects:
        from airflow.models.connection import Connection
        from sqlalchemy import select

        rows = self.session.scalars(select(Connection).where(Connection.conn_id.in_(wanted)))
        self.rows = {row.conn_id: row for row in rows}
        return {name: self.fields_of(row) for name, row in self.rows.items()}

    def others(self, wanted: Objects) -> Objects:
        from airflow.models.connection import Connection
        from sqlalchemy import select

        rows = self.session.execute(
            select(Connection.conn_id, Connection.conn_type)
            .where(Connection.conn_id.not_in(wanted))
            .order_by(Connection.conn_id)
        )
        return {name: {"conn_type": conn_type} for name, conn_type in rows}

    def write(self, change: Change) -> None:
        from airflow.models.connection import Connection
        from sqlalchemy import delete

        if change.after is None:
            self.session.execute(delete(Connection).where(Connection.conn_id == change.name))
            return
        row = self.rows.get(change.name)
        if row is None:
            row = Connection(conn_id=change.name)
            self.session.add(row)
        for field in change.fields:
            value = change.after[field]
            if field == "extra":
                row.extra = json.dumps(value) if value else None
            elif field == "password" and not value:
                # Airflow's own setter leaves the old one in place.
                row._password, row.is_encrypted = None, False
            else:
                setattr(row, field, value or None)


class Variables(Rows):
    def read(self, wanted: Objects) -> Objects:
        from airflow.models.variable import Variable
        from cryptography.fernet import InvalidToken
        from sqlalchemy import select

        present = {}
        for row in self.session.scalars(select(Variable).where(Variable.key.in_(wanted))):
            self.rows[row.key], text = row, row.val
            if text is None:
                # Airflow has only logged it.
                raise InvalidToken
            value = text
            if not isinstance(wanted[row.key]["value"], str):
                try:
                    value = json.loads(text)
                except ValueError:
                    pass
            present[row.key] = {"value": value, "description": row.description or ""}
        return present

    def others(self, wanted: Objects) -> Objects:
        from airflow.models.variable import Variable
        from sqlalchemy import select

        keys = self.session.scalars(select(Variable.key).where(Variable.key.not_in(wanted)).order_by(Variable.key))
        return {key: {} for key in keys}

    def write(self, change: Change) -> None:
        from airflow.models.variable import Variable
        from sqlalchemy import delete

        if change.after is None:
            self.session.execute(delete(Variable).where(Variable.key == change.name))
            return
        value = change.after["value"]
        text = value if isinstance(value, str) else json.dumps(value)
        if change.before is None:
            self.session.add(Variable(key=change.name, val=text, description=change.after["description"] or None))
            return
        row = self.rows[change.name]
        if "value" in change.fields:
            row.val = text
        row.description = change.after["description"] or None


class Roles(Rows):
    def prepare(self, wanted: Objects) -> list[str]:
        from airflow.providers.fab.auth_manager.models import Action, Permission, Resource
        from sqlalchemy import select

        pairs = select(Action.name, Resource.name).select_from(Permission).join(Permission.action).join(Permission.resource)
        known = {f"{action} on {resource}" for action, resource in self.session.execute(pairs)}
        return [
            objects.blame(
                "roles",
                name,
                f'the release knows no permission "{permission}".{suggest(permission, known)}',
                "correct it; an administrator sees all permissions in the web interface, below Security",
            )
            for name, fields in wanted.items()
            for permission in fields["permissions"]
            # In check mode the first run has none to compare with.
            if known and permission not in known and not self.is_of_a_dag(permission)
        ]

    @staticmethod
    def is_of_a_dag(permission: str) -> bool:
        """Whether it can be a permission for one DAG, which comes into being with its first use."""
        from airflow.providers.fab.www.security.permissions import RESOURCE_DETAILS_MAP

        action, resource = permission.split(" on ", 1)
        return any(
            resource.startswith(details["prefix"]) and action in details["actions"] for details in RESOURCE_DETAILS_MAP.values()
        )

    def read(self, wanted: Objects) -> Objects:
        from airflow.providers.fab.auth_manager.models import Role
        from sqlalchemy import select

        self.rows = {row.name: row for row in self.session.scalars(select(Role).where(Role.name.in_(wanted))).unique()}
        present = {}
        for name, row in self.rows.items():
            permissions = {f"{pair.action.name} on {pair.resource.name}" for pair in row.permissions}
            excess = permissions - set(wanted[name]["permissions"])
            permissions -= set(self.given_by_dags(name, excess))
            present[name] = {"permissions": sorted(permissions)}
        return present

    def given_by_dags(self, role: str, permissions: Collection[str]) -> Iterator[str]:
        """Those of the permissions that a role has by the `access_control` of a DAG, which would give them again."""
        from airflow.models.dagbag import DBDagBag
        from airflow.providers.fab.www.security.permissions import RESOURCE_DETAILS_MAP

        for permission in permissions:
            action, name = permission.split(" on ", 1)
            for resource, details in RESOURCE_DETAILS_MAP.items():
                if name.startswith(details["prefix"]):
                    dag = DBDagBag().get_latest_version_of_dag(name[len(details["prefix"]) :], session=self.session)
                    granted = ((dag and dag.access_control) or {}).get(role) or {}
                    # In the older form it holds actions on the DAG itself.
                    if action in (granted.get(resource) or () if isinstance(granted, Mapping) else granted):
                        yield permission

    def others(self, wanted: Objects) -> Objects:
        from airflow.providers.fab.auth_manager.models import Role
        from sqlalchemy import select

        names = self.session.scalars(
            select(Role.name).where(Role.name.not_in([*wanted, *objects.BUILTIN_ROLES])).order_by(Role.name)
        )
        return {name: {} for name in names}

    def write(self, change: Change) -> None:
        from airflow.providers.fab.auth_manager.models import (
            Role,
            assoc_group_role,
            assoc_permission_role,
            assoc_user_role,
        )
        from sqlalchemy import delete, select

        if change.after is None:
            number = self.session.scalar(select(Role.id).where(Role.name == change.name))
            # A database that came from an older Airflow does not do it by itself.
            for table in (assoc_permission_role, assoc_user_role, assoc_group_role):
                self.session.execute(delete(table).where(table.c.role_id == number))
            self.session.execute(delete(Role).where(Role.id == number))
            return
        row = self.rows.get(change.name)
        if row is None:
            row = Role(name=change.name)
            self.session.add(row)
        before, after = (set((side or {}).get("permissions", ())) for side in (change.before, change.after))
        row.permissions = [
            pair for pair in row.permissions if f"{pair.action.name} on {pair.resource.name}" not in before - after
        ] + [self.permission(name) for name in sorted(after - before)]

    def permission(self, name: str) -> Any:
        """The row of a permission, made where it is one for a DAG."""
        from airflow.providers.fab.auth_manager.models import Action, Permission, Resource
        from sqlalchemy import select

        rows = []
        for model, part in zip((Action, Resource), name.split(" on ", 1), strict=True):
            row = self.session.scalars(select(model).where(model.name == part)).one_or_none()
            if row is None:
                row = model(name=part)
                self.session.add(row)
            rows.append(row)
        action, resource = rows
        pair = select(Permission).join(Permission.action).join(Permission.resource)
        row = self.session.scalars(pair.where(Action.name == action.name, Resource.name == resource.name)).first()
        if row is None:
            row = Permission(action=action, resource=resource)
            self.session.add(row)
        return row


class Users(Rows):
    """Users by their name.

    A password is compared with what the database has of it only where it may be updated, and hashed only where `proofs`
    (what `objects.proof` says of each user) do not say it is the same.
    """

    def __init__(self, session: Any, new_roles: Collection[str], keep: str, proofs: dict[str, str]) -> None:
        from airflow.configuration import conf

        super().__init__(session)
        self.new_roles, self.keep = new_roles, keep
        self.key, self.proofs = conf.get("core", "fernet_key"), proofs
        self.updating: set[str] = set()
        # Numbers of those whose old sessions must end.
        self.with_new_password: list[int] = []

    def prepare(self, wanted: Objects) -> list[str]:
        from airflow.providers.fab.auth_manager.models import Role, User
        from sqlalchemy import func, select

        roles = {*self.session.scalars(select(Role.name)), *objects.BUILTIN_ROLES, *self.new_roles}
        owners = select(User.email, User.username).where(User.email.in_([fields["email"] for fields in wanted.values()]))
        owner_by_email = dict(map(tuple, self.session.execute(owners)))
        problems = []
        for name, fields in wanted.items():
            if fields.pop("update_password") == "always":
                self.updating.add(name)
            problems += [
                objects.blame(
                    "users",
                    name,
                    f'there is no role "{role}".{suggest(role, roles)}',
                    "correct it, or add the role to airflow_roles",
                )
                for role in fields["roles"]
                if role not in roles
            ]
            owner = owner_by_email.get(fields["email"], name)
            if owner.lower() != name.lower():
                problems.append(
                    objects.blame(
                        "users",
                        name,
                        f"its email {fields['email']} is user {owner}'s in the database.",
                        "give it another, or change or remove that user",
                    )
                )
        names = {name.lower(): name for name in wanted}
        rows = self.session.scalars(select(User).where(func.lower(User.username).in_(names)))
        self.rows = {names[row.username.lower()]: row for row in rows}
        return problems

    def read(self, wanted: Objects) -> Objects:
        return {
            name: {
                **{field: getattr(row, field) for field in ("email", "first_name", "last_name")},
                "roles": sorted(role.name for role in row.roles),
                "password": self.compare_password(name, row.password or "", wanted[name]["password"]),
                "active": bool(row.active),
            }
            for name, row in self.rows.items()
        }

    def compare_password(self, name: str, stored: str, password: str) -> str:
        """The password itself where it is the user's or is not to be updated, else what the database has."""
        from werkzeug.security import check_password_hash

        if name not in self.updating:
            return password
        proof = objects.proof(self.key, name, password, stored)
        if not hmac.compare_digest(self.proofs.get(name, ""), proof):
            if not stored or not check_password_hash(stored, password):
                return stored
            self.proofs[name] = proof
        return password

    def others(self, wanted: Objects) -> Objects:
        from airflow.providers.fab.auth_manager.models import User
        from sqlalchemy import func, select

        kept = {name.lower() for name in [*wanted, self.keep]}
        rows = self.session.execute(
            select(User.username, User.email).where(func.lower(User.username).not_in(kept)).order_by(User.username)
        )
        return {name: {"email": email} for name, email in rows}

    def write(self, change: Change) -> None:
        from airflow.providers.fab.auth_manager.models import Role, User
        from sqlalchemy import select

        if change.after is None:
            self.session.delete(self.session.scalars(select(User).where(User.username == change.name)).one())
            return
        row = self.rows.get(change.name)
        if row is None:
            row = User(username=change.name)
            self.session.add(row)
        for field in ("email", "first_name", "last_name", "active"):
            setattr(row, field, change.after[field])
        row.changed_on = datetime.datetime.now(tz=datetime.timezone.utc)
        with self.session.no_autoflush:
            row.roles = list(self.session.scalars(select(Role).where(Role.name.in_(change.after["roles"]))).unique())
        if change.before is None or "password" in change.fields:
            self.set_password(change.name, row, change.after["password"])
            if change.before is not None:
                self.with_new_password.append(row.id)

    def set_password(self, name: str, row: Any, password: str | None) -> None:
        """Hash a password as Airflow does; without one, nobody knows the user's."""
        from airflow.configuration import conf
        from flask import Config
        from werkzeug.security import generate_password_hash

        options = Config("/")
        options.from_pyfile(conf.get("fab", "config_file"), silent=True)
        method = options.get("FAB_PASSWORD_HASH_METHOD", "scrypt")
        row.password = generate_password_hash(password or secrets.token_urlsafe(32), method=method)
        if name in self.updating:
            self.proofs[name] = objects.proof(self.key, name, password or "", row.password)


def reconcile(
    wanted: dict[str, Objects], purge: list[str], administrator: dict[str, str] | None, proofs: dict[str, str], check: bool
) -> dict[str, Any]:
    """Bring the database to what is wanted; returns problems or described changes, and the proofs for the next time."""
    from airflow._shared.secrets_masker import DEFAULT_SENSITIVE_FIELDS
    from airflow.configuration import conf
    from airflow.utils.session import create_session
    from cryptography.fernet import InvalidToken

    sensitive = [*DEFAULT_SENSITIVE_FIELDS, *filter(None, map(str.strip, conf.get("core", "sensitive_var_conn_names").split(",")))]

    def hide(name: str) -> bool:
        # As Airflow's masker has it, which an option can switch off.
        return any(field in re.sub(r"\W+", "_", name.strip().lower()) for field in sensitive)

    kinds = {kind for kind in objects.KINDS if wanted[kind] or kind in purge}
    if administrator and "users" not in kinds and count_users() == 0:
        kinds.add("users")
    if kinds & {"roles", "users"} and not check:
        provide_builtin_roles()
    users = None
    with create_session() as session:
        stores: dict[str, Any] = {
            kind: store(session)
            for kind, store in {"pools": Pools, "connections": Connections, "variables": Variables, "roles": Roles}.items()
            if kind in kinds
        }
        if "users" in kinds:
            if administrator and count_users() == 0:
                complete_administrator(wanted["users"], administrator)
            keep = administrator["username"] if administrator else ""
            users = stores["users"] = Users(session, wanted["roles"], keep, proofs)
        try:
            changes, problems = objects.reconcile(stores, wanted, purge, check)
        except InvalidToken:
            changes, problems = [], [
                "The database has connections or variables that airflow_fernet_key does not decrypt. Remedy: add the key with "
                'which they were made, as "new,old".'
            ]
    if users and users.with_new_password and not check:
        end_sessions(users.with_new_password)
    return {
        "problems": problems,
        "changes": [change.describe(hide) for change in changes],
        "proofs": {name: proof for name, proof in proofs.items() if users and name in users.updating},
    }


def count_users() -> int:
    from airflow.utils.session import create_session
    from sqlalchemy import text

    with create_session() as session:
        return int(session.scalar(text("select count(*) from ab_user")))


def provide_builtin_roles() -> None:
    """Let Airflow make its own roles and permissions where it has never done that: a web server does so when it starts."""
    from airflow.providers.fab.auth_manager.models import Role
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        missing = set(objects.BUILTIN_ROLES) - set(session.scalars(select(Role.name)))
    if missing:
        from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

        with get_application_builder() as builder:
            builder.sm.sync_roles()


def complete_administrator(users: Objects, administrator: dict[str, str]) -> None:
    """Add the first administrator to the wanted users; one of this name in the inventory gets what it lacks."""
    fields = {
        "email": administrator["email"],
        "first_name": "Airflow",
        "last_name": "Administrator",
        "roles": ["Admin"],
        "password": administrator["password"],
        "update_password": "on_create",
        "active": True,
    }
    own = users.setdefault(administrator["username"], fields)
    own["password"] = own["password"] or administrator["password"]


def end_sessions(users: list[int]) -> None:
    """End the sessions that users have in their browsers, as Airflow does when a password is reset."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        for number in users:
            builder.sm.reset_user_sessions(builder.sm.get_user_by_id(number))


# The module ------------------------------------------------------------------------------------------------------------


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "objects": {"type": "json", "required": True, "no_log": True},
            "purge": {"type": "list", "elements": "str", "choices": objects.KINDS, "default": []},
            "administrator": {
                "type": "dict",
                "options": {
                    "username": {"type": "str", "required": True},
                    "email": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
            # Where, not what.
            "passwords_file": {"type": "path", "default": "/var/lib/airfield/user-passwords.json", "no_log": False},
            "account": {"type": "str", "default": "airflow"},
            "config": {"type": "path", "default": "/etc/airflow/airflow.cfg"},
            "environment_file": {"type": "path", "default": "/etc/airflow/cli.env"},
        },
        supports_check_mode=True,
    )
    params = module.params
    given = json.loads(params["objects"])
    unknown = sorted(set(given) - set(objects.KINDS))
    if unknown:
        module.fail_json(msg=f"There are no objects of kind {', '.join(unknown)}, only {', '.join(objects.KINDS)}.")
    wanted, problems = objects.read_wanted(given)
    refuse(module, problems)
    if not any(wanted.values()) and not params["purge"] and not params["administrator"]:
        module.exit_json(changed=False, changes=[])
    path = params["passwords_file"]
    proofs = json.loads(read_text(path) or "{}")
    try:
        result = call_airflow(
            module, {}, reconcile, wanted, params["purge"], params["administrator"], proofs, module.check_mode
        )
    except RuntimeError as error:
        # A database's message tells what it was given.
        module.no_log_values.update(objects.secret_values(given))
        module.fail_json(msg=f"Nothing was changed in the database: {error}. Remedy: see whether it answers.")
    refuse(module, result["problems"])
    if result["proofs"] or proofs:
        ensure_file(module, path, json.dumps(result["proofs"], indent=1, sort_keys=True) + "\n", mode="0600")
    changes = result["changes"]
    diff = {side: yaml_dump(objects.as_document(changes, side)) if changes else "" for side in ("before", "after")}
    module.exit_json(
        changed=bool(changes),
        changes=[{name: change[name] for name in ("kind", "name", "action", "fields")} for change in changes],
        diff=diff,
    )


def refuse(module: AnsibleModule, problems: list[str]) -> None:
    """Fail where there are problems, before anything has been written."""
    if problems:
        module.fail_json(msg="Nothing was changed in the database.\n" + "\n".join(problems))


if __name__ == "__main__":
    main()
