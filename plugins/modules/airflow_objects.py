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
      - Kinds of O(objects) of which all that are not wanted are removed.
      - Never removed are C(default_pool), the roles that Airflow brings (Admin, Op, User, Viewer, Public), and
        O(administrator).
    type: list
    elements: str
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
extends_documentation_fragment:
  - airfield.metal.service_account
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
      description: One of the kinds of O(objects).
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

import contextlib
import datetime
import hmac
import json
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.yaml import yaml_dump
from ansible_collections.airfield.metal.plugins.module_utils import objects, service_account
from ansible_collections.airfield.metal.plugins.module_utils.catalogue import suggest
from ansible_collections.airfield.metal.plugins.module_utils.files import ensure_file, read_json
from ansible_collections.airfield.metal.plugins.module_utils.objects import Change, Objects

OTHER_KEY = (
    "airflow_fernet_key does not decrypt what the database has of these connections or variables. "
    'Remedy: add the key with which they were made, as "new,old".'
)

# The database ----------------------------------------------------------------------------------------------------------
# From here to main() Airflow is there, with its environment.


class Rows:
    """The objects of a kind, as rows of a model of Airflow's.

    :arg key: the model's attribute with the name.
    """

    def __init__(self, session: Any, model: Any, key: str) -> None:
        self.session, self.model, self.key = session, model, key
        self.column = getattr(model, key)
        # Those that are wanted and there, by name.
        self.rows: dict[str, Any] = {}

    def prepare(self, wanted: Objects) -> list[str]:
        return []

    def load(self, names: Iterable[str]) -> dict[str, Any]:
        query = self.session.query(self.model).where(self.column.in_(names))
        self.rows = {getattr(row, self.key): row for row in query}
        return self.rows

    def row_of(self, change: Change) -> Any:
        """The row of an object, in the session also where it is a new one."""
        row = self.rows.get(change.name)
        if row is None:
            row = self.model(**{self.key: change.name})
            self.session.add(row)
        return row

    def all_but(self, kept: Iterable[str], *fields: str) -> Objects:
        """These fields of all objects but some, read without what is encrypted in them."""
        columns = [self.column, *(getattr(self.model, field) for field in fields)]
        query = self.session.query(*columns).where(self.column.not_in(kept)).order_by(self.column)
        return {name: dict(zip(fields, values, strict=True)) for name, *values in query}

    def remove(self, name: str) -> None:
        self.session.query(self.model).where(self.column == name).delete()


class Pools(Rows):
    def __init__(self, session: Any) -> None:
        from airflow.models.pool import Pool

        super().__init__(session, Pool, "pool")

    def read(self, wanted: Objects) -> Objects:
        found = {
            name: {"slots": row.slots, "description": row.description or "", "include_deferred": row.include_deferred}
            for name, row in self.load(wanted).items()
        }
        # What somebody has set by hand is as it should be.
        return {name: row if objects.is_ours_to_resize(wanted[name], row) else {**wanted[name]} for name, row in found.items()}

    def others(self, wanted: Objects) -> Objects:
        return self.all_but([*wanted, objects.DEFAULT_POOL], "slots")

    def write(self, change: Change) -> None:
        if change.after is None:
            self.remove(change.name)
            return
        row = self.row_of(change)
        for field, value in change.after.items():
            setattr(row, field, value)


