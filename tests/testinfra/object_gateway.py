"""Ceph's object gateway on one of the hosts, from Debian: a store that deletes by the rules of its buckets."""

from __future__ import annotations

import subprocess

import topology
from testinfra.host import Host

FOLDER = "/srv/ceph"
PORT = 7480
# A day of a rule's, in seconds.
DAY = 1
PACKAGES = "ceph-mon ceph-osd radosgw"
# One of each, in memory and among themselves.
CONFIGURATION = f"""\
[global]
fsid = 5c1f2f0e-7d1b-4c53-9d6f-0d6c7b1f9a3e
mon host = 127.0.0.1
mon initial members = a
public addr = 127.0.0.1
keyring = {FOLDER}/keyring
mon data = {FOLDER}/mon
osd data = {FOLDER}/osd
osd objectstore = memstore
memstore device bytes = 268435456
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
mon allow pool size one = true
rgw frontends = beast port={PORT}
rgw lc debug interval = {DAY}
rgw lifecycle work time = 00:00-23:59
run dir = {FOLDER}
"""
# Who may do what: all of them everything.
ENTITIES = ("mon.", "osd.0", "client.admin")
# In their order: each waits for those before.
DAEMONS = {
    "ceph-mon-a": "ceph-mon --id a",
    "ceph-osd-0": "ceph-osd --id 0",
    "ceph-gateway": "radosgw --name client.admin",
}


class ObjectGateway:
    """The gateway and what it needs, beside all that the host does else."""

    def __init__(self, name: str, host: Host) -> None:
        self.name = name
        self.host = host
        self.url = f"http://{topology.address(name)}:{PORT}"

    def start(self, daemon: str) -> None:
        command = f"{DAEMONS[daemon]} --conf {FOLDER}/ceph.conf --foreground --log-to-stderr=true"
        self.host.check_output(f"systemd-run --quiet --collect --unit={daemon} {command}")

    def ceph(self, command: str) -> str:
        return str(self.host.check_output(f"timeout 60 ceph --conf {FOLDER}/ceph.conf {command}"))

    def install(self, access_key: str, secret_key: str) -> None:
        # Masked, the packages' own daemons do not start.
        self.host.check_output("systemctl mask ceph.target ceph-mon.target ceph-osd.target ceph-radosgw.target")
        self.host.check_output("apt-get update -qq")
        install = "DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends"
        self.host.check_output(f"{install} {PACKAGES}")
        self.host.check_output(f"install -d -m 0700 {FOLDER} {FOLDER}/mon {FOLDER}/osd")
        write = ["ssh", "-F", str(topology.ssh_config()), self.name, f"sudo tee {FOLDER}/ceph.conf"]
        subprocess.run(write, check=True, input=CONFIGURATION.encode(), stdout=subprocess.DEVNULL)
        caps = " ".join(f"--cap {service} 'allow *'" for service in ("mon", "osd", "mgr"))
        self.host.check_output(f"ceph-authtool --create-keyring {FOLDER}/keyring")
        for entity in ENTITIES:
            self.host.check_output(f"ceph-authtool {FOLDER}/keyring --gen-key --name {entity} {caps}")
        self.host.check_output(f"ceph-mon --mkfs --id a --keyring {FOLDER}/keyring --conf {FOLDER}/ceph.conf")
        self.start("ceph-mon-a")
        self.ceph("osd create")
        self.host.check_output(f"ceph-osd --mkfs --id 0 --conf {FOLDER}/ceph.conf")
        self.start("ceph-osd-0")
        topology.wait_for("Ceph's one disk", lambda: "1 up" in self.ceph("osd stat"), 60)
        user = "user create --uid=airflow --display-name=airflow"
        # On a command line: a key of this test's alone.
        keys = f"--access-key={access_key} --secret-key={secret_key}"
        self.host.check_output(f"timeout 120 radosgw-admin --conf {FOLDER}/ceph.conf {user} {keys}")
        self.start("ceph-gateway")
        topology.wait_for("the gateway", lambda: self.host.run(f"curl -fs http://127.0.0.1:{PORT}/").rc == 0, 60)

    def remove(self) -> None:
        # Nothing there is worth the minutes that they take to stop.
        self.host.run(f"systemctl kill --signal=KILL {' '.join(DAEMONS)}")
        self.host.check_output(f"DEBIAN_FRONTEND=noninteractive apt-get purge --yes -qq --autoremove {PACKAGES}")
        self.host.check_output(f"rm -rf {FOLDER}")
