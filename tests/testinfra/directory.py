"""A real LDAP directory on one of the hosts, Debian's slapd, with people in it; and logins as a browser makes them."""

from __future__ import annotations

import re
import subprocess

import requests
import topology
from testinfra.host import Host

FOLDER = "/srv/directory"
PORT = 3389
READER = "cn=reader,dc=example,dc=org"
PEOPLE = "ou=people,dc=example,dc=org"
USERS = "cn=airflow,ou=groups,dc=example,dc=org"
DATA = "cn=data,ou=groups,dc=example,dc=org"
# Name of each person -> groups. All have one password.
MEMBERS = {"ada": (USERS, DATA), "grace": (USERS,), "mallory": ()}
PASSWORD = "p%s é'\"\\ of a person"
# Plain text is refused, so whoever logs in has a connection with TLS.
CONFIGURATION = f"""\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCertificateFile {FOLDER}/certificate.pem
TLSCertificateKeyFile {FOLDER}/key.pem
security tls=1
database mdb
suffix dc=example,dc=org
directory {FOLDER}/data
overlay memberof
access to attrs=userPassword by anonymous auth
access to * by dn.exact={READER} read
"""


def entries(bind_password: str) -> str:
    """The directory's content, as LDIF."""
    found = [
        "dn: dc=example,dc=org\nobjectClass: domain\ndc: example\n",
        f"dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n",
        "dn: ou=groups,dc=example,dc=org\nobjectClass: organizationalUnit\nou: groups\n",
        f"dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\n"
        f"userPassword: {bind_password}\n",
    ]
    for group in (USERS, DATA):
        members = "".join(f"member: uid={name},{PEOPLE}\n" for name, groups in MEMBERS.items() if group in groups)
        found.append(f"dn: {group}\nobjectClass: groupOfNames\n{members}")
    for name, groups in MEMBERS.items():
        memberships = "".join(f"memberOf: {group}\n" for group in groups)
        found.append(
            f"dn: uid={name},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\ngivenName: {name.title()}\n"
            f"sn: Test\nmail: {name}@example.org\nuserPassword: {PASSWORD}\n{memberships}"
        )
    return "\n".join(found)


class Directory:
    """Debian's slapd with a configuration of its own, beside all that the host does else."""

    def __init__(self, name: str, host: Host) -> None:
        self.name = name
        self.host = host
        self.url = f"ldap://{name}:{PORT}"

    def write(self, name: str, text: str) -> None:
        command = ["ssh", "-F", str(topology.ssh_config()), self.name, f"sudo tee {FOLDER}/{name}"]
        subprocess.run(command, check=True, input=text.encode(), stdout=subprocess.DEVNULL)

    def install(self, bind_password: str) -> None:
        # Masked, the package's own directory, empty and without TLS, does not start.
        self.host.check_output("systemctl mask slapd")
        self.host.check_output("apt-get update -qq")
        self.host.check_output("DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends slapd")
        self.host.check_output(f"install -d -m 0700 {FOLDER} {FOLDER}/data")
        self.write("slapd.conf", CONFIGURATION)
        self.write("entries.ldif", entries(bind_password))
        self.certify()
        self.host.check_output(f"slapadd -f {FOLDER}/slapd.conf -l {FOLDER}/entries.ldif")
        self.host.check_output(f"rm {FOLDER}/entries.ldif")
        self.start()

    def certify(self) -> str:
        """Give it a certificate that it has signed itself; returns it."""
        self.host.check_output(
            f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={self.name} -addext subjectAltName=DNS:{self.name} "
            f"-keyout {FOLDER}/key.pem -out {FOLDER}/certificate.pem"
        )
        return str(self.host.check_output(f"cat {FOLDER}/certificate.pem"))

    def start(self) -> None:
        self.host.check_output(
            f"systemd-run --quiet --unit=directory --collect /usr/sbin/slapd -d 0 -f {FOLDER}/slapd.conf -h ldap://0.0.0.0:{PORT}"
        )
        topology.wait_for("the directory", lambda: self.host.run(f"ss -Hltn | grep -q ':{PORT} '").succeeded)

    def stop(self) -> None:
        self.host.check_output("systemctl stop directory")

    def remove(self) -> None:
        self.host.run("systemctl stop directory")
        self.host.check_output("DEBIAN_FRONTEND=noninteractive apt-get purge --yes -qq --autoremove slapd")
        self.host.check_output(f"systemctl unmask slapd; rm -rf {FOLDER}")


def base_url() -> str:
    return f"http://{topology.address(topology.members('airflow_webserver')[0])}:8080"


def token(name: str, password: str) -> str | None:
    """The token that a program gets for a name and a password; none where they are refused."""
    answer = requests.post(f"{base_url()}/auth/token", json={"username": name, "password": password}, timeout=60)
    assert answer.status_code in (201, 401), answer.text
    return answer.json()["access_token"] if answer.status_code == 201 else None


def fill_in_form(name: str, password: str) -> requests.Session:
    """A browser's session after it has sent the login form."""
    session = requests.Session()
    page = session.get(f"{base_url()}/auth/login/", timeout=60)
    fields = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
    assert fields is not None, page.text[:2000]
    form = {"csrf_token": fields[1], "username": name, "password": password}
    answer = session.post(f"{base_url()}/auth/login/", data=form, timeout=60)
    assert answer.status_code == 200, answer.text[:2000]
    return session


def may(access: requests.Session | str | None, path: str) -> bool:
    """Whether somebody, with a token or the cookies of a browser, may see what is at a path of the API."""
    session = access if isinstance(access, requests.Session) else requests.Session()
    if isinstance(access, str):
        session.headers["Authorization"] = f"Bearer {access}"
    status = session.get(f"{base_url()}/api/v2{path}", timeout=60).status_code
    assert status in (200, 401, 403)
    return status == 200
