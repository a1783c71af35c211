"""How people log in: what is wrong with `airflow_authentication`, and what FAB, Airflow's auth manager, is told of it."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.airfield.metal.plugins.plugin_utils import secrets

# What FAB makes in every database (airflow/providers/fab/auth_manager/security_manager/override.py, ROLE_CONFIGS).
BUILTIN_ROLES = frozenset({"Admin", "Op", "Public", "User", "Viewer"})
SYSTEM_CA_FILE = "/etc/ssl/certs/ca-certificates.crt"

# Field -> FAB's name for it.
LDAP_SETTINGS = {
    "bind_user": "AUTH_LDAP_BIND_USER",
    "email_field": "AUTH_LDAP_EMAIL_FIELD",
    "firstname_field": "AUTH_LDAP_FIRSTNAME_FIELD",
    "group_field": "AUTH_LDAP_GROUP_FIELD",
    "lastname_field": "AUTH_LDAP_LASTNAME_FIELD",
    "search": "AUTH_LDAP_SEARCH",
    "search_filter": "AUTH_LDAP_SEARCH_FILTER",
    "server": "AUTH_LDAP_SERVER",
    "uid_field": "AUTH_LDAP_UID_FIELD",
}
# Type -> fields that it must have, and fields that it may have.
COMMON = {"type", "ca_file", "roles_sync_at_login", "user_registration", "user_registration_role"}
FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "database": (set(), {"type"}),
    "ldap": ({"bind_user", "search", "server"}, COMMON | set(LDAP_SETTINGS) | {"roles_mapping", "start_tls"}),
    "oauth": ({"providers"}, COMMON | {"providers"}),
}
# Where each provider is asked, as FAB's documentation has it ({realm}: address of a Keycloak realm), and with which scope.
# Keycloak answers for the user only to a token with scope openid; that brings a signed token, hence its keys and issuer.
PROVIDERS: dict[str, dict[str, str]] = {
    "github": {
        "api_base_url": "https://api.github.com/",
        "access_token_url": "https://github.com/login/oauth/access_token",
        "authorize_url": "https://github.com/login/oauth/authorize",
        "scope": "read:user read:org",
    },
    "google": {
        "api_base_url": "https://www.googleapis.com/oauth2/v2/",
        "access_token_url": "https://oauth2.googleapis.com/token",
        "authorize_url": "https://accounts.google.com/o/oauth2/v2/auth",
        "scope": "email profile",
    },
    "keycloak": {
        "api_base_url": "{realm}/protocol/",
        "access_token_url": "{realm}/protocol/openid-connect/token",
        "authorize_url": "{realm}/protocol/openid-connect/auth",
        "jwks_uri": "{realm}/protocol/openid-connect/certs",
        "issuer": "{realm}",
        "scope": "openid email profile",
    },
}
ICONS = {"github": "fa-github", "google": "fa-google", "keycloak": "fa-key"}
# What can be asked for in `allowed` and `roles_mapping`, in words.
MEMBERSHIPS = {
    "github": "organisations or teams (organisation/team)",
    "google": "domains of Google Workspace",
    "keycloak": "groups",
}


def kind_of(authentication: Any) -> str:
    """The type; database where it is none that exists, which the precheck refuses."""
    kind = authentication.get("type") if isinstance(authentication, Mapping) else None
    return kind if isinstance(kind, str) and kind in FIELDS else "database"


def find_problems(authentication: Mapping[str, Any], client_secrets: Any, roles: Any) -> list[str]:
    """What is wrong with a mapping whose types and choices are right, one sentence each; none holds a secret.

    :arg client_secrets: provider -> secret.
    :arg roles: the inventory's own roles, a mapping by their names or a list of mappings with a name.
    """
    kind = kind_of(authentication)
    required, allowed = FIELDS[kind]
    given = {name for name, value in authentication.items() if value is not None}
    problems = [
        f"{name} is missing, type {kind} needs it. Remedy: set it; docs/operators.md has an example."
        for name in sorted(required - given)
    ] + [
        f"{name} is not a field of type {kind}. Remedy: remove it, or change the type."
        for name in sorted(given - allowed)
    ]  # fmt: skip
    known = BUILTIN_ROLES | role_names(roles)
    problems += role_problems([authentication.get("user_registration_role") or "Public"], "user_registration_role", known)
    if kind == "ldap":
        problems += ldap_problems(authentication, known)
    if kind == "oauth":
        open_to_new = boolean(authentication.get("user_registration", True), strict=False)
        for provider in authentication.get("providers") or []:
            problems += provider_problems(provider, open_to_new, known)
        problems += repeated(provider["name"] for provider in authentication.get("providers") or [])
    secret_problems = []
    if kind == "oauth":
        secret_problems = client_secret_problems(authentication.get("providers") or [], client_secrets)
    return [f"variable airflow_authentication: {problem}" for problem in problems] + secret_problems


def role_names(roles: Any) -> set[str]:
    """Names of the roles that the inventory defines."""
    if isinstance(roles, Mapping):
        return set(roles)
    return {role["name"] for role in roles or [] if isinstance(role, Mapping) and "name" in role}


def role_problems(roles: Iterable[str], where: str, known: Iterable[str]) -> Iterator[str]:
    """Roles that nobody has."""
    for role in roles:
        if role not in known:
            yield (
                f"{where} names role {role}, which is unknown; there are {', '.join(sorted(known))}. "
                f"Remedy: use one of these, mind upper and lower case."
            )


def mapping_problems(mapping: Any, where: str, known: Iterable[str]) -> Iterator[str]:
    """What is wrong with a mapping of groups to roles."""
    for group, roles in (mapping or {}).items():
        if isinstance(roles, list):
            yield from role_problems(roles, f"{where} of {group}", known)
        else:
            yield f"{where} of {group} must be a list of roles, it is {roles!r}. Remedy: write it as [{roles}]."


def url_problem(url: str, schemes: tuple[str, ...]) -> str:
    """Why this is no address of a server, as the rest of a sentence; empty where it is one."""
    example = f"{schemes[-1]}://host.example.org"
    try:
        parts = urlsplit(url)
        fits = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fits = False
    if not fits or any(character.isspace() for character in url):
        return f"{url!r} is not an address. Remedy: write it as {example}, with :PORT where the port is not the usual one."
    if parts.username or parts.query or parts.fragment:
        return f"{url!r} has more than scheme, host, port and path. Remedy: leave the rest out."
    return ""


def server(authentication: Any) -> dict[str, Any]:
    """Host and TCP port of the directory; no host where there is none, or several, of which one may be down."""
    url = str(authentication.get("server") or "") if kind_of(authentication) == "ldap" else ""
    if not url or url_problem(url, ("ldap", "ldaps")):
        return {"host": "", "port": 0}
    parts = urlsplit(url)
    return {"host": parts.hostname, "port": parts.port or (636 if parts.scheme == "ldaps" else 389)}


def ldap_problems(authentication: Mapping[str, Any], known: Iterable[str]) -> Iterator[str]:
    """What is wrong with the fields of type ldap."""
    servers = str(authentication.get("server") or "").split()
    for server in servers:
        problem = url_problem(server, ("ldap", "ldaps"))
        if problem:
            yield f"server {problem}"
    if boolean(authentication.get("start_tls") or False, strict=False) and any(
        server.startswith("ldaps:") for server in servers
    ):
        yield "start_tls is for ldap://, with ldaps:// the connection has TLS from its start. Remedy: remove start_tls."
    for name in ("search", "bind_user"):
        value = authentication.get(name)
        if value and "=" not in value and "@" not in value:
            yield f"{name} is {value!r}, which is no distinguished name. Remedy: write it like ou=people,dc=example,dc=org."
    pattern = authentication.get("search_filter") or "()"
    if not (pattern.startswith("(") and pattern.endswith(")") and pattern.count("(") == pattern.count(")")):
        yield (
            f"search_filter is {pattern!r}, which is no LDAP filter. Remedy: put it in balanced parentheses, for example "
            f"(objectClass=person)."
        )
    yield from mapping_problems(authentication.get("roles_mapping"), "roles_mapping", known)
    for group in authentication.get("roles_mapping") or {}:
        if "=" not in group:
            yield (
                f"roles_mapping has {group!r}, which is no distinguished name. Remedy: write the group's, for example "
                f"cn=data,ou=groups,dc=example,dc=org."
            )


def provider_problems(provider: Mapping[str, Any], open_to_new: bool, known: Iterable[str]) -> Iterator[str]:
    """What is wrong with one provider of type oauth."""
    name = provider["name"]
    for field in ("base_url", "realm"):
        if name == "keycloak" and not provider.get(field):
            yield f"provider keycloak lacks {field}. Remedy: set it, such as base_url: https://sso.example.org, realm: main."
        if name != "keycloak" and provider.get(field):
            yield f"provider {name} has no {field}. Remedy: remove it."
    if provider.get("base_url"):
        problem = url_problem(provider["base_url"], ("http", "https"))
        if problem:
            yield f"base_url of {name}: {problem}"
    if name != "keycloak" and open_to_new and not provider.get("allowed"):
        yield (
            f"provider {name} would let in everybody who has an account there. Remedy: name {MEMBERSHIPS[name]} in allowed, "
            f"or set user_registration: false and make the users yourself."
        )
    yield from mapping_problems(provider.get("roles_mapping"), f"roles_mapping of {name}", known)


def repeated(names: Iterable[str]) -> Iterator[str]:
    """Providers that stand in the list twice."""
    seen = list(names)
    for name in sorted({name for name in seen if seen.count(name) > 1}):
        yield f"provider {name} stands in the list more than once. Remedy: leave one of them."


def client_secret_problems(providers: Iterable[Mapping[str, Any]], client_secrets: Any) -> list[str]:
    """Client secrets that are missing or weak."""
    given = client_secrets if isinstance(client_secrets, Mapping) else {}
    problems = []
    for name in sorted({provider["name"] for provider in providers}):
        fault = secrets.problem("password", given[name]) if name in given else "is missing"
        if fault:
            problems.append(
                f"secret airflow_oauth_client_secrets.{name} {fault}. Remedy: set what {name} shows for the client, in a file "
                f"encrypted with ansible-vault."
            )
    return problems


def settings(authentication: Mapping[str, Any], ca_file: str = "") -> dict[str, Any]:
    """What webserver_config.py sets, by FAB's names, without the secrets.

    :arg ca_file: certificates to trust where the mapping names none; empty, the host's.
    """
    kind = kind_of(authentication)
    if kind == "database":
        return {}
    ca_file = authentication.get("ca_file") or ca_file or SYSTEM_CA_FILE
    common = {
        # What a person's groups say at each login wins over roles that somebody has given by hand.
        "AUTH_ROLES_SYNC_AT_LOGIN": boolean(authentication.get("roles_sync_at_login", True)),
        "AUTH_USER_REGISTRATION": boolean(authentication.get("user_registration", True)),
        "AUTH_USER_REGISTRATION_ROLE": authentication.get("user_registration_role") or "Public",
    }
    own = ldap_settings if kind == "ldap" else oauth_settings
    return common | own(authentication, ca_file)


def ldap_settings(authentication: Mapping[str, Any], ca_file: str) -> dict[str, Any]:
    """What FAB has for a directory; fields that are not given stay FAB's own."""
    chosen = {LDAP_SETTINGS[name]: value for name, value in authentication.items() if name in LDAP_SETTINGS and value}
    start_tls = boolean(authentication.get("start_tls") or False)
    if start_tls or authentication["server"].startswith("ldaps:"):
        # FAB's default is to take any certificate.
        chosen |= {"AUTH_LDAP_TLS_CACERTFILE": ca_file, "AUTH_LDAP_TLS_DEMAND": True, "AUTH_LDAP_USE_TLS": start_tls}
    return chosen | {"AUTH_ROLES_MAPPING": dict(authentication.get("roles_mapping") or {})}


