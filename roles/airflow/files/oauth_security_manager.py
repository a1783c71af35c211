"""How people log in. FAB, Airflow's auth manager, reads this when the API server starts."""

from typing import Any

from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride
from flask import current_app


class SecurityManager(FabAirflowSecurityManagerOverride):
    """FAB's own, which also learns to what a person belongs, and lets in only who belongs to what is allowed."""

    def get_oauth_user_info(self, provider: str, resp: dict[str, Any]) -> dict[str, Any]:
        """FAB's answer, its `role_keys` marked with the provider's name: a group here is not the same as one there.

        :raises PermissionError: for a person who belongs to nothing that is allowed; FAB then refuses the login.
        """
        person: dict[str, Any] = super().get_oauth_user_info(provider, resp)
        keys = [f"{provider}:{key}" for key in self.memberships(provider, person)]
        allowed = current_app.config["AIRFIELD_OAUTH_ALLOWED"].get(provider)
        if allowed and not set(allowed) & set(keys):
            raise PermissionError(f"{person['username']} belongs to nothing that is allowed for {provider}")
        return {**person, "role_keys": keys}

    def memberships(self, provider: str, person: dict[str, Any]) -> list[str]:
        """What the provider vouches that a person belongs to; FAB asks neither GitHub nor Google for it."""
        if provider == "github":
            teams = [
                f"{team['organization']['login']}/{team['slug']}" for team in self.ask(provider, "user/teams?per_page=100")
            ]
            return [organisation["login"] for organisation in self.ask(provider, "user/orgs?per_page=100")] + teams
        if provider == "google":
            # Only an account of the domain's own Workspace has it. An address in the domain proves less.
            domain = self.ask(provider, "userinfo").get("hd")
            return [domain] if domain else []
        return list(person.get("role_keys") or [])

    def ask(self, provider: str, path: str) -> Any:
        """The decoded answer of the provider's API, in the name of the person who logs in."""
        answer = self.oauth_remotes[provider].get(path)
        answer.raise_for_status()
        return answer.json()
