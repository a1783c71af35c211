from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.airfield.metal.plugins.filter import airfield
from ansible_collections.airfield.metal.plugins.plugin_utils import login

ROLE = Path(__file__).parents[5] / "roles/airflow"
NEEDS = yaml.safe_load((ROLE / "vars/main/login.yml").read_text())["__airflow_logins"]
LDAP = {"type": "ldap", "server": "ldap://x", "search": "dc='x", "bind_user": "cn=x\\", "roles_mapping": {"cn=x": ["Op"]}}
OAUTH = {
    "type": "oauth",
    "providers": [
        {"name": "github", "client_id": "y", "allowed": ["example"]},
        {"name": "keycloak", "client_id": "z", "base_url": "https://sso", "realm": "main"},
    ],
}
SECRETS = {"github": "secret-of-github", "keycloak": "secret-of-keycloak"}


def render(authentication: dict[str, Any], lines: str = "") -> str:
    """The file as Ansible makes it."""
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701 - Python, not HTML
    filters = airfield.FilterModule().filters()
    environment.filters |= {f"airfield.metal.{name}": function for name, function in filters.items()}
    kind = login.kind_of(authentication)
    return environment.from_string((ROLE / "templates/webserver_config.py.j2").read_text()).render(
        lookup=lambda plugin, name: (ROLE / "files" / name).read_text(),
        airflow_authentication=authentication,
        airflow_ca_file="",
        airflow_webserver_config=lines,
        __airflow_login_type=kind,
        __airflow_login_needs=NEEDS[kind],
    )


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the file imports; and nothing of the environment."""
    contents: dict[str, dict[str, Any]] = {
        "airflow.providers.fab.auth_manager.security_manager.override": {"FabAirflowSecurityManagerOverride": object},
        "flask": {"current_app": None},
        "flask_appbuilder.const": {"AUTH_DB": 1, "AUTH_LDAP": 2, "AUTH_OAUTH": 4},
        "ldap": {"OPT_NETWORK_TIMEOUT": 1, "OPT_TIMEOUT": 2, "set_option": lambda *arguments: None},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in login.environment(LDAP, "", {}) | login.environment(OAUTH, "", SECRETS):
        monkeypatch.delenv(name, raising=False)
    return contents


def run(text: str) -> dict[str, Any]:
    """The settings as Flask reads them."""
    module: dict[str, Any] = {}
    exec(compile(text, "webserver_config.py", "exec"), module)  # noqa: S102 - as Flask does
    return {name: value for name, value in module.items() if name.isupper()}


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("authentication", "kind"), [({"type": "database"}, 1), (LDAP, 2), (OAUTH, 4)], ids=["database", "ldap", "oauth"]
)
def test_file_says_what_is_to_be_set(authentication: dict[str, Any], kind: int) -> None:
    found = run(render(authentication))
    assert found["AUTH_TYPE"] == kind
    expected = login.settings(authentication)
    assert {name: found[name] for name in expected if name != "OAUTH_PROVIDERS"} == {
        name: value for name, value in expected.items() if name != "OAUTH_PROVIDERS"
    }


@pytest.mark.usefixtures("modules")
def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for authentication in (LDAP, OAUTH):
        for name, value in login.environment(authentication, "secret-of-ldap", SECRETS).items():
            monkeypatch.setenv(name, value)
        assert "secret-of" not in render(authentication)
    assert run(render(LDAP))["AUTH_LDAP_BIND_PASSWORD"] == "secret-of-ldap"
    remotes = {provider["name"]: provider["remote_app"] for provider in run(render(OAUTH))["OAUTH_PROVIDERS"]}
    assert {name: remote["client_secret"] for name, remote in remotes.items()} == SECRETS


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("authentication", [LDAP, OAUTH], ids=["ldap", "oauth"])
def test_command_line_that_has_no_secret_can_read_it_too(authentication: dict[str, Any]) -> None:
    assert run(render(authentication))


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("authentication", [{"type": "database"}, LDAP, OAUTH], ids=["database", "ldap", "oauth"])
def test_operators_lines_have_the_last_word(authentication: dict[str, Any]) -> None:
    lines = "AUTH_RATE_LIMIT = '9 per hour'\nAUTH_TYPE += 10\n"
    found = run(render(authentication, lines))
    assert (found["AUTH_RATE_LIMIT"], found["AUTH_TYPE"] > 10) == ("9 per hour", True)
