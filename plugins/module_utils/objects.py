"""What is kept in Airflow's database as code: its rules, and what differs between it and what is wanted.

Nothing here imports Airflow. Objects are mappings of fields, by their name, of a kind that is one of `FIELDS`.
"""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from ansible.module_utils.common.validation import check_type_bool, check_type_int
from ansible_collections.airfield.metal.plugins.module_utils.catalogue import suggest

# The fields of each kind, the first of which is its name, as the argument specs of role airflow document them. Users come
# after the roles that they have.
FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "pools": {
        "name": {"type": "str", "required": True},
        "slots": {"type": "int", "required": True},
        "description": {"type": "str", "default": ""},
        "include_deferred": {"type": "bool", "default": False},
    },
    "connections": {
        "conn_id": {"type": "str", "required": True},
        "uri": {"type": "str"},
        "conn_type": {"type": "str"},
        "host": {"type": "str"},
        "login": {"type": "str"},
        "password": {"type": "str"},
        "schema": {"type": "str"},
        "port": {"type": "int"},
        "extra": {"type": "dict"},
        "description": {"type": "str", "default": ""},
    },
    "variables": {
        "key": {"type": "str", "required": True},
        "value": {"type": "raw", "required": True},
        "description": {"type": "str", "default": ""},
    },
    "roles": {
        "name": {"type": "str", "required": True},
        "permissions": {"type": "list", "elements": "str", "required": True},
    },
    "users": {
        "username": {"type": "str", "required": True},
        "email": {"type": "str", "required": True},
        "first_name": {"type": "str", "default": ""},
        "last_name": {"type": "str", "default": ""},
        "roles": {"type": "list", "elements": "str", "required": True},
        "password": {"type": "str"},
        "update_password": {"type": "str", "choices": ["on_create", "always"], "default": "on_create"},
        "active": {"type": "bool", "default": True},
    },
}
KINDS = sorted(FIELDS)
VARIABLES = {f"airflow_{kind}": kind for kind in KINDS}
# Columns of Airflow's tables.
LENGTHS = {"connections": 250, "pools": 256, "roles": 64, "users": 512, "variables": 250}
# Airflow gives them their permissions anew at each start of a web server; Public has none there.
FIXED_ROLES = ("Admin", "Op", "User", "Viewer")
BUILTIN_ROLES = (*FIXED_ROLES, "Public")
DEFAULT_POOL = "default_pool"
# Of one that follows the workers; the number tells whether somebody has changed its slots since.
FOLLOWING_POOL = "Default pool, as large as the workers (Airfield: {})"
# As Airflow makes it.
FRESH_POOL = {"slots": 128, "description": "Default pool"}
# At each start the web server gives it to every role.
EVERY_ROLE = "can_read on Website"
# As Airflow itself takes no other.
CONN_ID = re.compile(r"[\w#!()\-.:/\\]+")
MASK = "********"
URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):\S*@")

Fields = dict[str, Any]
Objects = dict[str, Fields]


# Rules -----------------------------------------------------------------------------------------------------------------


def blame(kind: str, name: str, problem: str, remedy: str = "correct it in the inventory") -> str:
    """One sentence on what is wrong with an object."""
    return f"variable airflow_{kind}: {kind[:-1]} {name}: {problem} Remedy: {remedy}."


def convert(value: Any, spec: Mapping[str, Any]) -> Any:
    """A field's value in its type.

    :raises TypeError: with the rest of a sentence that begins with the field's name; it never holds the value.
    """
    kind = spec["type"]
    try:
        if kind == "int":
            return check_type_int(value)
        if kind == "bool":
            return check_type_bool(value)
    except TypeError:
        raise TypeError(f"must be {'a whole number' if kind == 'int' else 'true or false'}.") from None
    if kind == "str" and not isinstance(value, str):
        raise TypeError("must be text; what YAML takes for something else, as a number, needs quotes.")
    if kind == "dict" and not isinstance(value, Mapping):
        raise TypeError("must be a mapping.")
    if kind == "list" and not (isinstance(value, list) and all(isinstance(part, str) for part in value)):
        raise TypeError("must be a list of texts.")
    if value not in spec.get("choices", [value]):
        raise TypeError(f"must be one of {', '.join(spec['choices'])}.")
    return value


def normalise(kind: str, given: Mapping[str, Any]) -> tuple[Fields, list[str]]:
    """An object with the types and defaults of its fields, and what is wrong with it, as the rest of a sentence."""
    fields: Fields = {}
    problems = [
        f"{name} is not a field of {kind}.{suggest(str(name), FIELDS[kind])}" for name in given if name not in FIELDS[kind]
    ]
    for name, spec in FIELDS[kind].items():
        if given.get(name) is None:
            fields[name] = spec.get("default")
            if spec.get("required"):
                problems.append(f"{name} is missing.")
            continue
        try:
            fields[name] = convert(given[name], spec)
        except TypeError as error:
            problems.append(f"{name} {error}")
    return fields, problems or RULES[kind](fields)


