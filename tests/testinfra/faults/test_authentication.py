"""People log in through a directory or by the accounts of others; what cannot work is refused, and the way back is one run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import directory
import pytest
import requests
import topology
from testinfra.host import Host

ADMIN = topology.variable("airflow_admin_username", "admin")
CONFIGURATION = "/etc/airflow/webserver_config.py"
CERTIFICATE = "/etc/ssl/certs/directory-of-the-test.pem"
# From the inventory, whose every secret the tests of the cluster look for; another cluster has none.
BIND_PASSWORD = topology.variable("airflow_ldap_bind_password", "bind '\"%\\ $HOME ~ 9f31")
CLIENT_SECRETS = topology.variable(
    "airflow_oauth_client_secrets",
    {"github": "client-github '%\" 9f31", "google": "client-google-9f31", "keycloak": "client-keycloak-9f31"},
)
OAUTH = {
    "type": "oauth",
    "providers": [
        {"name": "github", "client_id": "id-of-github", "allowed": ["example"]},
        {"name": "google", "client_id": "id-of-google", "allowed": ["example.org"]},
        {"name": "keycloak", "client_id": "id-of-keycloak", "base_url": "https://sso.example.org", "realm": "main"},
    ],
}
# Where a secret could have come to lie.
PLACES = "/etc /opt/airflow/plugins /usr/local /var/lib/airfield /var/lib/airflow /var/log /run /tmp"
# Runs the playbook with these variables besides.
Apply = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def web(connect: topology.Connect) -> Host:
    return connect(topology.members("airflow_webserver")[0])


@pytest.fixture(scope="module")
def server(connect: topology.Connect) -> Iterator[directory.Directory]:
    name = topology.members("postgresql")[0]
    server = directory.Directory(name, connect(name))
    try:
        server.install(BIND_PASSWORD)
        yield server
    finally:
        server.remove()


def ldap(server: directory.Directory, **changes: Any) -> dict[str, Any]:
    return {
        "type": "ldap",
        "server": server.url,
        "start_tls": True,
        "ca_file": CERTIFICATE,
        "search": directory.PEOPLE,
        "search_filter": f"(memberOf={directory.USERS})",
        "bind_user": directory.READER,
        "roles_mapping": {directory.DATA: ["Op"]},
        **changes,
    }


@pytest.fixture(scope="module")
def apply(tmp_path_factory: pytest.TempPathFactory, api: topology.Api) -> Iterator[Apply]:
    """Afterwards the cluster is as it was before, without the people."""
    applied: list[dict[str, Any]] = [{}]

    def apply(*arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        applied.append(variables)
        given = {"airflow_ldap_bind_password": BIND_PASSWORD, "airflow_oauth_client_secrets": CLIENT_SECRETS, **variables}
        path = tmp_path_factory.mktemp("given") / "given.json"
        path.write_text(json.dumps(given), encoding="utf-8")
        # Nothing of it is the workers'.
        command = ["playbooks/restart.yml", "--limit", "airflow_webserver,airflow_scheduler"]
        inventory = ["--inventory", str(topology.INVENTORY)]
        return topology.run("ansible-playbook", *inventory, *command, "--extra-vars", f"@{path}", *arguments, check=False)

    yield apply
    back = apply().returncode if applied[-1] else 0
    for name in directory.MEMBERS:
        api.session.delete(f"{api.url}/auth/fab/v1/users/{name}", timeout=60)
    assert back == 0


@pytest.fixture(scope="class")
def with_ldap(apply: Apply, server: directory.Directory, web: Host) -> Iterator[None]:
    """The cluster asks the directory."""
    certificate = server.host.check_output(f"cat {directory.FOLDER}/certificate.pem")
    web.check_output(f"cat > {CERTIFICATE} <<'END'\n{certificate}\nEND")
    run = apply("--diff", airflow_authentication=ldap(server))
    assert run.returncode == 0, run.stdout[-3000:]
    assert BIND_PASSWORD not in run.stdout
    yield
    web.check_output(f"rm -f {CERTIFICATE}")


def main_process(web: Host) -> str:
    return str(web.check_output("systemctl show -P MainPID airflow-api-server"))


@pytest.mark.usefixtures("with_ldap")
class TestLdap:
    """All with the cluster switched to the directory once."""

    def test_member_of_a_mapped_group_gets_its_role(self) -> None:
        token = directory.token("ada", directory.PASSWORD)
        assert directory.may(token, "/dags")
        assert directory.may(token, "/connections")

    def test_member_logs_in_by_the_form(self) -> None:
        session = directory.fill_in_form("ada", directory.PASSWORD)
        assert directory.may(session, "/connections")

    def test_member_of_no_mapped_group_gets_the_role_of_everybody(self) -> None:
        token = directory.token("grace", directory.PASSWORD)
        assert token is not None
        assert not directory.may(token, "/dags")

    def test_person_who_does_not_meet_the_filter_is_refused(self) -> None:
        assert directory.token("mallory", directory.PASSWORD) is None

    @pytest.mark.parametrize(
        ("name", "password"),
        [("ada", "wrong password"), ("nobody", directory.PASSWORD), ("*", directory.PASSWORD), ("ada)(uid=*", "x")],
    )
    def test_wrong_name_or_password_is_refused(self, name: str, password: str) -> None:
        assert directory.token(name, password) is None

    def test_wrong_password_is_refused_by_the_form(self) -> None:
        assert not directory.may(directory.fill_in_form("ada", "wrong password"), "/dags")

    def test_first_administrator_gets_a_token_and_cannot_use_the_form(self) -> None:
        password = topology.variables()["airflow_admin_password"]
        assert directory.may(directory.token(ADMIN, password), "/connections")
        assert not directory.may(directory.fill_in_form(ADMIN, password), "/dags")

    def test_directory_with_a_certificate_of_a_stranger_is_not_asked(self, server: directory.Directory) -> None:
        mine = {name: server.host.check_output(f"cat {directory.FOLDER}/{name}") for name in ("certificate.pem", "key.pem")}
        server.stop()
        server.certify()
        server.start()
        try:
            assert directory.token("ada", directory.PASSWORD) is None
        finally:
            server.stop()
            for name, text in mine.items():
                server.write(name, f"{text}\n")
            server.start()
        assert directory.token("ada", directory.PASSWORD) is not None

    def test_password_of_the_directory_is_in_the_api_servers_environment_alone(self, connect: topology.Connect) -> None:
        holders = set()
        for name in topology.members("all"):
            # As it is, and as systemd's file has it quoted. Not as an argument, which the journal would have then.
            quoted = BIND_PASSWORD.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
            found = subprocess.run(
                ["ssh", "-F", str(topology.ssh_config()), name, f"sudo grep -rslF -f - {PLACES}"],
                check=False,
                input=f"{BIND_PASSWORD}\n{quoted}\n",
                capture_output=True,
                text=True,
            )
            assert found.stderr == ""
            holders |= {(name, path) for path in found.stdout.split()}
            journal = connect(name).run("journalctl --no-pager --all --output=cat | tr -cd '\\11\\12\\40-\\176'").stdout
            assert BIND_PASSWORD not in journal
        assert holders == {(name, "/etc/airflow/api-server.env") for name in topology.members("airflow_webserver")}

    def test_configuration_that_does_not_work_is_refused_and_the_old_one_stays(
        self, apply: Apply, server: directory.Directory, web: Host
    ) -> None:
        before = web.file(CONFIGURATION).content_string, main_process(web)
        run = apply(airflow_authentication=ldap(server), airflow_webserver_config="import no_such_library")
        assert run.returncode != 0
        message = " ".join(run.stdout.split())
        assert f"airflow-api-server.service was left as it is, since {CONFIGURATION} would not do" in message
        assert "ModuleNotFoundError: No module named 'no_such_library' (line" in message
        assert "Remedy: correct airflow_authentication or airflow_webserver_config" in message
        assert (web.file(CONFIGURATION).content_string, main_process(web)) == before
        assert directory.token("ada", directory.PASSWORD) is not None

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("", ""),
            ("AUTH_TYPE = 99", "AUTH_TYPE is 99, which Airflow does not know"),
            ("if x", "SyntaxError: expected ':'"),
            ("AUTH_LDAP_SERVER = 'ldap'", "LDAPError"),
            ("AUTH_LDAP_TLS_CACERTFILE = '/etc/shadow'", "Permission denied: '/etc/shadow'"),
            ("SECURITY_MANAGER_CLASS = dict", "SECURITY_MANAGER_CLASS is not derived from"),
        ],
    )
    def test_check_finds_what_does_not_work(self, web: Host, line: str, reason: str) -> None:
        check = web.run(
            "{ cat %s; echo; echo %s; } | runuser -u %s -- /opt/airflow/current/bin/python %s",
            CONFIGURATION,
            line,
            topology.variable("airflow_user", "airflow"),
            "/usr/local/lib/airfield/check_webserver_config.py",
        )
        assert reason in check.stderr
        assert check.succeeded is (reason == "")

    def test_nothing_is_left_to_change(self, apply: Apply, server: directory.Directory) -> None:
        run = apply("--check", airflow_authentication=ldap(server))
        assert run.returncode == 0, run.stdout[-3000:]
        assert "changed: [" not in run.stdout


@pytest.fixture(scope="class")
def with_oauth(apply: Apply) -> None:
    run = apply("--diff", airflow_authentication=OAUTH)
    assert run.returncode == 0, run.stdout[-3000:]
    for secret in CLIENT_SECRETS.values():
        assert secret not in run.stdout


@pytest.mark.usefixtures("with_oauth")
class TestOauth:
    """As far as one gets without the providers: nothing here leaves this machine."""

    def test_login_page_offers_the_providers(self) -> None:
        page = requests.get(f"{directory.base_url()}/auth/login/", timeout=60)
        for provider in CLIENT_SECRETS:
            assert provider in page.text
        assert 'name="password"' not in page.text

    @pytest.mark.parametrize(
        ("provider", "place", "scope"),
        [
            ("github", "github.com/login/oauth/authorize", "read:user read:org"),
            ("google", "accounts.google.com/o/oauth2/v2/auth", "email profile"),
            ("keycloak", "sso.example.org/realms/main/protocol/openid-connect/auth", "openid email profile"),
        ],
    )
    def test_each_sends_the_browser_to_its_provider(self, provider: str, place: str, scope: str) -> None:
        answer = requests.get(f"{directory.base_url()}/auth/login/{provider}", timeout=60, allow_redirects=False)
        assert answer.status_code == 302
        target = urlsplit(answer.headers["location"])
        query = parse_qs(target.query)
        assert (target.scheme, target.netloc + target.path) == ("https", place)
        assert query["client_id"] == [f"id-of-{provider}"]
        assert query["response_type"] == ["code"]
        assert query["scope"] == [scope]
        assert query["redirect_uri"] == [f"{directory.base_url()}/auth/oauth-authorized/{provider}"]
        assert query["state"]
        assert CLIENT_SECRETS[provider] not in answer.headers["location"]

    def test_answer_that_nobody_asked_for_is_no_login(self) -> None:
        session = requests.Session()
        session.get(f"{directory.base_url()}/auth/oauth-authorized/github?code=x&state=y", timeout=60)
        assert not directory.may(session, "/dags")

    def test_client_secrets_are_in_the_api_servers_environment(self, web: Host) -> None:
        # As systemd reads it, whose quoting is in the file.
        read = "systemd-run --quiet --pipe --property=EnvironmentFile=/etc/airflow/api-server.env env"
        environment = web.check_output(read).splitlines()
        for provider, secret in CLIENT_SECRETS.items():
            assert f"AIRFIELD_OAUTH_{provider.upper()}_CLIENT_SECRET={secret}" in environment
            assert secret not in web.file(CONFIGURATION).content_string


def test_way_back_is_one_run(apply: Apply, web: Host) -> None:
    run = apply()
    assert run.returncode == 0, run.stdout[-3000:]
    assert "AUTH_TYPE = AUTH_DB\n" in web.file(CONFIGURATION).content_string
    assert "AIRFIELD_" not in web.file("/etc/airflow/api-server.env").content_string
    session = directory.fill_in_form(ADMIN, topology.variables()["airflow_admin_password"])
    assert directory.may(session, "/connections")
    assert directory.token("ada", directory.PASSWORD) is None
