from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils import login, precheck

SPECS = precheck.read_argument_specs(Path(__file__).parents[4] / "roles")
LDAP: dict[str, Any] = {
    "type": "ldap",
    "server": "ldaps://ldap.example.org",
    "search": "ou=people,dc=example,dc=org",
    "bind_user": "cn=reader,dc=example,dc=org",
    "roles_mapping": {"cn=data,dc=example,dc=org": ["Op", "User"]},
}
GITHUB: dict[str, Any] = {
    "name": "github",
    "client_id": "id-1",
    "allowed": ["example"],
    "roles_mapping": {"example/data": ["Op"]},
}
GOOGLE: dict[str, Any] = {"name": "google", "client_id": "id-2", "allowed": ["example.org"]}
KEYCLOAK: dict[str, Any] = {
    "name": "keycloak",
    "client_id": "id-3",
    "base_url": "https://sso.example.org/",
    "realm": "a b",
    "roles_mapping": {"/data": ["Admin"]},
}
OAUTH: dict[str, Any] = {"type": "oauth", "providers": [GITHUB, GOOGLE, KEYCLOAK]}
SECRETS = {"github": "secret-of-github", "google": "secret-of-google", "keycloak": "secret-of-keycloak"}


def oauth(**provider: Any) -> dict[str, Any]:
    return {"type": "oauth", "providers": [provider]}


@pytest.mark.parametrize("authentication", [{"type": "database"}, LDAP, OAUTH], ids=lambda value: value["type"])
def test_good_mapping_has_no_problem(authentication: dict[str, Any]) -> None:
    assert precheck.mistyped_variables({"airflow_authentication": authentication}, SPECS) == []
    assert login.find_problems(authentication, SECRETS, None) == []


@pytest.mark.parametrize(
    ("authentication", "problem"),
    [
        ("ldap", "'airflow_authentication' is of type"),
        ({}, "missing required arguments: type"),
        ({"type": "saml"}, "value of type must be one of: database, ldap, oauth, got: saml"),
        ({**LDAP, "bind_password": "x"}, "unknown field airflow_authentication.bind_password"),
        ({**LDAP, "start_tls": "often"}, "start_tls"),
        (oauth(name="facebook", client_id="x"), "value of name must be one of: github, google, keycloak, got: facebook"),
        (oauth(name="google"), "missing required arguments: client_id"),
    ],
)
def test_what_the_argument_specs_refuse(authentication: Any, problem: str) -> None:
    found = precheck.mistyped_variables({"airflow_authentication": authentication}, SPECS)
    assert problem in " ".join(found)


