#!/usr/bin/env python3
"""Measure site.yml, add_workers.yml and objects.yml against doing the same by hand, all on fresh hosts of this machine.

CPU seconds are what counts: those of all processes on the hosts (the cgroup that the hosts' containers share) and those of
everything started here (a cgroup of our own, SSH's background processes included). Wall seconds depend on what else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import yaml

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
OUTPUT = ROOT / "tests/output"
LOG = OUTPUT / "bench.log"
ACCOUNTS = Path("/sys/fs/cgroup/cpuacct")
CONTROLLER = "airfield-bench-controller"
WEB = "http://10.83.3.12:8080"
ADD = ["playbooks/add_workers.yml", "-e"]
SUDO = ["sudo", "--"] if os.geteuid() else []
SEAWEEDFS = ROOT / "roles/seaweedfs/files/requirements.txt"

FIVE = ["scheduler1", "web1", "worker1", "worker2", "store1"]
INVENTORY = ["-i", "bench/inventory/hosts.yml"]
WITH_WORKER3 = [*INVENTORY, "-i", "bench/inventory/worker3.yml"]
WITH_BOTH = ["-i", "bench/inventory"]
# Sixteen hosts, eleven of them not among the five.
SIXTEEN = [*WITH_BOTH, "-i", "bench/sixteen"]
ELEVEN = [f"worker{number}" for number in range(3, 14)]


@dataclass(frozen=True)
class Cost:
    """What one run took: wall and CPU seconds, and how much of the machine others used meanwhile."""

    wall: float
    controller: float
    hosts: float
    # What of both was in the kernel, not in user mode.
    kernel: float
    # CPU seconds that running services would have used anyway; not in `hosts`.
    idle: float
    others: float
    # Runs of modules on the five hosts, each a `sudo` there, and tasks that changed something.
    modules: int = 0
    changed: int = 0

    @property
    def cpu(self) -> float:
        return self.controller + self.hosts

    @property
    def user(self) -> float:
        return self.cpu - self.kernel


Costs = dict[str, Cost]


def cpu_seconds(account: str, kind: str = "usage") -> float:
    return int((ACCOUNTS / account / f"cpuacct.{kind}").read_text()) / 1e9


def machine_seconds() -> float:
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def forget_deletions() -> None:
    """Let ext4 forget the files of hosts that were removed.

    It does not reuse an inode within minutes of its deletion, and looks at each of them for every new file (recently_deleted in
    fs/ext4/ialloc.c), as long as it has them in memory: unpacking a release then costs the kernel up to ten times as much.
    """
    os.sync()
    subprocess.run([*SUDO, "tee", "/proc/sys/vm/drop_caches"], check=True, input=b"3", stdout=subprocess.DEVNULL)


class Side:
    """Hosts of our own or of the floor; they exist from up() to down()."""

    def __init__(self, name: str, log: IO[str]) -> None:
        self.name, self.log = name, log
        self.directory = ROOT / ".testbed" / name
        # CPU seconds that the services use in each second with nothing to do.
        self.idle_rate = 0.0

    def call(self, *command: str | Path, **environment: str) -> None:
        """Run a command; its output goes to the log."""
        self.log.write(f"##### {self.name}: {' '.join(map(str, command))}\n")
        self.log.flush()
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "TESTBED": str(self.directory), **environment},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            check=True,
        )

    def playbook(self, *arguments: str) -> None:
        self.call("ansible-playbook", "-e", f"testbed_name={self.name}", *arguments)

    def on(self, host: str, command: str, text: str = "") -> str:
        ssh = ["ssh", "-F", str(self.directory / "ssh_config"), host, command]
        return subprocess.run(ssh, check=True, input=text, stdout=subprocess.PIPE, stderr=self.log, text=True).stdout

    def up(self, *inventory: str) -> None:
        self.playbook(*inventory, "testbed/up.yml")
        folder = "/opt/airflow/dags/current"
        put = f"sudo mkdir -p {folder} && sudo tee {folder}/bench.py >/dev/null"
        for host in ("scheduler1", "worker1", "worker2", "worker3"):
            self.on(host, put, (BENCH / "bench_dags.py").read_text())

    def down(self) -> None:
        self.playbook(*SIXTEEN, "testbed/down.yml")

    def measure(self, what: str, *command: str | Path, **environment: str) -> Cost:
        """Run a command and read the meters around it."""
        account = "airfield-" + self.name

        def meters() -> tuple[float, ...]:
            kernel = cpu_seconds(account, "usage_sys") + cpu_seconds(CONTROLLER, "usage_sys")
            return time.monotonic(), cpu_seconds(CONTROLLER), cpu_seconds(account), kernel, machine_seconds()

        before = meters()
        self.call(*command, **environment)
        wall, controller, hosts, kernel, machine = (after - first for first, after in zip(before, meters(), strict=True))
        idle = self.idle_rate * wall
        others = max((machine - hosts - controller) / wall / (os.cpu_count() or 1), 0)
        cost = Cost(wall, controller, hosts - idle, kernel, idle, others)
        print(f"  {what}: {cost.cpu:.1f} CPU s, {cost.wall:.0f} s", flush=True)
        return cost

    def settle(self) -> None:
        """Let the services come to rest, then see what they use at rest."""
        self.idle_rate = 0.0
        time.sleep(20)
        cost = self.measure("services at rest", "sleep", "40")
        self.idle_rate = cost.hosts / cost.wall


def our_side(side: Side) -> Costs:
    def run(what: str, *arguments: str) -> Cost:
        start = int(time.time())
        # The play ends when everything is healthy and each new worker has run a task; the probe only confirms it.
        shell = f'"$@" && {BENCH}/probe.py health {WEB}'
        cost = side.measure(what, "sh", "-c", shell, "sh", "ansible-playbook", *arguments)
        count = f"journalctl -q -t sudo --since=@{start} | grep -c BECOME-SUCCESS || true"
        recap = LOG.read_text().rpartition("PLAY RECAP")[2]
        return replace(
            cost,
            modules=sum(int(side.on(host, count)) for host in FIVE),
            changed=sum(map(int, re.findall(r"changed=(\d+)", recap))),
        )

    costs = {"first": run("site.yml, first run", *INVENTORY, "site.yml")}
    side.settle()
    noops = (run("site.yml, nothing to do", *INVENTORY, "site.yml") for _ in range(2))
    costs["noop"] = min(noops, key=lambda cost: cost.cpu)
    costs["worker"] = run("site.yml, one more worker", *WITH_WORKER3, "site.yml")
    costs["worker alone"] = run("add_workers.yml, one more worker", *WITH_BOTH, *ADD, "workers=worker4")
    return costs


def many_hosts(side: Side) -> Costs:
    """What more hosts cost: eight workers at once beside one, and sixteen hosts with nothing to do beside one."""

    def run(what: str, *arguments: str) -> Cost:
        return side.measure(what, "ansible-playbook", *SIXTEEN, *arguments)

    side.playbook(*INVENTORY, "site.yml")
    costs = {
        "one": run("add_workers.yml, one worker", *ADD, "workers=" + ELEVEN[0]),
        "eight": run("add_workers.yml, eight workers", *ADD, "workers=" + ",".join(ELEVEN[1:9])),
    }
    side.playbook(*SIXTEEN, *ADD, "workers=" + ",".join(ELEVEN[9:]))
    side.settle()
    costs["one host"] = run("site.yml, nothing to do, one host", "site.yml", "--limit", "worker1")
    costs["sixteen hosts"] = run("site.yml, nothing to do, sixteen hosts", "site.yml")
    return costs


def many_objects(side: Side) -> Costs:
    """What two hundred connections, variables, pools and users cost at once, and what a tenth of them by the command line."""

    def names(count: int) -> list[str]:
        return [f"bench{number}" for number in range(count)]

    person = {"roles": ["Viewer"], "first_name": "a", "last_name": "b", "password": "only-for-the-bench"}
    variables = {
        "airflow_connections": [{"conn_id": name, "conn_type": "generic", "password": "p"} for name in names(80)],
        "airflow_variables": [{"key": name, "value": "v"} for name in names(60)],
        "airflow_pools": [{"name": name, "slots": 4} for name in names(40)],
        "airflow_users": [{"username": name, "email": f"{name}@example.org", **person} for name in names(20)],
    }
    calls = (
        [f"connections add call-{name} --conn-type generic --conn-password p" for name in names(8)]
        + [f"variables set call-{name} v" for name in names(6)]
        + [f"pools set call-{name} 4 d" for name in names(4)]
        + [f"users create -u call-{name} -e {name}@example.com -r Viewer -f a -l b -p bench-only" for name in names(2)]
    )
    side.playbook(*INVENTORY, "site.yml")
    side.settle()
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as inventory:
        yaml.safe_dump({"all": {"vars": variables}}, inventory)
        inventory.flush()
        playbook = ["ansible-playbook", *INVENTORY, "-i", inventory.name, "playbooks/objects.yml"]
        costs = {
            "objects": side.measure("objects.yml, 200 objects", *playbook),
            "objects noop": side.measure("objects.yml, 200 objects, nothing to do", *playbook),
        }
    ssh: list[str | Path] = ["ssh", "-F", side.directory / "ssh_config", "scheduler1"]
    costs["calls"] = side.measure("20 calls of airflow", *ssh, "set -e; " + "; ".join(f"sudo airflow {call}" for call in calls))
    return costs


def million_tasks(side: Side) -> Costs:
    """What a backup, its test and a restore cost with a million task instances in the database."""
    program = "sudo /opt/airflow/current/bin/python /usr/local/lib/airfield/airfield_backup.py"
    ssh: list[str | Path] = ["ssh", "-F", side.directory / "ssh_config", "scheduler1"]
    side.playbook(*INVENTORY, "site.yml")
    side.on("store1", "sudo -u postgres psql --quiet --dbname=airflow --file=-", (BENCH / "million_tasks.sql").read_text())
    side.settle()
    costs = {
        # In this order: the first one of a cluster is tested in any case.
        "backup tested": side.measure("backup of a million task instances, and its test", *ssh, f"{program} create --test"),
        "backup": side.measure("backup alone", *ssh, "sudo systemctl start airfield-backup"),
    }
    folder = "/var/backups/airfield"
    backups = json.loads(side.on("scheduler1", f"{program} list"))
    print("  " + ", ".join(f"{backup['rows']} rows in {backup['bytes'] / 2**20:.0f} MiB" for backup in backups))
    archive = f"{folder}/{backups[0]['name']}"
    key = yaml.safe_load((BENCH / "inventory/group_vars/all/secrets.yml").read_text())["airflow_backup_private_key"]
    side.on("scheduler1", "sudo systemctl stop 'airflow-*'")
    # The key by the way that takes no command line: the hosts are gone in a minute, but the habit stays.
    side.on("scheduler1", "umask 077; cat > /dev/shm/key", key)
    costs["restore"] = side.measure("restore of it", *ssh, f"{program} restore --replace {archive} < /dev/shm/key")
    return costs


def floor_side(side: Side, way: str, environment: dict[str, str]) -> Costs:
    script = BENCH / "floor.sh"
    costs = {way: side.measure(f"floor, {way}", script, "cluster", way, **environment)}
    side.settle()
    costs[way + " worker"] = side.measure(f"floor, {way}, one more worker", script, "worker", way, **environment)
    return costs


def floor_environment(work: Path) -> dict[str, str]:
    """What floor.sh needs: the same release, extras and lock as the collection's own, and the uv that the lock names."""
    defaults = yaml.safe_load((ROOT / "roles/airflow/defaults/main.yml").read_text())
    variables = yaml.safe_load((BENCH / "inventory/group_vars/all/main.yml").read_text())
    version = defaults["airflow_version"]
    lock = ROOT / f"roles/airflow/files/releases/airflow-{version}-python3.11.lock"
    subprocess.run(["uv", "pip", "install", "--quiet", "--target", work, "--constraint", lock, "uv"], check=True)
    return {
        "UV": str(work / "bin/uv"),
        "LOCK": str(lock),
        "REQUIREMENT": f"apache-airflow[{','.join(defaults['airflow_extras'])}]=={version}",
        "SEAWEEDFS": str(SEAWEEDFS),
        "ADMIN_PASSWORD": variables["airflow_admin_password"],
    }


