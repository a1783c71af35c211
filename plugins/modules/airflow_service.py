#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_service
short_description: Keep a systemd service running with its present unit, secrets and inputs
version_added: "0.1.0"
description:
  - Writes a unit (or a drop-in for a distribution's unit) and a root-only environment file, enables the service, and
    starts it or restarts it where the running process was started from anything else.
  - What a process is started from is a fingerprint over the unit, the environment and O(inputs). The unit copies the
    present one from C(/var/lib/airfield) to C(/run/airfield) at each start; a run compares the two, so one that was killed
    between writing and restarting is healed by the next.
  - A service that does not become healthy fails the task with the end of its journal, secrets struck out. One whose main
    process a signal has stopped is restarted in any case.
options:
  name:
    description: Name of the service, without C(.service).
    type: str
    required: true
  state:
    description:
      - V(started) also restarts where the fingerprint of the running process differs.
      - V(absent) stops and disables the service and removes its unit or drop-in and its environment file.
    type: str
    choices: [started, absent]
    default: started
  restart:
    description: Whether to restart a service that runs with another fingerprint. V(false) leaves it as it is and says so in
      RV(pending), so that a later task can choose the moment. A service that does not run is started in any case.
    type: bool
    default: true
  force:
    description: Restart, or report as RV(pending), what runs with the present fingerprint, too.
    type: bool
    default: false
  unit:
    description: Text of the whole unit file. It names O(environment_file), where there is one, in C(EnvironmentFile=).
    type: str
  drop_in:
    description: Text of a drop-in for a unit that a package brings.
    type: str
  socket:
    description: Text of the whole unit file of a socket that the service takes its connections from.
    type: str
  timer:
    description: Text of the whole unit file of a timer that starts the service, which then ends by itself.
    type: str
  first_run:
    description: Let a service with a timer run at once where it shall be started from something else than the last time, or
      has failed since. The task waits, and fails with it.
    type: bool
    default: false
  environment_file:
    description: Path of a file for O(environment), written 0600 root:root. PID 1 reads it, the service's user cannot.
    type: path
  environment:
    description: Variables of the environment file. Every value is treated as a secret.
    type: dict
  files:
    description: Configuration files that the process reads at its start, with their whole content. They are written before
      it starts and are part of the fingerprint.
    type: list
    elements: dict
    default: []
    suboptions:
      path: &path
        description: The file. Folders above it are made.
        type: path
        required: true
      content: &content
        description: Its content.
        type: str
        required: true
      owner: &owner
        description: Its owner.
        type: str
        default: root
      group: &group
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, in octal digits.
        type: str
        default: "0644"
      validate:
        description:
          - A command that reads the content from its standard input, and fails with the reason where the process could not
            work with it. Then the task fails and nothing is changed.
          - Runs whenever the process must be started from something else; in check mode, if what it names by whole paths is
            there.
        type: list
        elements: str
  secret_files:
    description: The same for files that hold secrets; they never appear in a diff.
    type: list
    elements: dict
    default: []
    suboptions:
      path: *path
      owner: *owner
      group: *group
      mode:
        description: Its mode, in octal digits.
        type: str
        default: "0600"
  secret_contents:
    description: What O(secret_files) hold, by path. Not in that list, because Ansible hides a whole option, but of texts in
      a list only what its output has as they were given; escaped, they would be in the host's journal.
    type: dict
    default: {}
  inputs:
    description: Whatever else the process reads at its start, such as its release and its options.
    type: dict
    default: {}
  cluster:
    description: Name of the cluster that the host belongs to, noted on the host for the checks of other clusters' runs.
      Empty, it is not.
    type: str
    default: ""
  account:
    description:
      - User whose process it is. A process keeps the user's numbers and groups, and the host's time zone, with which it was
        started, so that these are part of the fingerprint as they are on the host.
      - Empty, they are not.
    type: str
    default: ""
  reads:
    description: Files, and folders with all files below them, which the process of O(account) reads at its start and which
      somebody else writes. Their content is part of the fingerprint; modules of Airfield's own (C(airfield_*)) are not.
    type: list
    elements: str
    default: []
  health:
    description: How to tell that the service works. Without it, an active unit is taken for healthy.
    type: dict
    suboptions:
      url:
        description: Answers with status 200 when the service is healthy.
        type: str
        required: true
      component:
        description:
          - Name of a component in the JSON of Airflow's health endpoint. It must be C(healthy) there, with a heartbeat
            that is younger than the process.
        type: str
      timeout:
        description: Seconds to wait after a start, or where a running service does not answer at once.
        type: int
        default: 120
attributes:
  check_mode:
    support: full
    description: Reports what would be written, started or restarted, and changes nothing.
  diff_mode:
    support: full
    description: Shows units and files; of the environment only the names whose values change, of secret files nothing.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Run the triggerer
  airfield.metal.airflow_service:
    name: airflow-triggerer
    unit: "{{ lookup('ansible.builtin.template', 'airflow.service.j2') }}"
    environment_file: /etc/airflow/triggerer.env
    environment:
      AIRFLOW__CORE__FERNET_KEY: "{{ airflow_fernet_key }}"
    inputs:
      release: "{{ airflow_release_id }}"
    health:
      url: http://web1:8080/api/v2/monitor/health
      component: triggerer

- name: Take the triggerer off this host
  airfield.metal.airflow_service:
    name: airflow-triggerer
    environment_file: /etc/airflow/triggerer.env
    state: absent
"""

RETURN = r"""
pending:
  description: Whether the service must be restarted and was not, because of O(restart=false).
  returned: always
  type: bool
started:
  description: Whether the service was started or restarted (in check mode, whether it would be).
  returned: always
  type: bool
reason:
  description: Why it was or must be started or restarted; empty where there is no reason.
  returned: always
  type: str
  sample: it was inactive
"""

import datetime
import hashlib
import json
import os
import re
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.airfield.metal.plugins.module_utils import environment_file, systemd, written
from ansible_collections.airfield.metal.plugins.module_utils.files import (
    FILE_OPTIONS,
    ensure_file,
    read_text,
    text_diff,
)
from ansible_collections.airfield.metal.plugins.module_utils.stores import is_marked
from ansible_collections.airfield.metal.plugins.module_utils.surroundings import surroundings

# Not in the process's environment: setproctitle, which Celery and Airflow use, writes over what /proc shows of that.
# "+": as root, outside the unit's sandbox.
SECRET_FILE_OPTIONS = {
    **{name: option for name, option in FILE_OPTIONS.items() if name != "content"},
    "mode": {"type": "str", "default": "0600"},
}
REMEMBER = """
[Service]
# What the process is started from, for Ansible's module airflow_service to compare.
ExecStartPre=+/usr/bin/install -D -m 0600 %s %s
"""


VALIDATED_FILE_OPTIONS = dict(FILE_OPTIONS, validate={"type": "list", "elements": "str"})
STALE = "it was started from another unit, environment or input"
FORCED = "a restart was asked for"
FROZEN = "a signal had stopped its main process"


def fingerprint(*parts: Any) -> str:
    """A hash of all that a process is started from."""
    document = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()


def heartbeat_is_fresh(body: str | bytes, component: str, process_age: float) -> bool:
    """Whether the health document says that this component is alive, by a heartbeat of the present process."""
    part = (json.loads(body) or {}).get(component) or {}
    beat = part.get(f"latest_{component}_heartbeat")
    if part.get("status") != "healthy" or not beat:
        return False
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(beat)
    return age.total_seconds() < process_age


class Service:
    """One service on this host, as it is and as it shall be."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.unit = self.params["name"] + ".service"
        self.socket = self.params["name"] + ".socket"
        self.timer = self.params["name"] + ".timer"
        # What is started at boot, and again by hand: a service with a socket comes up by its first connection.
        self.entry = self.socket if self.params["socket"] else self.timer if self.params["timer"] else self.unit
        self.mark_path = "/var/lib/airfield/{}.fingerprint".format(self.params["name"])
        self.record_path = written.path_of(self.params["name"])
        self.running_mark_path = "/run/airfield/{}.fingerprint".format(self.params["name"])
        self.unit_path = "/etc/systemd/system/" + self.unit
        self.socket_path = "/etc/systemd/system/" + self.socket
        self.timer_path = "/etc/systemd/system/" + self.timer
        self.entry_text = self.params["socket"] or self.params["timer"]
        if self.params["drop_in"] is not None:
            self.unit_path += ".d/airfield.conf"
        # Not part of what the process is started from.
        self.validations = [(file["path"], file["content"], file.pop("validate")) for file in self.params["files"]]
        contents = self.params["secret_contents"]
        if sorted(contents) != sorted(file["path"] for file in self.params["secret_files"]):
            module.fail_json(msg="secret_contents must have the content of each of secret_files, and nothing else.")
        self.secret_files = [{**file, "content": contents[file["path"]]} for file in self.params["secret_files"]]
        text = self.params["unit"] or self.params["drop_in"] or ""
        self.text = text.rstrip("\n") + "\n" + REMEMBER % (self.mark_path, self.running_mark_path)
        self.diff: list[dict[str, str]] = []

    def secrets(self) -> list[str]:
        return [str(value) for value in (self.params["environment"] or {}).values()]

    def fingerprint(self) -> str:
        params = self.params
        return fingerprint(
            self.text,
            self.entry_text,
            params["environment"],
            params["files"],
            self.secret_files,
            params["inputs"],
            surroundings(params["account"], params["reads"]) if params["account"] else {},
        )

    def validate(self, mark: str) -> None:
        """Fail where a file's own check refuses it."""
        if read_text(self.mark_path) == mark + "\n":
            return
        for path, content, command in self.validations:
            there = command and all(os.path.exists(word) for word in command if word.startswith("/"))
            if not command or (self.module.check_mode and not there):
                continue
            rc, stdout, stderr = self.module.run_command(command, data=content)
            if rc:
                reason = (stderr or stdout).strip()
                self.module.fail_json(msg=f"{self.unit} was left as it is, since {path} would not do: {reason}")

    def verify(self) -> None:
        """Fail where systemd would ignore something of a unit: it says so in the journal alone, and runs without it."""
        texts = {self.unit: self.text, self.entry: self.entry_text} if self.entry_text else {self.unit: self.text}
        paths = {self.unit: self.unit_path, self.entry: "/etc/systemd/system/" + self.entry}
        if all(read_text(paths[name]) == text for name, text in texts.items()):
            return
        if self.params["drop_in"] is not None:
            texts[self.unit] = "[Service]\nExecStart=/bin/true\n" + self.text
        problems = systemd.unit_problems(self.module, texts)
        if problems:
            told = "; ".join(f"{name}: {' '.join(lines)}" for name, lines in sorted(problems.items()))
            self.module.fail_json(
                msg=f"{self.unit} was left as it is, since systemd would not do what its text says: {told} Remedy: correct the "
                f"variable that it comes from."
            )

    def write(self, mark: str) -> bool:
        """Write all files; returns whether any differed."""
        files = [{"path": self.unit_path, "content": self.text}, *self.params["files"]]
        if self.entry_text:
            files.append({"path": "/etc/systemd/system/" + self.entry, "content": self.entry_text})
        for file in files:
            self.diff += text_diff(file["path"], read_text(file["path"]), file["content"])
        files += self.secret_files
        if self.params["environment_file"]:
            path, variables = self.params["environment_file"], self.params["environment"] or {}
            self.diff += environment_file.names_diff(path, read_text(path), variables)
            files.append({"path": path, "content": environment_file.render(variables), "mode": "0600"})
        if self.params["cluster"]:
            content = json.dumps({"name": self.params["cluster"]}) + "\n"
            files.append({"path": "/var/lib/airfield/cluster.json", "content": content})
        files.append(written.record(self.record_path, files))
        # The last one: it stands for all the others.
        files.append({"path": self.mark_path, "content": mark + "\n", "mode": "0600"})
        changed = [ensure_file(self.module, **file) for file in files]
        return any(changed)

    def enable(self) -> bool:
        """Enable what is started at boot, and what its unit names by Also=; returns whether any was not."""
        texts = self.text + (self.entry_text or "")
        units = [self.entry, *re.findall(r"^Also=(\S+)$", texts, re.MULTILINE)]
        if all(systemd.show(self.module, unit)["UnitFileState"] == "enabled" for unit in units):
            return False
        if not self.module.check_mode:
            systemd.systemctl(self.module, "enable", self.entry)
        return True

    def restart(self) -> None:
        """Start with the present files what runs with others, or does not run."""
        if self.params["socket"]:
            systemd.systemctl(self.module, "stop", self.socket, self.unit)
        # Where it fails, the wait that follows says so, with the journal.
        self.module.run_command(["systemctl", "restart", self.entry])
        if self.params["first_run"]:
            # Waits until it has ended.
            self.module.run_command(["systemctl", "restart", self.unit])

    def start_reason(self, mark: str) -> str:
        """Why the service must be started or restarted; an empty string where it must not."""
        state = systemd.show(self.module, self.entry)["ActiveState"]
        if state not in ("active", "reloading"):
            return "it was %s" % (state or "unknown")
        unit = systemd.show(self.module, self.unit, ("ActiveState", "MainPID"))
        unit_state = unit["ActiveState"]
        if self.params["timer"]:
            if self.params["first_run"] and unit_state == "failed":
                return "it had failed"
            # After a boot nothing is known of the last run, and nothing need be.
            running = self.params["first_run"] and read_text(self.running_mark_path) is not None
        else:
            running = unit_state != "inactive"
        if not self.params["timer"] and systemd.is_frozen(unit.get("MainPID", "0")):
            # No wait for its health would end, and nobody can drain it.
            return FROZEN
        if running and read_text(self.running_mark_path) != mark + "\n":
            return STALE
        return FORCED if self.params["force"] else ""

    def find_problem(self) -> str:
        """Ask once whether the service works; returns an empty string, or what is wrong."""
        state = systemd.show(self.module, self.entry, ("ActiveState", "SubState", "ExecMainStartTimestampMonotonic"))
        if state["ActiveState"] != "active":
            return "{} is {} ({})".format(self.entry, state["ActiveState"], state["SubState"])
        if self.params["first_run"] and systemd.show(self.module, self.unit)["ActiveState"] == "failed":
            return f"{self.unit} has failed"
        health = self.params["health"]
        if not health:
            return ""
        try:
            with open_url(health["url"], timeout=10, use_proxy=False, http_agent="airfield") as reply:
                body = reply.read()
            age = time.monotonic() - int(state.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
            fresh = not health["component"] or heartbeat_is_fresh(body, health["component"], age)
        except Exception as error:  # whatever the network or the server does, it is not healthy yet
            return "GET {}: {}".format(health["url"], error)
        return "" if fresh else "{} names no heartbeat of this process for {} yet".format(health["url"], health["component"])

    def wait_until_healthy(self) -> None:
        timeout = self.params["health"]["timeout"] if self.params["health"] else 30
        deadline = time.monotonic() + timeout
        while True:
            problem = self.find_problem()
            if not problem:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        self.module.fail_json(
            msg=f"{self.unit} did not become healthy within {timeout} s: {problem}. Remedy: read its journal below, "
            f"`journalctl -u {self.unit}` on this host has all of it.",
            journal=systemd.journal_tail(self.module, self.unit, secrets=self.secrets()).splitlines(),
        )

    def present(self) -> None:
        mark = self.fingerprint()
        self.validate(mark)
        self.verify()
        changed = self.write(mark)
        needs_reload = systemd.show(self.module, self.unit)["NeedDaemonReload"] == "yes"
        if not self.module.check_mode and (changed or needs_reload):
            systemd.systemctl(self.module, "daemon-reload")
        changed |= self.enable()
        reason = self.start_reason(mark)
        pending = reason in (STALE, FORCED) and not self.params["restart"]
        started = bool(reason) and not pending
        if started and not self.module.check_mode:
            self.restart()
        if not pending and not self.module.check_mode:
            self.wait_until_healthy()
        self.module.exit_json(changed=changed or started, started=started, pending=pending, reason=reason, diff=self.diff)

    def absent(self) -> None:
        text = read_text(self.unit_path)
        if text is not None and not is_marked(text):
            # Somebody else's by the same name, and none of our business.
            self.module.exit_json(changed=False, started=False, pending=False, reason="", diff=[])
        state = systemd.show(self.module, self.unit)
        candidates = (
            self.unit_path,
            self.socket_path,
            self.timer_path,
            self.params["environment_file"],
            self.mark_path,
            self.running_mark_path,
            self.record_path,
        )
        paths = [path for path in candidates if path and os.path.exists(path)]
        changed = bool(paths) or state["ActiveState"] in ("active", "activating")
        if changed and not self.module.check_mode:
            if state["LoadState"] == "loaded":
                entries = {self.socket: self.socket_path, self.timer: self.timer_path}
                present = [entry for entry, path in entries.items() if path in paths]
                systemd.systemctl(self.module, "disable", "--now", *present, self.unit)
            for path in paths:
                os.unlink(path)
            systemd.systemctl(self.module, "daemon-reload")
        self.module.exit_json(changed=changed, started=False, pending=False, reason="", diff=self.diff)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "absent"], "default": "started"},
            "restart": {"type": "bool", "default": True},
            "force": {"type": "bool", "default": False},
            "unit": {"type": "str"},
            "drop_in": {"type": "str"},
            "socket": {"type": "str"},
            "timer": {"type": "str"},
            "first_run": {"type": "bool", "default": False},
            "environment_file": {"type": "path"},
            "environment": {"type": "dict", "no_log": True},
            "files": {"type": "list", "elements": "dict", "default": [], "options": VALIDATED_FILE_OPTIONS},
            "secret_files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": SECRET_FILE_OPTIONS,
                "no_log": False,
            },
            "secret_contents": {"type": "dict", "default": {}, "no_log": True},
            "inputs": {"type": "dict", "default": {}},
            "cluster": {"type": "str", "default": ""},
            "account": {"type": "str", "default": ""},
            "reads": {"type": "list", "elements": "str", "default": []},
            "health": {
                "type": "dict",
                "options": {
                    "url": {"type": "str", "required": True},
                    "component": {"type": "str"},
                    "timeout": {"type": "int", "default": 120},
                },
            },
        },
        mutually_exclusive=[("unit", "drop_in"), ("socket", "timer")],
        required_by={"environment": ("environment_file",)},
        required_if=[("state", "started", ("unit", "drop_in"), True)],
        supports_check_mode=True,
    )
    service = Service(module)
    if module.params["state"] == "absent":
        service.absent()
    service.present()


if __name__ == "__main__":
    main()