class Connections(Rows):
    TEXTS = ("conn_type", "host", "login", "password", "schema", "description")

    def __init__(self, session: Any) -> None:
        from airflow.models.connection import Connection

        super().__init__(session, Connection, "conn_id")

    def prepare(self, wanted: Objects) -> list[str]:
        from airflow.providers_manager import ProvidersManager

        problems = []
        known = sorted(ProvidersManager().hooks) if wanted else []
        for name, fields in wanted.items():
            uri = fields.pop("uri")
            if uri:
                try:
                    given = self.fields_of(self.model(conn_id=name, uri=uri))
                except Exception:
                    # Its text may hold the password.
                    problems.append(objects.blame("connections", name, "Airflow does not understand its uri."))
                    continue
                fields.update({**given, "description": fields["description"]})
            for field in self.TEXTS:
                fields[field] = fields[field] or ""
            fields["extra"] = dict(fields["extra"] or {})
            if fields["conn_type"] not in known:
                problems.append(objects.unknown_type(name, fields["conn_type"], known))
        return problems

    def fields_of(self, row: Any) -> dict[str, Any]:
        try:
            extra = json.loads(row.extra or "{}")
        except ValueError:
            extra = "not a mapping in JSON"
        return {**{field: getattr(row, field) or "" for field in self.TEXTS}, "port": row.port, "extra": extra}

    def read(self, wanted: Objects) -> Objects:
        return {name: self.fields_of(row) for name, row in self.load(wanted).items()}

    def others(self, wanted: Objects) -> Objects:
        return self.all_but(wanted, "conn_type")

    def write(self, change: Change) -> None:
        if change.after is None:
            self.remove(change.name)
            return
        row = self.row_of(change)
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
    def __init__(self, session: Any) -> None:
        from airflow.models.variable import Variable

        super().__init__(session, Variable, "key")

    def read(self, wanted: Objects) -> Objects:
        from cryptography.fernet import InvalidToken

        present = {}
        for key, row in self.load(wanted).items():
            value = row.val
            if value is None:
                # Airflow has only logged it.
                raise InvalidToken
            if not isinstance(wanted[key]["value"], str):
                with contextlib.suppress(ValueError):
                    value = json.loads(value)
            present[key] = {"value": value, "description": row.description or ""}
        return present

    def others(self, wanted: Objects) -> Objects:
        return self.all_but(wanted)

    def write(self, change: Change) -> None:
        if change.after is None:
            self.remove(change.name)
            return
        row, value = self.row_of(change), change.after["value"]
        if change.before is None or "value" in change.fields:
            row.val = value if isinstance(value, str) else json.dumps(value)
        row.description = change.after["description"] or None


class Roles(Rows):
    def __init__(self, session: Any) -> None:
        from airflow.providers.fab.auth_manager import models

        try:
            from airflow.providers.fab.www.security.permissions import RESOURCE_DETAILS_MAP
        except ImportError:  # Airflow 2
            from airflow.security.permissions import RESOURCE_DETAILS_MAP

        super().__init__(session, models.Role, "name")
        self.models, self.of_dags = models, RESOURCE_DETAILS_MAP

    def prepare(self, wanted: Objects) -> list[str]:
        known = {self.name_of(row) for row in self.session.query(self.models.Permission)}
        return [
            objects.blame(
                "roles",
                name,
                f'the release knows no permission "{permission}".{suggest(permission, known)}',
                "correct it; the web interface shows all of them where it lets an administrator change a role",
            )
            for name, fields in wanted.items()
            for permission in fields["permissions"]
            # In check mode the first run does not know them yet.
            if objects.EVERY_ROLE in known and permission not in known and not self.is_of_a_dag(permission)
        ]

    @staticmethod
    def name_of(permission: Any) -> str:
        return f"{permission.action.name} on {permission.resource.name}"

    def is_of_a_dag(self, permission: str) -> bool:
        """Whether it can be a permission for one DAG, which comes into being with its first use."""
        action, resource = permission.split(" on ", 1)
        return any(resource.startswith(rules["prefix"]) and action in rules["actions"] for rules in self.of_dags.values())

    def read(self, wanted: Objects) -> Objects:
        present = {}
        for name, row in self.load(wanted).items():
            permissions = {self.name_of(permission) for permission in row.permissions}
            excess = permissions - set(wanted[name]["permissions"])
            present[name] = {"permissions": sorted(permissions - set(self.given_by_dags(name, excess)))}
        return present

    def given_by_dags(self, role: str, permissions: Iterable[str]) -> Iterator[str]:
        """Those of the permissions that a role has by the `access_control` of a DAG, which would give them again."""
        for permission in permissions:
            action, name = permission.split(" on ", 1)
            for resource, rules in self.of_dags.items():
                if name.startswith(rules["prefix"]):
                    dag = read_dag(name[len(rules["prefix"]) :], self.session)
                    granted = ((dag and dag.access_control) or {}).get(role) or {}
                    if action in granted.get(resource, ()):
                        yield permission

    def others(self, wanted: Objects) -> Objects:
        return self.all_but([*wanted, *objects.BUILTIN_ROLES])

    def write(self, change: Change) -> None:
        if change.after is None:
            (number,) = self.session.query(self.model.id).where(self.column == change.name).one()
            # A database that came from an older Airflow does not do it by itself.
            for name in ("assoc_permission_role", "assoc_user_role", "assoc_group_role"):
                # Airflow 2 has no groups.
                if not hasattr(self.models, name):
                    continue
                table = getattr(self.models, name)
                self.session.execute(table.delete().where(table.c.role_id == number))
            self.remove(change.name)
            return
        row = self.row_of(change)
        before, after = (set((side or {}).get("permissions", ())) for side in (change.before, change.after))
        kept = [permission for permission in row.permissions if self.name_of(permission) not in before - after]
        row.permissions = kept + [self.provide(name) for name in sorted(after - before)]
        # For the users: Airflow's sessions do not do it by themselves.
        self.session.flush()

    def provide(self, name: str) -> Any:
        """The row of a permission, made where it is one for a DAG."""
        models, (action_name, resource_name) = self.models, name.split(" on ", 1)
        # Every permission for a DAG has an action that others have, too.
        action = self.session.query(models.Action).filter_by(name=action_name).one()
        resource = self.session.query(models.Resource).filter_by(name=resource_name).one_or_none()
        permission = resource and self.session.query(models.Permission).filter_by(action=action, resource=resource).first()
        if not permission:
            permission = models.Permission(action=action, resource=resource or models.Resource(name=resource_name))
            self.session.add(permission)
            self.session.flush()
        return permission


