"""Ask systemd about units, and give the end of a unit's journal when one fails."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

PROPERTIES = ("LoadState", "ActiveState", "SubState", "NeedDaemonReload", "UnitFileState", "Result")


def show(module, unit, properties=PROPERTIES):
    """Properties of a unit as systemd knows them now, all as strings."""
    command = ["systemctl", "show", unit, "--property", ",".join(properties)]
    rc, stdout, stderr = module.run_command(command, check_rc=True)
    return dict(line.partition("=")[::2] for line in stdout.splitlines() if "=" in line)


def systemctl(module, *arguments):
    """Run systemctl; fails the module with its message where it fails."""
    module.run_command(["systemctl", *arguments], check_rc=True)


def journal_tail(module, unit, lines=30, secrets=()):
    """The last lines of a unit's journal, with the given secrets struck out."""
    command = ["journalctl", "--unit", unit, "--lines", str(lines), "--no-pager", "--output", "cat"]
    rc, stdout, stderr = module.run_command(command)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        stdout = stdout.replace(secret, "********")
    return stdout