def warm_up(side: Side, environment: dict[str, str]) -> None:
    """Fill the cache of downloads that both sides use."""
    files = {environment["UV"]: "/uv:ro", environment["LOCK"]: "/lock:ro", SEAWEEDFS: "/seaweedfs:ro", "airfield-uv": "/cache"}
    mounts = [f"--volume={source}:{target}" for source, target in files.items()]
    variables = ["--env=UV_CACHE_DIR=/cache", "--env=UV_SYSTEM_CERTS=true"]
    install = "/uv pip install --quiet --python /venv/bin/python --link-mode copy"
    steps = f"/uv venv --quiet /venv && {install} --constraint /lock '{environment['REQUIREMENT']}' && {install} -r /seaweedfs"
    side.call("docker", "run", "--rm", *mounts, *variables, "airfield-host:bookworm", "sh", "-c", steps)


def yardstick() -> str:
    done = subprocess.run([BENCH / "yardstick.sh"], check=True, stderr=subprocess.PIPE, text=True)
    return ", ".join(done.stderr.splitlines())


TITLES = {
    "first": "**a** `site.yml`, first run on five bare hosts",
    "built": "floor: by hand, each host builds its Python environment",
    "shipped": "floor: by hand, built once and shipped",
    "noop": "**b** `site.yml`, nothing to do, five hosts",
    "worker": "**c** `site.yml`, a worker added to the five hosts",
    "worker alone": "**c** `add_workers.yml`, a worker added to the running cluster",
    "built worker": "floor of a worker: by hand, builds its Python environment",
    "shipped worker": "floor of a worker: by hand, gets it shipped",
    "one": "**d** `add_workers.yml`, one worker",
    "eight": "**d** `add_workers.yml`, eight workers at once",
    "one host": "**e** `site.yml --limit` to one host, nothing to do",
    "sixteen hosts": "**e** `site.yml`, nothing to do, sixteen hosts",
    "objects": "**f** `objects.yml`, 200 new objects",
    "objects noop": "**f** `objects.yml`, 200 objects, nothing to do",
    "backup": "**g** backup of a million task instances",
    "backup tested": "**g** the same, and its test",
    "restore": "**g** restore of its database",
    "calls": "20 calls of `airflow`, one for each of a tenth of the objects",
}
# What is compared: title, value, the runs that it needs, budget.
MEASURES: list[tuple[str, Callable[[Costs], float], list[str], float | None]] = [
    ("**a** CPU of the first run / floor, each builds", lambda c: c["first"].cpu / c["built"].cpu, ["first", "built"], 1.3),
    ("**a** the same, user mode only", lambda c: c["first"].user / c["built"].user, ["first", "built"], None),
    ("**a** CPU of the first run / floor, shipped", lambda c: c["first"].cpu / c["shipped"].cpu, ["first", "shipped"], None),
    ("**b** CPU s per host with nothing to do", lambda c: c["noop"].cpu / len(FIVE), ["noop"], 5),
    ("**b** module runs per host with nothing to do", lambda c: c["noop"].modules / len(FIVE), ["noop"], None),
    ("**b** tasks that changed something", lambda c: c["noop"].changed, ["noop"], 0),
    (
        "**c** CPU of adding a worker / floor of a worker, builds",
        lambda c: c["worker alone"].cpu / c["built worker"].cpu,
        ["worker alone", "built worker"],
        1.5,
    ),
    (
        "**c** the same, user mode only",
        lambda c: c["worker alone"].user / c["built worker"].user,
        ["worker alone", "built worker"],
        None,
    ),
    (
        "**c** CPU of adding a worker / floor of a worker, shipped",
        lambda c: c["worker alone"].cpu / c["shipped worker"].cpu,
        ["worker alone", "shipped worker"],
        None,
    ),
    (
        "**c** CPU of the whole run with a new worker / floor of a worker, builds",
        lambda c: c["worker"].cpu / c["built worker"].cpu,
        ["worker", "built worker"],
        None,
    ),
    ("**d** wall time of adding eight workers / one", lambda c: c["eight"].wall / c["one"].wall, ["one", "eight"], 4),
    (
        "**e** wall time of sixteen hosts with nothing to do / one",
        lambda c: c["sixteen hosts"].wall / c["one host"].wall,
        ["one host", "sixteen hosts"],
        8,
    ),
    (
        "**f** CPU of 200 new objects, in percent of one call of `airflow` for each",
        lambda c: 100 * c["objects"].cpu / (10 * c["calls"].cpu),
        ["objects", "calls"],
        2.5,
    ),
]