def connection_problems(fields: Fields) -> list[str]:
    problems = []
    if not CONN_ID.fullmatch(fields["conn_id"]):
        problems.append("conn_id may have letters, digits and #!()-_.:/\\ only.")
    uri = fields["uri"]
    others = [name for name in ("conn_type", "host", "login", "password", "schema", "port", "extra") if fields[name]]
    if uri and others:
        problems.append(f"it has both uri and {', '.join(others)}; give the one or the others.")
    elif uri:
        try:
            parts = urlsplit(uri)
            # Reading it raises, too.
            bad = not parts.scheme or "://" not in uri or (parts.port or 0) < 0
        except ValueError:
            bad = True
        if bad:
            problems.append("uri is not one, such as postgres://login:password@host:5432/schema, quoted where it must be.")
    elif not fields["conn_type"]:
        problems.append("it has neither uri nor conn_type.")
    if fields["port"] is not None and not 0 < fields["port"] < 65536:
        problems.append("port must be between 1 and 65535.")
    return problems


def pool_problems(fields: Fields) -> list[str]:
    return [] if fields["slots"] >= -1 else ["slots must be a number of tasks, or -1 for any number."]


def role_problems(fields: Fields) -> list[str]:
    if fields["name"] in FIXED_ROLES:
        return ["is one of Airflow's own, which keeps its permissions; make another."]
    return [
        f'permission "{permission}" is not of the form "can_read on DAGs".'
        for permission in fields["permissions"]
        if not re.fullmatch(r"\w+ on \S.*", permission)
    ]


def user_problems(fields: Fields) -> list[str]:
    problems = []
    if not fields["roles"]:
        problems.append("it has no role.")
    mode = fields["update_password"]
    if mode == "always" and not fields["password"]:
        problems.append("update_password is always, but there is no password.")
    return problems


RULES: dict[str, Callable[[Fields], list[str]]] = {
    "connections": connection_problems,
    "pools": pool_problems,
    "roles": role_problems,
    "users": user_problems,
    "variables": lambda fields: [],
}


def identity(kind: str, name: str) -> str:
    """What two names of the same object have in common; Airflow takes users' names in any case."""
    return name.lower() if kind == "users" else name


def read_wanted(given: Mapping[str, Any]) -> tuple[dict[str, Objects], list[str]]:
    """The wanted objects of each kind by name, and what is wrong with them, one sentence each.

    None of the sentences ever holds the value of a secret.

    :arg given: kind -> list of mappings.
    """
    wanted: dict[str, Objects] = {kind: {} for kind in FIELDS}
    problems = []
    for kind, items in given.items():
        if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
            problems.append(f"variable airflow_{kind} must be a list of mappings. Remedy: see docs/reference.md.")
            continue
        key, seen, emails = next(iter(FIELDS[kind])), set(), set()
        for number, item in enumerate(items, 1):
            fields, found = normalise(kind, item)
            name = item[key] if isinstance(item.get(key), str) and item[key] else f"number {number}"
            if len(name) > LENGTHS[kind]:
                found.append(f"{key} has more than {LENGTHS[kind]} characters.")
            if identity(kind, name) in seen:
                found.append("it is there twice.")
            seen.add(identity(kind, name))
            if kind == "users" and item.get("email"):
                if item["email"] in emails:
                    found.append(f"email {item['email']} is another user's, too.")
                emails.add(item["email"])
            problems += [blame(kind, name, problem) for problem in found]
            if not found:
                del fields[key]
                wanted[kind][name] = fields
    for name, fields in wanted["pools"].items():
        if name == DEFAULT_POOL and not fields["description"]:
            fields["description"] = "Default pool"
    for fields in wanted["roles"].values():
        fields["permissions"] = sorted({*fields["permissions"], EVERY_ROLE})
    for fields in wanted["users"].values():
        fields["roles"] = sorted(set(fields["roles"]))
    return wanted, problems


def is_ours_to_resize(wanted: Fields, found: Fields) -> bool:
    """Whether a pool that shall follow the workers may be changed: nobody else has set its slots."""
    if not str(wanted["description"]).startswith(FOLLOWING_POOL.split("{", maxsplit=1)[0]):
        return True
    fresh = {name: found[name] for name in FRESH_POOL} == FRESH_POOL
    return fresh or found["description"] == FOLLOWING_POOL.format(found["slots"])


def unknown_type(name: str, conn_type: str, known: Iterable[str]) -> str:
    """The problem of a connection whose type no installed package brings."""
    package = "apache-airflow-providers-" + re.sub(r"[^a-z0-9]+", "-", conn_type.lower()).strip("-")
    return blame(
        "connections",
        name,
        f'the release knows no connections of type "{conn_type}".{suggest(conn_type, known)}',
        f"correct it, add the package that brings the type to airflow_packages (perhaps {package}), or use type generic",
    )


# Secrets ---------------------------------------------------------------------------------------------------------------


def proof(key: str, username: str, password: str, stored: str) -> str:
    """What says that a password belongs to a stored hash, for those who know all of it, without computing the hash."""
    return hmac.new(key.encode(), json.dumps([username, password, stored]).encode(), hashlib.sha256).hexdigest()


