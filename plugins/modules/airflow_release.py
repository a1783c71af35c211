#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_release
short_description: Build, ship, unpack and switch releases of Airflow
version_added: "0.1.0"
description:
  - A release is a Python virtual environment in C(releases/<id>) below O(base). Its id is a hash of what it is built from,
    so a release never changes. It is owned by root, read-only for the service's user, byte-compiled, and counts only with
    its C(.complete) mark.
  - It is built once, packed, and unpacked on the other hosts, which therefore run the same files.
options:
  id:
    description: Name of the release.
    type: str
    required: true
  state:
    description:
      - V(built) builds it with uv from O(requirements) under O(lock), checks that it is consistent and that Airflow and its
        Celery commands start, and describes it in C(airfield.json).
      - V(packed) packs it into O(archive).
      - V(unpacked) unpacks O(archive) and removes that file.
      - V(current) points C(current) to it and removes releases that nothing needs any more.
    type: str
    choices: [built, packed, unpacked, current]
    required: true
  base:
    description: Directory of the releases.
    type: path
    default: /opt/airflow
  archive:
    description: The packed release, readable by everybody. It has the form of a Debian package, because C(dpkg-deb) is on every
      host and uses zstd, which costs a third of what gzip does.
    type: path
  lock:
    description: Constraints with hashes, in pip's format. It pins uv as well.
    type: path
  requirements:
    description: What to install, in pip's format.
    type: list
    elements: str
  describe:
    description: Script that prints the description of a release, run by the release's Python.
    type: path
  environment:
    description: Environment variables for pip and uv, such as their index, proxy and CA file. May hold passwords.
    type: dict
    default: {}
  cache:
    description: Cache directory of uv. Without it, nothing is kept.
    type: path
  keep:
    description: How many releases to keep beside the current one, for a way back.
    type: int
    default: 2
  transit:
    description: Pattern of the files by which the release came to the host; V(current) removes them first.
    type: path
attributes:
  check_mode:
    support: full
    description: Reports what would be done.
  diff_mode:
    support: partial
    description: Shows which release C(current) points to.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Build the release
  airfield.metal.airflow_release:
    id: 3.3.2-0a1b2c3d4e5f
    state: built
    lock: /root/airflow-3.3.2-python3.11.lock
    requirements: ["apache-airflow[celery,postgres]==3.3.2"]
    describe: /root/describe_release.py

- name: Switch to the release
  airfield.metal.airflow_release:
    id: 3.3.2-0a1b2c3d4e5f
    state: current
"""

RETURN = r"""
path:
  description: Directory of the release.
  returned: always
  type: str
removed:
  description: Releases that were removed.
  returned: with O(state=current)
  type: list
  elements: str
