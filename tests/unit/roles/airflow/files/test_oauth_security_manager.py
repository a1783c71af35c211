from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/oauth_security_manager.py"
OVERRIDE = "airflow.providers.fab.auth_manager.security_manager.override"
# What the providers' APIs answer, as their documentation has it.
ANSWERS: dict[str, Any] = {
    "user/orgs?per_page=100": [{"login": "example"}, {"login": "elsewhere"}],
    "user/teams?per_page=100": [{"slug": "data", "organization": {"login": "example"}}],
    "userinfo": {"id": "1", "email": "ada@example.org", "hd": "example.org"},
}


class Fab:
    """As much of FAB's class as ours uses."""

    person: dict[str, Any]
    oauth_remotes: dict[str, Any]

    def get_oauth_user_info(self, provider: str, resp: dict[str, Any]) -> dict[str, Any]:
        return self.person


class Remote:
    """A provider's API."""

    def __init__(self, status: int) -> None:
        self.status = status

    def get(self, path: str) -> Any:
        return SimpleNamespace(json=lambda: ANSWERS[path], raise_for_status=self.raise_for_status)

    def raise_for_status(self) -> None:
        if self.status >= 400:
            raise OSError(f"status {self.status}")


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Log in at a provider, whose allowed memberships are these; returns what FAB learns of the person."""
    app = SimpleNamespace(config={})
    override = ModuleType(OVERRIDE)
    vars(override)["FabAirflowSecurityManagerOverride"] = Fab
    flask = ModuleType("flask")
    vars(flask)["current_app"] = app
    for name, module in {OVERRIDE: override, "flask": flask}.items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("oauth_security_manager", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def log_in(provider: str, *allowed: str, status: int = 200, **person: Any) -> dict[str, Any]:
        app.config["AIRFIELD_OAUTH_ALLOWED"] = {provider: list(allowed)} if allowed else {}
        manager = module.SecurityManager()
        manager.person = {"username": "ada", **person}
        manager.oauth_remotes = {provider: Remote(status)}
        result: dict[str, Any] = manager.get_oauth_user_info(provider, {})
        return result

    return log_in


def test_github_vouches_for_organisations_and_teams(log_in: Any) -> None:
    assert log_in("github", "github:example", email="a@b") == {
        "username": "ada",
        "email": "a@b",
        "role_keys": ["github:example", "github:elsewhere", "github:example/data"],
    }


def test_google_vouches_for_the_domain_of_the_account(log_in: Any) -> None:
    assert log_in("google")["role_keys"] == ["google:example.org"]


def test_account_of_no_domain_belongs_to_none(log_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever its address is.
    monkeypatch.setitem(ANSWERS, "userinfo", {"id": "1", "email": "ada@example.org"})
    assert log_in("google")["role_keys"] == []
    with pytest.raises(PermissionError, match="ada belongs to nothing that is allowed for google"):
        log_in("google", "google:example.org")


def test_keycloak_vouches_for_groups(log_in: Any) -> None:
    assert log_in("keycloak", role_keys=["/data"])["role_keys"] == ["keycloak:/data"]
    assert log_in("keycloak")["role_keys"] == []


@pytest.mark.parametrize("allowed", ["github:example", "github:example/data"])
def test_one_allowed_membership_is_enough(log_in: Any, allowed: str) -> None:
    assert log_in("github", "github:another", allowed)["username"] == "ada"


@pytest.mark.parametrize("allowed", ["github:another", "github:data", "github:exam", "google:example", "example"])
def test_person_who_belongs_to_nothing_allowed_is_refused(log_in: Any, allowed: str) -> None:
    with pytest.raises(PermissionError):
        log_in("github", allowed)


def test_group_of_one_provider_is_none_of_another(log_in: Any) -> None:
    """Else whoever founds an organisation `admins` at GitHub has what Keycloak's group of that name gives."""
    assert "admins" not in log_in("keycloak", role_keys=["admins"])["role_keys"]


def test_api_that_refuses_is_no_login(log_in: Any) -> None:
    with pytest.raises(OSError, match="status 403"):
        log_in("github", "github:example", status=403)