def oauth_settings(authentication: Mapping[str, Any], ca_file: str) -> dict[str, Any]:
    """What FAB has for providers. It knows one mapping of roles for all: each provider's keys begin with its name."""
    providers: list[dict[str, Any]] = []
    roles: dict[str, list[str]] = {}
    allowed: dict[str, list[str]] = {}
    for provider in authentication["providers"]:
        name = provider["name"]
        realm = "{}/realms/{}".format((provider.get("base_url") or "").rstrip("/"), quote(provider.get("realm") or "", safe=""))
        remote = {key: value.format(realm=realm) for key, value in PROVIDERS[name].items()}
        client = {"scope": remote.pop("scope"), "verify": ca_file}
        providers.append(
            {
                "name": name,
                "icon": ICONS[name],
                "token_key": "access_token",
                "remote_app": {"client_id": provider["client_id"], "client_kwargs": client, **remote},
            }
        )
        roles |= {f"{name}:{group}": list(names) for group, names in (provider.get("roles_mapping") or {}).items()}
        if provider.get("allowed"):
            allowed[name] = [f"{name}:{group}" for group in provider["allowed"]]
    return {"AIRFIELD_OAUTH_ALLOWED": allowed, "AUTH_ROLES_MAPPING": roles, "OAUTH_PROVIDERS": providers}


def environment(authentication: Mapping[str, Any], bind_password: str, client_secrets: Mapping[str, str]) -> dict[str, str]:
    """The secrets of the login as environment variables, by the names under which webserver_config.py reads them."""
    kind = kind_of(authentication)
    if kind == "ldap":
        return {"AIRFIELD_LDAP_BIND_PASSWORD": bind_password}
    if kind == "oauth":
        return {
            "AIRFIELD_OAUTH_{}_CLIENT_SECRET".format(provider["name"].upper()): client_secrets[provider["name"]]
            for provider in authentication["providers"]
        }
    return {}
