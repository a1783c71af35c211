from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/check_webserver_config.py"
OVERRIDE = "airflow.providers.fab.auth_manager.security_manager.override"
Check = Callable[[str], str]


class Config(dict[str, Any]):
    """As much of Flask's as is used."""

    def from_pyfile(self, path: str) -> None:
        module: dict[str, Any] = {}
        exec(compile(Path(path).read_text(), path, "exec"), module)  # noqa: S102 - as Flask does
        self.update({name: value for name, value in module.items() if name.isupper()})


class OAuth:
    """As much of authlib's."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def register(self, name: str, *, client_id: str, **rest: Any) -> None:
        assert name
        assert client_id


class Fab:
    """FAB's security manager."""


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    """Try a text; returns the complaint, without the remedy."""

    def fake(name: str, **content: Any) -> None:
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    def initialize(url: str) -> None:
        if "://" not in url:
            raise ValueError(f"bad URL {url}")

    fake("flask", Flask=lambda name: SimpleNamespace(config=Config(), app_context=nullcontext))
    fake("flask_appbuilder.const", AUTH_DB=1, AUTH_LDAP=2, AUTH_REMOTE_USER=3, AUTH_OAUTH=4)
    fake("flask_appbuilder")
    fake("ldap", initialize=initialize)
    fake("authlib.integrations.flask_client", OAuth=OAuth)
    fake(OVERRIDE, FabAirflowSecurityManagerOverride=Fab)
    for name in ("AIRFLOW_HOME", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"):
        monkeypatch.setenv(name, "as before")
    spec = importlib.util.spec_from_file_location("check_webserver_config", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def check(text: str) -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        try:
            module.main()
        except SystemExit as error:
            reason, found, remedy = str(error.code).partition(" Remedy: ")
            assert found
            return reason
        return ""

    return check


@pytest.mark.parametrize(
    "text",
    [
        "AUTH_TYPE = 1",
        "AUTH_TYPE = 3",
        "AUTH_TYPE = 2\nAUTH_LDAP_SERVER = 'ldap://x'\nAUTH_LDAP_TLS_CACERTFILE = __file__ if 0 else ''",
        f"AUTH_TYPE = 2\nAUTH_LDAP_SERVER = 'ldap://x'\nAUTH_LDAP_TLS_CACERTFILE = {str(FILE)!r}",
        "AUTH_TYPE = 4\nOAUTH_PROVIDERS = [{'name': 'x', 'remote_app': {'client_id': 'y'}}]",
        f"AUTH_TYPE = 1\nfrom {OVERRIDE} import FabAirflowSecurityManagerOverride as Fab\nclass X(Fab): ...\n"
        "SECURITY_MANAGER_CLASS = X",
    ],
)
def test_what_works_passes(check: Check, text: str) -> None:
    assert check(text) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AUTH_TYPE = 1\nimport no_such_library", "ModuleNotFoundError: No module named 'no_such_library' (line 2)."),
        ("AUTH_TYPE = 1\nif", "SyntaxError: invalid syntax"),
        ("AUTH_TYPE = 1\n\nraise SystemExit", "SystemExit:  (line 3)."),
        ("AUTH_TYPE = AUTH_DB", "NameError: name 'AUTH_DB' is not defined (line 1)."),
        ("", "KeyError: 'AUTH_TYPE'"),
        ("AUTH_TYPE = 5", "ValueError: AUTH_TYPE is 5, which Airflow does not know."),
        ("AUTH_TYPE = 2", "KeyError: 'AUTH_LDAP_SERVER'."),
        ("AUTH_TYPE = 2\nAUTH_LDAP_SERVER = 'x'", "ValueError: bad URL x."),
        (
            "AUTH_TYPE = 2\nAUTH_LDAP_SERVER = 'ldap://x'\nAUTH_LDAP_TLS_CACERTFILE = '/no/such.pem'",
            "FileNotFoundError: [Errno 2] No such file or directory: '/no/such.pem'.",
        ),
        ("AUTH_TYPE = 4", "KeyError: 'OAUTH_PROVIDERS'."),
        ("AUTH_TYPE = 4\nOAUTH_PROVIDERS = [{'name': 'x', 'remote_app': {}}]", "TypeError: "),
        (
            "AUTH_TYPE = 4\nOAUTH_PROVIDERS = [{'name': 'x', 'remote_app': {'client_id': 'y', "
            "'client_kwargs': {'verify': '/no/such.pem'}}}]",
            "FileNotFoundError: ",
        ),
        ("AUTH_TYPE = 1\nSECURITY_MANAGER_CLASS = dict", "TypeError: SECURITY_MANAGER_CLASS is not derived from"),
    ],
)
def test_what_does_not_work_is_told(check: Check, text: str, reason: str) -> None:
    assert check(text).startswith(reason)


@pytest.mark.parametrize(
    ("library", "text"),
    [
        ("ldap", "AUTH_TYPE = 2\nAUTH_LDAP_SERVER = 'ldap://x'"),
        ("authlib.integrations.flask_client", "AUTH_TYPE = 4\nOAUTH_PROVIDERS = []"),
    ],
)
def test_library_that_the_release_lacks_is_named(
    check: Check, monkeypatch: pytest.MonkeyPatch, library: str, text: str
) -> None:
    # FAB itself would start without, and refuse everybody.
    monkeypatch.setitem(sys.modules, library, None)
    assert check(text).startswith(f"ModuleNotFoundError: import of {library} halted")
