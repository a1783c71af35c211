"""Action plugin of the airflow_lock module: says whose run this is, and keeps the lock until that run has ended."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import contextlib
import getpass
import multiprocessing
import os
import shlex
import signal
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

# Seconds: how often the keeper looks whether the run has ended, and how long each of its commands on the host may take.
LOOK = 0.3
COMMAND = 25


def read(path: str) -> str:
    """The content of a file of the system's, empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def process(pid: int) -> tuple[str, str]:
    """State of a process, a letter, and its start, in clock ticks since the machine's; both empty where it is not seen."""
    # The name before these fields, in brackets, may have spaces and brackets of its own.
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if fields else ("", "")


def running(pid: int, started: str) -> bool:
    """Whether a process of this machine has not ended; where that is uncertain it has not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    state, start = process(pid)
    return state not in ("Z", "X") and start in ("", started)


def main_process() -> int:
    """Number of the ansible-playbook process."""
    # Ansible forks a process for each task. Its getppid() would be another once ansible-playbook was killed.
    parent = multiprocessing.parent_process()
    return parent.pid if parent and parent.pid else os.getpid()


def describe_run() -> dict[str, Any]:
    """The module's `owner`: the same in all tasks of this run, and in no other run."""
    pid, host = main_process(), socket.gethostname()
    boot, started = read("/proc/sys/kernel/random/boot_id"), process(pid)[1]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container, which may have no name for it
        user = str(os.getuid())
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    # A machine without an identity cannot be recognised after its next start: hosts' names are not unique.
    machine = " ".join((host, read("/etc/machine-id") or boot, processes))
    return {
        "run": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{machine} {boot} {pid} {started}")),
        "who": f"{user}@{host}",
        "machine": machine,
        "boot": boot,
        "pid": pid,
        "started": started,
        "playbook": " ".join(os.path.basename(path) for path in context.CLIARGS.get("args", ())),
    }


def is_dead(holder: dict[str, Any], me: dict[str, Any]) -> bool:
    """Whether the run `holder` has certainly ended, which only shows where it ran on the machine of `me`."""
    if not me["boot"] or holder["machine"] != me["machine"]:
        return False
    return holder["boot"] != me["boot"] or not running(holder["pid"], holder["started"])


def describe_holder(holder: dict[str, Any]) -> str:
    return "{who}, process {pid}, {playbook}, since {since}, last renewed {idle} s ago".format(**holder)


def fork(work: Callable[[], object]) -> int:
    """Do `work` in a new process and session, which then ends, silently also where that fails; returns its number."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            work()
        finally:
            # Neither the callers of this plugin nor what they want done at exit belong to the new process.
            os._exit(0)
    return child


def run_limited(work: Callable[[], object]) -> None:
    """Do `work` in a process of its own, for as long as a command may take: connections can hang."""
    child, end = fork(work), time.monotonic() + COMMAND
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)


class Silence:
    """Stands in for the queue by which messages go to ansible-playbook, whose locks die with it."""

    def send_display(self, *args: Any, **kwargs: Any) -> None:
        pass


def let_go() -> None:
    """Free this process of what it has from Ansible's for the task: signal handlers, files and queue."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    # A pipe held open here would keep its reader waiting. Closed numbers would be given to the connection's pipes, which
    # what is left of Ansible could still write to.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/dev/fd")):
        os.dup2(nowhere, number)
    with contextlib.suppress(RuntimeError):  # where Ansible has not forked
        display.set_queue(Silence())


def keep(pid: int, started: str, interval: float, renew: Callable[[], object], release: Callable[[], object]) -> None:
    """Renew the lock every `interval` seconds while the process lives, then release it."""
    due = time.monotonic() + interval
    while running(pid, started):
        if time.monotonic() >= due:
            due = time.monotonic() + interval
            run_limited(renew)
        time.sleep(LOOK)
    run_limited(release)


class ActionModule(ActionBase):
    """Take the lock by the module, and start what keeps it: a process that outlives the run by moments."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            result.update(changed=False, acquired=False)
            return result
        me = describe_run()
        answer = self._acquire(task_vars, owner=me)
        holder = answer.get("held_by")
        if holder and is_dead(holder, me):
            answer = self._acquire(task_vars, owner=me, replace=holder["run"])
        elif "previous" in answer:
            display.warning(f"The lock was taken over from {describe_holder(answer['previous'])}.")
        result.update(answer)
        if result.get("failed"):
            return result
        if not result["acquired"]:
            holder = result["held_by"]
            result["failed"] = True
            result["msg"] = (
                f"Another run is working on this cluster: {describe_holder(holder)}. Its lock ends with that run, or "
                f"{max(0, result['timeout'] - holder['idle'])} s from now if it is not renewed. Remedy: wait, or if that run "
                f"is certainly dead, add -e airflow_lock_break=true."
            )
        elif result["changed"]:
            # Through a process that ends at once, so that the keeper is not a child for which Ansible would have to wait.
            os.waitpid(fork(lambda: fork(lambda: self._keep(me, result["path"], result["timeout"]))), 0)
        # The lock is gone when the run has ended: no change to the host.
        result["changed"] = False
        return result

    def _acquire(self, task_vars: Any, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(module_args={**self._task.args, **arguments}, task_vars=task_vars)
        return result

    def _keep(self, me: dict[str, Any], path: str, timeout: int) -> None:
        let_go()
        file, guard = shlex.quote(path), shlex.quote(path + ".guard")

        def command(change: str) -> Callable[[], object]:
            ours = f"exec 9>>{guard} && flock -w 10 9 && grep -qsF {me['run']} {file}"
            return lambda: self._low_level_execute_command(f"{ours} && {change} {file}", sudoable=True)

        keep(me["pid"], me["started"], timeout / 5, command("touch"), command("rm -f"))