def report(costs: Costs, yardsticks: list[str]) -> tuple[str, bool]:
    """All results as Markdown, and whether every budget is met, or missed by no more than noise explains (perf: 1.5 times)."""
    lines = [
        "| what | wall s | CPU s | controller | hosts | in the kernel | services at rest, taken off | others' share |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for key, title in TITLES.items():
        if cost := costs.get(key):
            lines.append(
                f"| {title} | {cost.wall:.0f} | {cost.cpu:.1f} | {cost.controller:.1f} | {cost.hosts:.1f} "
                f"| {cost.kernel:.1f} | {cost.idle:.1f} | {cost.others:.0%} |"
            )
    measures = [(title, value(costs), budget) for title, value, needed, budget in MEASURES if set(needed) <= set(costs)]
    lines += ["", "| measure | seen | budget | |", "| --- | --: | --: | --- |"]
    for title, seen, budget in measures:
        limit, verdict = "", ""
        if budget is not None:
            limit, verdict = f"≤ {budget:g}", "met" if seen <= budget else "missed"
        lines.append(f"| {title} | {seen:.2f} | {limit} | {verdict} |")
    lines += ["", "Yardstick before each side (CPU s): " + "; ".join(dict.fromkeys(yardsticks)) + "."]
    return "\n".join(lines) + "\n", all(budget is None or seen <= 1.5 * budget for _, seen, budget in measures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, help="measure this often and take the least of each")
    parser.add_argument(
        "sides", nargs="*", help="ours, built, shipped (floors), many (hosts), objects, million; all unless given"
    )
    arguments = parser.parse_args()
    if set(arguments.sides) - {"ours", "built", "shipped", "many", "objects", "million"}:
        parser.error("no such side: " + " ".join(arguments.sides))
    repeat = arguments.repeat

    subprocess.run([ROOT / "testbed/engine.sh"], check=True)
    # From here on all that this process starts is counted, SSH's masters among it.
    account = ACCOUNTS / CONTROLLER
    subprocess.run([*SUDO, "mkdir", "-p", account], check=True)
    subprocess.run([*SUDO, "chown", "-R", str(os.geteuid()), account], check=True)
    (account / "cgroup.procs").write_text("0")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    runs: list[Costs] = []
    yardsticks: list[str] = []
    with tempfile.TemporaryDirectory() as work, LOG.open("w") as log:
        environment = floor_environment(Path(work))
        sides: dict[str, Callable[[Side], Costs]] = {
            "ours": our_side,
            "built": lambda side: floor_side(side, "built", environment),
            "shipped": lambda side: floor_side(side, "shipped", environment),
            "many": many_hosts,
            "objects": many_objects,
            "million": million_tasks,
        }
        for number in range(repeat):
            costs: Costs = {}
            for way in arguments.sides or sides:
                side = Side("bench-floor" if way in ("built", "shipped") else "bench", log)
                # Both have the same addresses; an interrupted run may have left either.
                for name in ("bench", "bench-floor"):
                    Side(name, log).down()
                forget_deletions()
                yardsticks.append(yardstick())
                print(f"{way}, {number + 1} of {repeat} (yardstick: {yardsticks[-1]})", flush=True)
                try:
                    side.up(*(SIXTEEN if way == "many" else WITH_BOTH))
                    if not runs and not costs:
                        warm_up(side, environment)
                    forget_deletions()
                    costs |= sides[way](side)
                finally:
                    side.down()
            runs.append(costs)
    least = {key: min((costs[key] for costs in runs), key=lambda cost: cost.cpu) for key in runs[0]}
    text, good = report(least, yardsticks)
    (OUTPUT / "bench.md").write_text(text)
    print("\n" + text)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