class Users(Rows):
    """Users by their name.

    A password is compared with what the database has of it only where it may be updated, and hashed only where `proofs`
    (what `objects.proof` says of each user) do not say that it is the same.
    """

    def __init__(self, session: Any, new_roles: Collection[str], kept: str, proofs: dict[str, str]) -> None:
        from airflow.configuration import conf
        from airflow.providers.fab.auth_manager import models

        super().__init__(session, models.User, "username")
        self.models, self.conf, self.new_roles, self.kept = models, conf, new_roles, kept
        self.fernet_key, self.proofs = conf.get("core", "fernet_key"), proofs
        self.updating: set[str] = set()
        # Numbers of those whose old sessions must end.
        self.with_new_password: list[int] = []

    def prepare(self, wanted: Objects) -> list[str]:
        from sqlalchemy import func

        roles = {*(name for (name,) in self.session.query(self.models.Role.name)), *objects.BUILTIN_ROLES, *self.new_roles}
        emails = [fields["email"] for fields in wanted.values()]
        owners = {row.email: row.username for row in self.session.query(self.model).where(self.model.email.in_(emails))}
        problems = []
        for name, fields in wanted.items():
            if fields.pop("update_password") == "always":
                self.updating.add(name)
            for role in fields["roles"]:
                if role not in roles:
                    problem = f'there is no role "{role}".{suggest(role, roles)}'
                    problems.append(objects.blame("users", name, problem, "correct it, or add the role to airflow_roles"))
            owner = owners.get(fields["email"], name)
            if owner.lower() != name.lower():
                problem = f"its email {fields['email']} is user {owner}'s in the database."
                problems.append(objects.blame("users", name, problem, "give it another, or change or remove that user"))
        names = {name.lower(): name for name in wanted}
        query = self.session.query(self.model).where(func.lower(self.column).in_(names))
        self.rows = {names[row.username.lower()]: row for row in query}
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
        proof = objects.proof(self.fernet_key, name, password, stored)
        if not hmac.compare_digest(self.proofs.get(name, ""), proof):
            if not stored or not check_password_hash(stored, password):
                return stored
            self.proofs[name] = proof
        return password

    def others(self, wanted: Objects) -> Objects:
        kept = {name.lower() for name in [*wanted, self.kept]}
        return {name: fields for name, fields in self.all_but([], "email").items() if name.lower() not in kept}

    def write(self, change: Change) -> None:
        if change.after is None:
            row = self.session.query(self.model).where(self.column == change.name).one()
            row.groups = []
            self.session.delete(row)
            return
        row = self.row_of(change)
        for field in ("email", "first_name", "last_name", "active"):
            setattr(row, field, change.after[field])
        row.roles = self.session.query(self.models.Role).where(self.models.Role.name.in_(change.after["roles"])).all()
        row.changed_on = datetime.datetime.now(tz=datetime.timezone.utc)
        if change.before is None or "password" in change.fields:
            row.password = self.hash_password(change.after["password"])
            if change.name in self.updating:
                self.proofs[change.name] = objects.proof(self.fernet_key, change.name, change.after["password"], row.password)
            if change.before is not None:
                self.with_new_password.append(row.id)

    def hash_password(self, password: str | None) -> str:
        """A password as Airflow stores it; without one, one that nobody knows."""
        from flask import Config
        from werkzeug.security import generate_password_hash

        options = Config("/")
        # Airflow 2 has it in another section.
        file = self.conf.get("fab", "config_file", fallback="") or self.conf.get("webserver", "config_file")
        options.from_pyfile(file, silent=True)
        method = options.get("FAB_PASSWORD_HASH_METHOD", "scrypt")
        return generate_password_hash(password or secrets.token_urlsafe(32), method=method)