def secret_values(given: Mapping[str, Any]) -> set[str]:
    """All texts in the objects that might be secret, for a message that others have written."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, Mapping):
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)
        elif isinstance(value, str) and value:
            found.add(value)

    for item in given.get("connections") or []:
        walk([item.get("password"), item.get("uri"), item.get("extra")])
        uri = item.get("uri")
        if isinstance(uri, str) and "@" in uri:
            walk(uri.partition("://")[2].rpartition("@")[0].partition(":")[2])
    for item in given.get("variables") or []:
        walk(item.get("value"))
    for item in given.get("users") or []:
        walk(item.get("password"))
    return found


def parse(text: Any) -> Any:
    """The mapping or list that a text may hold as JSON; else what was given."""
    if isinstance(text, str) and text.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return text


def veil(before: Any, after: Any, hidden: bool, hide: Callable[[str], bool]) -> tuple[Any, Any]:
    """Both values as they may be shown: without secrets, and yet different where they differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        shown: tuple[Fields, Fields] = ({}, {})
        for key in sorted({*before, *after}):
            values = veil(before.get(key), after.get(key), hidden or hide(str(key)), hide)
            for side, given, value in zip(shown, (before, after), values, strict=True):
                if key in given:
                    side[key] = value
        return shown
    first, second = (cover(value, hidden, hide) for value in (before, after))
    return first, f"{second} (changed)" if first == second and before != after else second


def cover(value: Any, hidden: bool, hide: Callable[[str], bool]) -> Any:
    """A value without its secrets."""
    if isinstance(value, Mapping):
        return {key: cover(part, hidden or hide(str(key)), hide) for key, part in value.items()}
    if isinstance(value, list):
        return [cover(part, hidden, hide) for part in value]
    if hidden and value not in (None, ""):
        return MASK
    return URL_PASSWORD.sub(rf"\1:{MASK}@", value) if isinstance(value, str) else value


# Differences -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """An object that is to be created (without `before`), updated, or removed (without `after`)."""

    kind: str
    name: str
    before: Fields | None
    after: Fields | None

    @property
    def action(self) -> str:
        return "created" if self.before is None else "removed" if self.after is None else "updated"

    @property
    def fields(self) -> list[str]:
        """Names of the fields that differ."""
        before, after = self.before or {}, self.after or {}
        return sorted(name for name in {*before, *after} if (before.get(name) or None) != (after.get(name) or None))

    def describe(self, hide: Callable[[str], bool]) -> dict[str, Any]:
        """The change for people, without secrets."""
        before, after = ({name: (side or {}).get(name) for name in self.fields} for side in (self.before, self.after))
        for name in self.fields:
            secret = name == "password" or (name == "value" and hide(self.name))
            before[name], after[name] = veil(parse(before[name]), parse(after[name]), secret, hide)
        return {
            "kind": self.kind,
            "name": self.name,
            "action": self.action,
            "fields": self.fields if self.action == "updated" else [],
            "before": None if self.before is None else before,
            "after": None if self.after is None else after,
        }


class Store(Protocol):
    """The objects of one kind in Airflow's database."""

    def prepare(self, wanted: Objects) -> list[str]:
        """Bring the wanted objects to the form of the present ones; returns what Airflow would refuse, one sentence each."""

    def read(self, wanted: Objects) -> Objects:
        """The present fields of those of the objects that are there."""

    def others(self, wanted: Objects) -> Objects:
        """Some fields of all other objects that may be removed."""

    def write(self, change: Change) -> None:
        """Create, update or remove an object."""


def find_changes(kind: str, store: Store, wanted: Objects, purge: bool) -> list[Change]:
    """What must be done for the wanted objects of a kind to be there, and with `purge` no others."""
    present = store.read(wanted)
    changes = [Change(kind, name, present.get(name), fields) for name, fields in wanted.items() if present.get(name) != fields]
    if purge:
        changes += [Change(kind, name, fields, None) for name, fields in store.others(wanted).items()]
    return changes


def reconcile(
    stores: Mapping[str, Store], wanted: Mapping[str, Objects], purge: Iterable[str], check: bool
) -> tuple[list[Change], list[str]]:
    """Bring the stores to what is wanted, unless there are problems: then nothing has been written.

    :arg purge: kinds of which objects that are not wanted are removed.
    :arg check: write nothing.
    """
    kinds = [kind for kind in FIELDS if kind in stores]
    problems = [problem for kind in kinds for problem in stores[kind].prepare(wanted[kind])]
    if problems:
        return [], problems
    changes = [change for kind in kinds for change in find_changes(kind, stores[kind], wanted[kind], kind in purge)]
    for change in [] if check else changes:
        stores[change.kind].write(change)
    return changes, []


def as_document(changes: Iterable[Mapping[str, Any]], side: str) -> dict[str, dict[str, Any]]:
    """One side of the described changes, as kind -> name -> fields."""
    document: dict[str, dict[str, Any]] = {}
    for change in changes:
        if change[side] is not None:
            document.setdefault(f"airflow_{change['kind']}", {})[change["name"]] = change[side]
    return document