"""

import glob
import os
import re
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils.files import put_in_place, sync

# dpkg-deb insists on it; nobody installs the package.
CONTROL = """Package: airflow-release
Version: 1
Architecture: all
Maintainer: The Airfield developers <airfield@example.org>
Description: Release of Airflow on its way between hosts
"""


def releases_in_use(base: str, proc: str = "/proc") -> set[str]:
    """Releases that a running process has files of in its memory, such as a task that outlives a switch."""
    prefix = base + "/releases/"
    used: set[str] = set()
    for path in glob.glob(proc + "/[0-9]*/maps"):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                used.update(line.split(prefix, 1)[1].split("/", 1)[0] for line in stream if prefix in line)
        except OSError:
            continue  # the process has ended
    return used


class Release:
    """One release on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.base = self.params["base"]
        self.path = os.path.join(self.base, "releases", self.params["id"])
        self.mark = os.path.join(self.path, ".complete")

    def run(self, *command: str, **environment: str) -> str:
        """Run a command with the caller's environment variables; fails the module where it fails."""
        variables = {name: str(value) for name, value in self.params["environment"].items()}
        variables.update(environment)
        rc, stdout, stderr = self.module.run_command(list(command), check_rc=True, environ_update=variables)
        return stdout

    def write(self, name: str, text: str) -> None:
        with open(os.path.join(self.path, name), "w", encoding="utf-8") as stream:
            stream.write(text)

    def complete(self) -> None:
        self.write(".complete", "")
        sync(self.path)
        os.chmod(self.path, 0o755)  # noqa: S103 - read by the services' user, who is another

    def install_uv(self, folder: str) -> str:
        """uv at the version and hash of the lock, in a folder of its own; returns the program."""
        # pip, unlike uv, takes no hashes from constraints.
        with open(self.params["lock"], encoding="utf-8") as stream:
            pins = re.findall(r"^uv==(?:.*\\\n)*.*", stream.read(), re.MULTILINE)
        if not pins:
            self.module.fail_json(
                msg="The lock {} does not pin uv, which builds the release. Remedy: add uv to what it is made of.".format(
                    self.params["lock"]
                )
            )
        os.makedirs(folder)
        requirements = os.path.join(folder, "uv.txt")
        with open(requirements, "w", encoding="utf-8") as stream:
            stream.write(pins[0])
        # Debian's wheel of pip runs as it is; a virtual environment for it would cost as much again.
        wheels = glob.glob("/usr/share/python-wheels/pip-*.whl")
        pip = ["/usr/bin/python3", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]
        self.run(*pip, "--target", folder, "--requirement", requirements, PYTHONPATH=os.pathsep.join(wheels))
        return os.path.join(folder, "bin/uv")

    def build(self) -> bool:
        if os.path.exists(self.mark):
            return False
        if self.module.check_mode:
            return True
        shutil.rmtree(self.path, ignore_errors=True)  # what a killed build left
        with tempfile.TemporaryDirectory(prefix="airfield-") as folder:
            uv = self.install_uv(os.path.join(folder, "uv"))
            settings = {
                "UV_CACHE_DIR": self.params["cache"] or os.path.join(folder, "cache"),
                "UV_LINK_MODE": "copy",
                "UV_SYSTEM_CERTS": "true",  # as pip does: what the host trusts
            }
            python = os.path.join(self.path, "bin/python")
            self.run(uv, "venv", "--quiet", "--python", "/usr/bin/python3", self.path, **settings)
            install = [uv, "pip", "install", "--quiet", "--python", python, "--compile-bytecode"]
            # The second is for what a package is built with that comes as source alone.
            pins = ["--constraint", self.params["lock"], "--build-constraint", self.params["lock"]]
            self.run(*install, *pins, *self.params["requirements"], **settings)
            self.run(uv, "pip", "check", "--python", python, **settings)
            self.write("requirements.txt", self.run(uv, "pip", "freeze", "--quiet", "--python", python, **settings))
            os.unlink(os.path.join(self.path, ".lock"))  # uv's own, writable by everybody
            # A consistent environment can still be one in which Airflow does not start: only starting it tells.
            home = {"AIRFLOW_HOME": os.path.join(folder, "home"), "PYTHONDONTWRITEBYTECODE": "1"}
            self.write("airfield.json", self.run(python, self.params["describe"], **home))
        os.sync()  # a power cut must not leave the mark and take the files
        self.complete()
        return True

    def pack(self) -> bool:
        archive = self.params["archive"]
        if os.path.exists(archive):
            return False
        if not self.module.check_mode:
            os.makedirs(os.path.dirname(archive), mode=0o755, exist_ok=True)
            partial, control = archive + ".partial", os.path.join(self.path, "DEBIAN")
            os.makedirs(control, mode=0o755, exist_ok=True)
            try:
                self.write("DEBIAN/control", CONTROL)
                self.run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", self.path, partial)
            finally:
                shutil.rmtree(control)
            os.chmod(partial, 0o644)
            put_in_place(partial, archive)
        return True

    def unpack(self) -> bool:
        if os.path.exists(self.mark):
            return False
        if not self.module.check_mode:
            # The archive holds the mark as well: under its own name the release must appear as a whole.
            partial = os.path.join(os.path.dirname(self.path), ".partial")
            for leftover in (partial, self.path):
                shutil.rmtree(leftover, ignore_errors=True)
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            self.extract(partial)
            os.sync()  # the mark is among the files
            os.rename(partial, self.path)
            self.complete()
            sync(os.path.dirname(self.path))
            os.unlink(self.params["archive"])
        return True

    def extract(self, folder: str) -> None:
        archive = self.params["archive"]
        rc, stdout, stderr = self.module.run_command(["dpkg-deb", "--extract", archive, folder])
        if rc:
            self.module.fail_json(
                msg=f"{archive} could not be unpacked: {stderr.strip()} Remedy: make room where the disk is full; otherwise "
                f"remove {self.params['id']}.deb from airflow_release_cache on the controller, and run this again: it is made "
                f"anew."
            )

    def switch(self) -> tuple[bool, dict[str, str]]:
        link = os.path.join(self.base, "current")
        before = os.readlink(link) if os.path.islink(link) else ""
        after = os.path.join("releases", self.params["id"])
        if before == after:
            return False, {}
        if not self.module.check_mode:
            if not os.path.exists(self.mark):
                self.module.fail_json(
                    msg=f"{self.path} is not complete, so it was not made current. Remedy: build or unpack it first."
                )
            for path in glob.glob(self.params["transit"] or ""):
                if os.path.isdir(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
            temporary = link + ".new"
            if os.path.lexists(temporary):
                os.unlink(temporary)
            os.symlink(after, temporary)
            os.rename(temporary, link)
            sync(self.base)
        return True, {"before": f"current -> {before}\n", "after": f"current -> {after}\n"}

    def prune(self) -> list[str]:
        """Remove the oldest releases beyond those to keep, and what killed builds left; never one in use."""
        folder = self.base + "/releases"
        marks = sorted(glob.glob(folder + "/*/.complete"), key=os.path.getmtime, reverse=True)
        names = [mark.split("/")[-2] for mark in marks if mark != self.mark]
        needed = {self.params["id"]} | set(names[: self.params["keep"]]) | releases_in_use(self.base)
        removed = sorted(set(os.listdir(folder) if os.path.isdir(folder) else ()) - needed)
        if not self.module.check_mode:
            for name in removed:
                shutil.rmtree(os.path.join(self.base, "releases", name))
        return removed


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "id": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["built", "packed", "unpacked", "current"], "required": True},
            "base": {"type": "path", "default": "/opt/airflow"},
            "archive": {"type": "path"},
            "lock": {"type": "path"},
            "requirements": {"type": "list", "elements": "str"},
            "describe": {"type": "path"},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "cache": {"type": "path"},
            "keep": {"type": "int", "default": 2},
            "transit": {"type": "path"},
        },
        required_if=[
            ("state", "built", ("lock", "requirements", "describe")),
            ("state", "packed", ("archive",)),
            ("state", "unpacked", ("archive",)),
        ],
        supports_check_mode=True,
    )
    os.umask(0o022)
    release = Release(module)
    result = {"changed": False, "path": release.path}
    state = module.params["state"]
    if state == "built":
        result["changed"] = release.build()
    elif state == "packed":
        result["changed"] = release.pack()
    elif state == "unpacked":
        result["changed"] = release.unpack()
    else:
        result["changed"], result["diff"] = release.switch()
        result["removed"] = release.prune() if result["changed"] else []
    module.exit_json(**result)


if __name__ == "__main__":
    main()