def reconcile(
    wanted: dict[str, Objects], purge: list[str], administrator: dict[str, str] | None, proofs: dict[str, str], check: bool
) -> dict[str, Any]:
    """Bring the database to what is wanted; returns problems or described changes, and the proofs for the next time."""
    try:
        from airflow._shared.secrets_masker import DEFAULT_SENSITIVE_FIELDS
    except ImportError:  # Airflow 2
        from airflow.utils.log.secrets_masker import DEFAULT_SENSITIVE_FIELDS
    from airflow.configuration import conf
    from airflow.utils.session import create_session
    from cryptography.fernet import InvalidToken

    more = conf.get("core", "sensitive_var_conn_names").split(",")
    sensitive = {*DEFAULT_SENSITIVE_FIELDS, *map(str.strip, more)} - {""}

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
            kept = administrator["username"] if administrator else ""
            users = stores["users"] = Users(session, wanted["roles"], kept, proofs)
        try:
            changes, problems = objects.reconcile(stores, wanted, purge, check)
        except InvalidToken:
            changes, problems = [], [OTHER_KEY]
    if users and users.with_new_password and not check:
        end_sessions(users.with_new_password)
    return {
        "problems": problems,
        "changes": [change.describe(hide) for change in changes],
        "proofs": {name: proof for name, proof in proofs.items() if users and name in users.updating},
    }


def read_dag(name: str, session: Any) -> Any:
    """A DAG as the database has it; None where there is none."""
    try:
        from airflow.models.dagbag import DBDagBag
    except ImportError:  # Airflow 2
        from airflow.models.serialized_dag import SerializedDagModel

        row = SerializedDagModel.get(name, session=session)
        return row and row.dag
    return DBDagBag().get_latest_version_of_dag(name, session=session)


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
            **service_account.ARGUMENTS,
            "objects": {"type": "json", "required": True, "no_log": True},
            "purge": {"type": "list", "elements": "str", "default": []},
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
        },
        supports_check_mode=True,
    )
    params = module.params
    given = json.loads(params["objects"])
    unknown = sorted({*given, *params["purge"]} - set(objects.KINDS))
    if unknown:
        module.fail_json(msg=f"There are no objects of kind {', '.join(unknown)}, only {', '.join(objects.KINDS)}.")
    wanted, problems = objects.read_wanted(given)
    refuse(module, problems)
    if not any(wanted.values()) and not params["purge"] and not params["administrator"]:
        module.exit_json(changed=False, changes=[])
    path = params["passwords_file"]
    found, problem = read_json(path)
    if problem:
        module.warn(f"{problem} It is made anew, with every password.")
    proofs = {name: proof for name, proof in found.items() if isinstance(proof, str)}
    try:
        result = service_account.call_airflow(
            module, {}, reconcile, wanted, params["purge"], params["administrator"], proofs, module.check_mode
        )
    except RuntimeError as error:
        # A database's message tells what it was given.
        module.no_log_values.update(objects.secret_values(given))
        module.fail_json(msg=f"The objects could not be reconciled: {error}. Remedy: see whether the database answers.")
    refuse(module, result["problems"])
    if result["proofs"] or proofs:
        ensure_file(module, path, json.dumps(result["proofs"], indent=1, sort_keys=True) + "\n", mode="0600")
    changes = result["changes"]
    documents = {side: objects.as_document(changes, side) for side in ("before", "after")}
    diff = {side: yaml_dump(body, allow_unicode=True, width=4096) if body else "" for side, body in documents.items()}
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