@pytest.mark.parametrize(
    ("authentication", "problem"),
    [
        ({"type": "ldap", "server": "ldap://x", "search": "dc=x"}, "bind_user is missing, type ldap needs it"),
        ({"type": "oauth"}, "providers is missing, type oauth needs it"),
        ({"type": "database", "server": "ldap://x"}, "server is not a field of type database"),
        ({**OAUTH, "roles_mapping": {}}, "roles_mapping is not a field of type oauth"),
        ({**LDAP, "server": "ldap.example.org"}, "server 'ldap.example.org' is not an address"),
        ({**LDAP, "server": "http://ldap.example.org"}, "server 'http://ldap.example.org' is not an address"),
        ({**LDAP, "server": "ldap://"}, "server 'ldap://' is not an address"),
        ({**LDAP, "server": "ldap://x:port"}, "server 'ldap://x:port' is not an address"),
        ({**LDAP, "server": "ldap://x:99999"}, "server 'ldap://x:99999' is not an address"),
        ({**LDAP, "server": "ldap://x ldaps:y"}, "server 'ldaps:y' is not an address"),
        ({**LDAP, "server": "ldap://me@x"}, "has more than scheme, host, port and path"),
        ({**LDAP, "start_tls": "yes"}, "start_tls is for ldap://"),
        ({**LDAP, "search": "people"}, "search is 'people', which is no distinguished name"),
        ({**LDAP, "bind_user": "reader"}, "bind_user is 'reader', which is no distinguished name"),
        ({**LDAP, "search_filter": "(&(a=b)"}, "search_filter is '(&(a=b)', which is no LDAP filter"),
        ({**LDAP, "search_filter": "a=b"}, "search_filter is 'a=b', which is no LDAP filter"),
        ({**LDAP, "roles_mapping": {"data": ["Op"]}}, "roles_mapping has 'data', which is no distinguished name"),
        ({**LDAP, "roles_mapping": {"cn=a": "Op"}}, "roles_mapping of cn=a must be a list of roles, it is 'Op'"),
        ({**LDAP, "roles_mapping": {"cn=a": ["admin"]}}, "roles_mapping of cn=a names role admin, which is unknown"),
        ({**LDAP, "user_registration_role": "Guest"}, "user_registration_role names role Guest, which is unknown"),
        (oauth(name="keycloak", client_id="x", realm="r"), "provider keycloak lacks base_url"),
        (oauth(name="keycloak", client_id="x", base_url="https://x"), "provider keycloak lacks realm"),
        (oauth(**{**KEYCLOAK, "base_url": "sso"}), "base_url of keycloak: 'sso' is not an address"),
        (oauth(**GITHUB, realm="r"), "provider github has no realm"),
        (oauth(name="github", client_id="x"), "provider github would let in everybody who has an account there"),
        (oauth(name="google", client_id="x", allowed=[]), "provider google would let in everybody"),
        (oauth(**{**GITHUB, "roles_mapping": {"example": ["Boss"]}}), "roles_mapping of github of example names role Boss"),
        ({"type": "oauth", "providers": [GOOGLE, GOOGLE]}, "provider google stands in the list more than once"),
    ],
)
def test_problem_is_found_alone_and_names_variable_and_remedy(authentication: dict[str, Any], problem: str) -> None:
    (found,) = login.find_problems(authentication, SECRETS, None)
    assert found.startswith("variable airflow_authentication: ")
    assert problem in found
    assert "Remedy: " in found


@pytest.mark.parametrize("name", ["github", "google"])
def test_users_that_somebody_has_made_need_no_rule(name: str) -> None:
    assert login.find_problems(oauth(name=name, client_id="x") | {"user_registration": "no"}, SECRETS, None) == []


@pytest.mark.parametrize("roles", [{"Analyst": {}}, [{"name": "Analyst"}]])
def test_roles_of_the_inventory_may_be_given(roles: Any) -> None:
    authentication = {**LDAP, "roles_mapping": {"cn=a": ["Analyst", "Admin"]}}
    assert login.find_problems(authentication, None, roles) == []
    (problem,) = login.find_problems(authentication, None, None)
    assert "there are Admin, Op, Public, User, Viewer." in problem


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "secret airflow_oauth_client_secrets.google is missing"),
        ("secret", "secret airflow_oauth_client_secrets.google is missing"),
        ({"github": "correct horse battery"}, "secret airflow_oauth_client_secrets.google is missing"),
        ({"google": "hunter2"}, "secret airflow_oauth_client_secrets.google has 7 characters"),
        ({"google": 7}, "secret airflow_oauth_client_secrets.google is not a string"),
    ],
)
def test_client_secret_must_be_there_and_fit(given: Any, problem: str) -> None:
    (found,) = login.find_problems({"type": "oauth", "providers": [GOOGLE]}, given, None)
    assert problem in found
    assert "Remedy: " in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("authentication", "kind"),
    [
        ("ldap", "database"),
        ({}, "database"),
        ({"type": "saml"}, "database"),
        ({"type": []}, "database"),
        (LDAP, "ldap"),
        (OAUTH, "oauth"),
    ],
)
def test_what_the_precheck_refuses_counts_as_database_until_then(authentication: Any, kind: str) -> None:
    assert login.kind_of(authentication) == kind


def test_database_needs_no_setting() -> None:
    assert login.settings({"type": "database"}) == {}


def test_directory_is_told_by_fabs_names() -> None:
    assert login.settings({**LDAP, "uid_field": "sAMAccountName", "search_filter": None}, "/etc/ca.pem") == {
        "AUTH_LDAP_BIND_USER": LDAP["bind_user"],
        "AUTH_LDAP_SEARCH": LDAP["search"],
        "AUTH_LDAP_SERVER": LDAP["server"],
        "AUTH_LDAP_TLS_CACERTFILE": "/etc/ca.pem",
        "AUTH_LDAP_TLS_DEMAND": True,
        "AUTH_LDAP_UID_FIELD": "sAMAccountName",
        "AUTH_LDAP_USE_TLS": False,
        "AUTH_ROLES_MAPPING": LDAP["roles_mapping"],
        "AUTH_ROLES_SYNC_AT_LOGIN": True,
        "AUTH_USER_REGISTRATION": True,
        "AUTH_USER_REGISTRATION_ROLE": "Public",
    }


