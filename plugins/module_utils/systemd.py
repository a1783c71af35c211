"""Ask systemd about units, and give the end of a unit's journal when one fails."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = ("LoadState", "ActiveState", "SubState", "NeedDaemonReload", "UnitFileState", "Result")


def show(module: AnsibleModule, unit: str, properties: Iterable[str] = PROPERTIES) -> dict[str, str]:
    """Properties of a unit as systemd knows them now, all as strings."""
    command = ["systemctl", "show", unit, "--property", ",".join(properties)]
    rc, stdout, stderr = module.run_command(command, check_rc=True)
    return dict(line.partition("=")[::2] for line in stdout.splitlines() if "=" in line)


def systemctl(module: AnsibleModule, *arguments: str) -> None:
    """Run systemctl; fails the module with its message where it fails."""
    module.run_command(["systemctl", *arguments], check_rc=True)


def journal_tail(module: AnsibleModule, unit: str, lines: int = 30, secrets: Iterable[str] = ()) -> str:
    """The last lines of a unit's journal, with the given secrets struck out."""
    command = ["journalctl", "--unit", unit, "--lines", str(lines), "--no-pager", "--output", "cat"]
    rc, stdout, stderr = module.run_command(command)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        stdout = stdout.replace(secret, "********")
    return stdout


def is_frozen(process: str) -> bool:
    """Whether a signal has stopped a process, by its number. One under a debugger is not meant."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as stream:
            # The name before it is in parentheses, and may hold anything.
            return stream.read().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def process_titles(group: str, mounts: Iterable[str] = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup")) -> list[str]:
    """Command lines (as the processes show them) of all processes in a unit's ControlGroup."""
    titles = []
    for mount in mounts:
        try:
            with open(mount + group + "/cgroup.procs", encoding="utf-8") as stream:
                numbers = stream.read().split()
        except OSError:
            continue  # the other version of cgroups
        for number in numbers:
            try:
                with open(f"/proc/{number}/cmdline", "rb") as stream:
                    titles.append(stream.read().replace(b"\0", b" ").decode(errors="replace").strip())
            except OSError:
                continue  # it has ended
        break
    return titles


def unit_problems(module: AnsibleModule, texts: Mapping[str, str]) -> dict[str, list[str]]:
    """What systemd does not understand in units, by their names, and would ignore without a word to who wrote it.

    A host may lack what a unit names (programs, other units): that is no fault of its text.
    """
    if not texts or not shutil.which("systemd-analyze"):
        return {}
    # Not only for root: what stands in a unit is no secret.
    with tempfile.TemporaryDirectory(prefix="airfield-units-", dir="/run" if os.access("/run", os.W_OK) else None) as folder:
        for name, text in texts.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
                stream.write(text)
        paths = [os.path.join(folder, name) for name in texts]
        dummy, stdout, stderr = module.run_command(["systemd-analyze", "verify", "--man=no", *paths])
    return read_unit_problems(stdout + stderr, folder, texts)


def read_unit_problems(output: str, folder: str, names: Iterable[str]) -> dict[str, list[str]]:
    """The lines of `systemd-analyze verify` that are about the texts of the units, without repetitions."""
    problems: dict[str, list[str]] = {}
    for name in names:
        for line in output.splitlines():
            text = re.match(re.escape(os.path.join(folder, name)) + r":\d+: (.*ignoring.*)", line, re.IGNORECASE)
            refused = re.match(re.escape(name) + r": (.*Refusing.*)", line)
            found = text or refused
            if found and found[1] not in problems.get(name, []):
                problems.setdefault(name, []).append(found[1])
    return problems


def calendar_problems(module: AnsibleModule, calendars: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Schedules that systemd does not understand, or that never come."""
    problems = {}
    for name, calendar in calendars.items():
        if not shutil.which("systemd-analyze"):
            continue
        rc, stdout, stderr = module.run_command(["systemd-analyze", "calendar", "--", calendar])
        if rc:
            problems[name] = {"given": calendar, "reason": stderr.strip().splitlines()[-1] if stderr.strip() else "invalid"}
        elif re.search(r"^\s*Next elapse: never", stdout, re.MULTILINE):
            problems[name] = {"given": calendar, "reason": "it never comes"}
    return problems
