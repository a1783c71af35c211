"""Whether servers on this host are Airfield's, and what shows that they serve somebody else."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

MARK = "# Managed by Airfield"
# What pg_createcluster writes, whatever the method of a password.
DEFAULT_RULES = {
    "local all postgres peer",
    "local all all peer",
    "host all all 127.0.0.1/32",
    "host all all ::1/128",
    "local replication all peer",
    "host replication all 127.0.0.1/32",
    "host replication all ::1/128",
}
# An empty Redis saves 88 to 200 bytes, by its version.
EMPTY_DUMP = 256
# Folders of MySQL's own in its data directory.
MYSQL_OWN = {"mysql", "performance_schema", "sys"}


def read(path: str) -> str | None:
    """The text of a file; None where it is none that can be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


def is_marked(text: str | None) -> bool:
    """Whether Airfield wrote a file: its mark is on the first or, after an interpreter, the second line."""
    return text is not None and any(line.startswith(MARK) for line in text.splitlines()[:2])


def unmarked(paths: Iterable[str]) -> list[str]:
    """Those of the paths that are there and that Airfield did not write."""
    return [path for path in paths if os.path.lexists(path) and not is_marked(read(path))]


def units(pattern: str, folder: str = "/etc/systemd/system") -> list[str]:
    """Names of Airfield's own service units that match, without their suffix."""
    paths = glob.glob(os.path.join(folder, f"{pattern}.service"))
    return sorted(os.path.basename(path)[: -len(".service")] for path in paths if is_marked(read(path)))


def rules(text: str) -> list[str]:
    """Lines of pg_hba.conf that count, with single spaces."""
    return [" ".join(line.partition("#")[0].split()) for line in text.splitlines() if line.partition("#")[0].strip()]


def is_default_rule(rule: str) -> bool:
    """Whether a rule is one of the distribution's."""
    words = rule.split()
    return rule in DEFAULT_RULES or " ".join(words[:-1]) in DEFAULT_RULES


def postgresql(root: str, databases: Callable[[], list[str]]) -> dict[str, Any]:
    """What pg_hba.conf and, where Airfield did not write it, the databases show."""
    found: dict[str, Any] = {"ours": False, "foreign": [], "clients": {}}
    for path in sorted(glob.glob(f"{root}/etc/postgresql/*/main/pg_hba.conf")):
        text = read(path) or ""
        if is_marked(text):
            found["ours"] = True
            found["clients"] |= {host: address for address, host in re.findall(r"(\S+) scram-sha-256  # (\S+)", text)}
            continue
        found["foreign"] += [f"{path[len(root) :]} has the rule {rule}" for rule in rules(text) if not is_default_rule(rule)]
        found["foreign"] += [f"there is the database {name}" for name in databases()]
    return found


def redis(root: str) -> dict[str, Any]:
    """What redis.conf and the saved data show."""
    path, found = "/etc/redis/redis.conf", {"ours": False, "foreign": [], "clients": {}}
    text = read(root + path)
    if is_marked(text):
        return {**found, "ours": True}
    if text is None:
        return found
    foreign = []
    shipped = re.search(rf"^ {re.escape(path)} ([0-9a-f]{{32}})", read(root + "/var/lib/dpkg/status") or "", re.MULTILINE)
    if shipped is None or hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() != shipped[1]:
        foreign.append(f"{path} is not as the package has it")
    for name in glob.glob(f"{root}/var/lib/redis/*.rdb"):
        if os.path.getsize(name) > EMPTY_DUMP:
            foreign.append(f"{name[len(root) :]} holds data")
    return {**found, "foreign": foreign}


def mysql(root: str) -> dict[str, Any]:
    """What our option file and the data directory show."""
    found: dict[str, Any] = {"ours": False, "foreign": [], "clients": {}}
    if is_marked(read(f"{root}/etc/mysql/mysql.conf.d/zz_airfield.cnf")):
        return {**found, "ours": True}
    names = sorted(os.path.basename(path.rstrip("/")) for path in glob.glob(f"{root}/var/lib/mysql/*/"))
    return {**found, "foreign": [f"there is the database {name}" for name in names if name not in MYSQL_OWN and name[0] != "#"]}


def seaweedfs(root: str) -> dict[str, Any]:
    """What the unit shows."""
    found: dict[str, Any] = {"ours": False, "foreign": [], "clients": {}}
    for folder in ("/etc/systemd/system", "/usr/lib/systemd/system"):
        text = read(f"{root}{folder}/seaweedfs.service")
        if is_marked(text):
            found["ours"] = True
        elif text is not None:
            found["foreign"] = [f"{folder}/seaweedfs.service is not Airfield's"]
    return found


def look(services: Iterable[str], databases: Callable[[], list[str]], root: str = "") -> dict[str, dict[str, Any]]:
    """What there is of each service, with `ours`, reasons why it is `foreign`, and its `clients` by inventory name."""
    kinds = {"mysql": mysql, "redis": redis, "seaweedfs": seaweedfs}
    return {name: postgresql(root, databases) if name == "postgresql" else kinds[name](root) for name in services}