def test_own_certificates_win_and_the_hosts_are_the_last_resort() -> None:
    start_tls = {**LDAP, "server": "ldap://x", "start_tls": "yes"}
    assert login.settings(start_tls)["AUTH_LDAP_TLS_CACERTFILE"] == "/etc/ssl/certs/ca-certificates.crt"
    assert login.settings(start_tls)["AUTH_LDAP_USE_TLS"] is True
    assert login.settings({**start_tls, "ca_file": "/a"}, "/b")["AUTH_LDAP_TLS_CACERTFILE"] == "/a"


def test_directory_without_tls_gets_no_certificates() -> None:
    assert [name for name in login.settings({**LDAP, "server": "ldap://x"}) if "TLS" in name] == []


def test_operator_decides_about_registration() -> None:
    chosen = {**LDAP, "roles_sync_at_login": "no", "user_registration": False, "user_registration_role": "Viewer"}
    found = login.settings(chosen)
    assert (found["AUTH_ROLES_SYNC_AT_LOGIN"], found["AUTH_USER_REGISTRATION"]) == (False, False)
    assert found["AUTH_USER_REGISTRATION_ROLE"] == "Viewer"


def test_providers_are_told_by_fabs_names_and_groups_by_their_providers() -> None:
    found = login.settings(OAUTH, "/etc/ca.pem")
    assert found["AUTH_ROLES_MAPPING"] == {"github:example/data": ["Op"], "keycloak:/data": ["Admin"]}
    assert found["AIRFIELD_OAUTH_ALLOWED"] == {"github": ["github:example"], "google": ["google:example.org"]}
    github, google, keycloak = found["OAUTH_PROVIDERS"]
    assert github == {
        "name": "github",
        "icon": "fa-github",
        "token_key": "access_token",
        "remote_app": {
            "client_id": "id-1",
            "client_kwargs": {"scope": "read:user read:org", "verify": "/etc/ca.pem"},
            "api_base_url": "https://api.github.com/",
            "access_token_url": "https://github.com/login/oauth/access_token",
            "authorize_url": "https://github.com/login/oauth/authorize",
        },
    }
    assert google["remote_app"]["authorize_url"] == "https://accounts.google.com/o/oauth2/v2/auth"
    realm = "https://sso.example.org/realms/a%20b"
    assert keycloak["remote_app"]["issuer"] == realm
    assert keycloak["remote_app"]["api_base_url"] == f"{realm}/protocol/"
    assert keycloak["remote_app"]["jwks_uri"] == f"{realm}/protocol/openid-connect/certs"


def test_no_secret_is_among_the_settings() -> None:
    assert "secret" not in str(login.settings(OAUTH))
    assert "PASSWORD" not in str(login.settings(LDAP))


def test_secrets_are_those_of_the_type_alone() -> None:
    assert login.environment({"type": "database"}, "p", SECRETS) == {}
    assert login.environment(LDAP, "p", SECRETS) == {"AIRFIELD_LDAP_BIND_PASSWORD": "p"}
    assert login.environment({"type": "oauth", "providers": [GITHUB]}, "p", SECRETS) == {
        "AIRFIELD_OAUTH_GITHUB_CLIENT_SECRET": "secret-of-github"
    }


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("ldap://x", {"host": "x", "port": 389}),
        ("ldaps://x", {"host": "x", "port": 636}),
        ("ldap://x:3389", {"host": "x", "port": 3389}),
        ("ldap://x ldap://y", {"host": "", "port": 0}),
        ("x:y:z", {"host": "", "port": 0}),
        ("", {"host": "", "port": 0}),
    ],
)
def test_one_directory_is_to_be_reached(server: str, expected: dict[str, Any]) -> None:
    assert login.server({**LDAP, "server": server}) == expected
    assert login.server({"type": "database", "server": server})["host"] == ""
