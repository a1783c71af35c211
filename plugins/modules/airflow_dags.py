#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_dags
short_description: Pack, stage, check and switch revisions of DAGs
version_added: "0.1.0"
description:
  - A revision is a tree of files in C(<revision>) below O(root), with the mark C(<revision>.complete) beside it. It is named by
    its content or by its commit, so it never changes. It is root's, and those in O(group) can read it.
  - It is packed once on the controller, staged on every host, checked on one, and made current by one step on each.
options:
  state:
    description:
      - V(packed) packs O(source) into a file below O(cache); it runs on the controller.
      - V(staged) unpacks O(archive) and removes that file.
      - V(checked) lets the release's Airflow import the staged revision, as O(account) and without a database. It needs the
        release's Python (set C(ansible_python_interpreter)).
      - V(current) points C(current) to the revision, and removes old ones that no process uses.
      - V(absent) removes C(current) and the revisions that no process uses, from a host that needs none any more. What is
        below O(root) by hand stays.
    type: str
    choices: [packed, staged, checked, current, absent]
    required: true
  source:
    description:
      - For V(packed), a folder, or a mapping with C(repository), C(ref), C(key_file) and C(subdirectory).
      - C(__pycache__), C(.git) and C(*.pyc) are left out.
    type: raw
  variable:
    description: Variable of the inventory that gives O(source), for messages.
    type: str
    default: airflow_dags_source
  packages:
    description: Name of a file in the tree that names Python packages; empty, there is none.
    type: str
    default: ""
  cache:
    description: Folder on the controller for archives. Those that no run has used for 30 days are removed from it.
    type: path
  revision:
    description: Name of the revision; for V(packed) only where it has one already.
    type: str
  root:
    description: Folder of the revisions.
    type: path
    default: /opt/airflow/dags
  archive:
    description: The packed revision.
    type: path
  group:
    description: Group that may read the revision.
    type: str
    default: airflow
  requirements:
    description: Python packages that the revision needs, kept with it for hosts that get it later.
    type: list
    elements: str
    default: []
  release:
    description: Release by which the revision is checked. The result is kept, and not asked for again.
    type: str
  keep:
    description: How many revisions to keep beside the current one.
    type: int
    default: 5
  account:
    description: Account of the Airflow processes.
    type: str
    default: airflow
  config:
    description: The file airflow.cfg.
    type: path
    default: /etc/airflow/airflow.cfg
attributes:
  check_mode:
    support: full
    description: Reports what would be done; V(packed) reads the source and writes nothing, V(checked) finds nothing.
  diff_mode:
    support: partial
    description: Shows which revision C(current) points to.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Pack the DAGs of a tag
  airfield.metal.airflow_dags:
    state: packed
    source: {repository: "git@git.example.org:team/dags.git", ref: v12, key_file: /home/ops/.ssh/deploy, subdirectory: dags}
    cache: /var/tmp/airfield
  delegate_to: localhost
  register: packed

- name: Make them current
  airfield.metal.airflow_dags:
    state: current
    revision: "{{ packed.revision }}"
"""

RETURN = r"""
archive:
  description: The packed revision.
  returned: with O(state=packed)
  type: str
errors:
  description: What went wrong with each file that could not be imported.
  returned: with O(state=checked)
  type: dict
  sample: {sales.py: "ModuleNotFoundError: No module named 'pandas'"}
removed:
  description: Revisions that were removed.
  returned: with O(state=current) and O(state=absent)
  type: list
  elements: str
requirements:
  description: Python packages that the tree's file O(packages) names.
  returned: with O(state=packed)
  type: list
  elements: str
revision:
  description: Name of the revision.
  returned: always
  type: str
set_aside:
  description: Where a folder C(current) is now that was filled by hand; empty where there was none.
  returned: with O(state=current)
  type: str
unknown:
  description: Files that want a variable or a connection of Airflow's while they are imported, which only the database has.
  returned: with O(state=checked)
  type: dict
"""

import fcntl
import glob
import grp
import gzip
import json
import os
import re
import shlex
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.validation import check_type_path
from ansible_collections.airfield.metal.plugins.module_utils import dag_source
from ansible_collections.airfield.metal.plugins.module_utils.files import ensure_file, ensure_folder, sync
from ansible_collections.airfield.metal.plugins.module_utils.service_account import call_as

# What an import says that asked for something which is only in the database.
NEEDS_DATABASE = re.compile(
    r"VARIABLE_NOT_FOUND|CONNECTION_NOT_FOUND|AirflowNotFoundException|no such table: |SUPERVISOR_COMMS"
    # Airflow 2.
    r"|KeyError: .Variable .+ does not exist"
)
# Long enough for every run that may still upload one.
ARCHIVE_DAYS = 30


class Git:
    """Git on the controller, for one source."""

    def __init__(self, module: AnsibleModule, source: dict[str, str]) -> None:
        self.module = module
        self.url = source["repository"]
        self.ref = source.get("ref") or "HEAD"
        self.subdirectory = os.path.normpath(source.get("subdirectory") or ".")
        ssh = ["ssh", "-o", "BatchMode=yes"]
        if source.get("key_file"):
            ssh += ["-i", check_type_path(source["key_file"]), "-o", "IdentitiesOnly=yes"]
        self.environment = {"GIT_SSH_COMMAND": shlex.join(ssh), "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}

    def run(self, *arguments: str) -> str:
        git = self.module.get_bin_path("git")
        if git is None:
            raise dag_source.SourceError("git is not installed on the controller. Remedy: install it.")
        rc, stdout, stderr = self.module.run_command([git, *arguments], environ_update=self.environment)
        if rc:
            raise dag_source.SourceError(
                f"git cannot get {self.ref} of {self.url}: {stderr.strip()} Remedy: see that repository, ref and key_file are "
                f"right, and that this controller may read the repository."
            )
        return stdout

    def commit(self) -> str:
        """The commit that is meant."""
        if re.fullmatch("[0-9a-f]{40}", self.ref):
            return self.ref
        commit = dag_source.pick_commit(self.run("ls-remote", self.url, self.ref, f"refs/tags/{self.ref}^{{}}"), self.ref)
        if not commit:
            raise dag_source.SourceError(
                f"the repository {self.url} has no branch or tag {self.ref}. Remedy: correct ref, or push it; a commit needs "
                f"all its 40 digits."
            )
        return commit

    def revision(self, commit: str) -> str:
        """Name of the revision: the commit, and the folder of it that is meant."""
        suffix = "" if self.subdirectory == "." else "-" + re.sub("[^A-Za-z0-9]+", "-", self.subdirectory).strip("-")
        return commit[:12] + suffix

    def export(self, commit: str, folder: str) -> str:
        """Put the tree of the commit into a folder; returns where its files are."""
        repository, tree = os.path.join(folder, "repository"), os.path.join(folder, "tree")
        self.run("init", "--quiet", "--bare", repository)
        here = ("--git-dir", repository)
        try:
            self.run(*here, "fetch", "--quiet", "--depth=1", self.url, f"+{self.ref}:refs/airfield/wanted")
            if self.run(*here, "rev-parse", "refs/airfield/wanted^{commit}").strip() != commit:
                raise dag_source.SourceError(f"{self.ref} of {self.url} has just moved on. Remedy: run this again.")
        except dag_source.SourceError:
            if self.ref != commit:
                raise
            # Not every server gives a commit by its digits.
            self.run(*here, "fetch", "--quiet", self.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        os.mkdir(tree)
        self.run(*here, "--work-tree", tree, "checkout", "--quiet", "--force", commit, "--", ".")
        path = os.path.join(tree, self.subdirectory)
        if not os.path.isdir(path):
            raise dag_source.SourceError(
                f"{self.ref} of {self.url} has no folder {self.subdirectory}. Remedy: correct subdirectory."
            )
        return os.path.normpath(path)


def pack(module: AnsibleModule) -> dict[str, Any]:
    """Pack the source, unless it is packed already."""
    params = module.params
    source = params["source"]
    problems = dag_source.find_problems(params["variable"], source)
    if problems:
        raise dag_source.SourceError(" ".join(problems))
    with tempfile.TemporaryDirectory(prefix="airfield-") as scratch:
        if isinstance(source, str):
            root = os.path.abspath(check_type_path(source))
            if not os.path.isdir(root):
                raise dag_source.SourceError(
                    f"variable {params['variable']}: {root} is no folder on the controller. Remedy: correct the path; a "
                    f"relative one begins where ansible-playbook is started, inventory_dir is the inventory's folder."
                )
            revision = params["revision"] or dag_source.content_hash(root)
        else:
            git = Git(module, source)
            commit = git.commit()
            revision = git.revision(commit)
        folder = params["cache"]
        archive = os.path.join(folder, revision + ".tar.gz")
        exists = is_whole(archive)
        if not isinstance(source, str):
            if exists:
                root = unpack(archive, os.path.join(scratch, "archive"))
            else:
                root = git.export(commit, scratch)
                dag_source.content_hash(root)  # an empty one is refused
        requirements = (
            dag_source.read_requirements(root, params["packages"], "airflow_dags_packages") if params["packages"] else []
        )
        if not module.check_mode:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            if exists:
                os.utime(archive)
            else:
                dag_source.write_archive(root, archive)
            forget_archives(folder)
    return {"changed": not exists, "revision": revision, "archive": archive, "requirements": requirements}


def is_whole(archive: str) -> bool:
    """Whether there is an archive that can be read to its end. One that cannot is packed anew."""
    try:
        with gzip.open(archive) as packed, tarfile.open(fileobj=packed) as tar:
            members = tar.getmembers()
            # Only the end of a gzip file says whether all of it is right.
            while packed.read(2**20):
                pass
            return bool(members)
    except (OSError, EOFError, tarfile.TarError, zlib.error):
        return False


def forget_archives(folder: str) -> None:
    """Remove what no run has used for long; it can be packed again."""
    for path in glob.glob(folder + "/*.tar.gz*"):
        if os.path.getmtime(path) < time.time() - ARCHIVE_DAYS * 86400:
            os.unlink(path)


def unpack(archive: str, path: str) -> str:
    """Unpack an archive into a new folder; returns the folder."""
    os.mkdir(path)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(path, filter="data")
        else:  # Python before 3.11.4; the archive is one that this module has written
            tar.extractall(path)  # noqa: S202
    return path


def entries(path: str) -> list[str]:
    """A folder and all below it."""
    found = [path]
    for folder, folders, files in os.walk(path):
        found += [os.path.join(folder, name) for name in folders + files]
    return found


def close_to_others(path: str, group: int) -> None:
    """Give a tree to root and let a group read it."""
    for entry in entries(path):
        os.lchown(entry, os.geteuid(), group)
        if not os.path.islink(entry):
            program = os.path.isdir(entry) or os.stat(entry).st_mode & 0o100
            os.chmod(entry, 0o750 if program else 0o640)


class Revision:
    """One revision on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.root = self.params["root"]
        self.path = os.path.join(self.root, self.params["revision"] or "")
        self.mark = self.path + ".complete"

    def read_mark(self) -> dict[str, Any]:
        """What is known of the revision; empty where it is not complete."""
        return dag_source.read_mark(self.mark)[0]

    def write_mark(self, content: dict[str, Any]) -> None:
        ensure_file(self.module, self.mark, json.dumps(content, sort_keys=True) + "\n")

    def stage(self) -> dict[str, Any]:
        known = self.read_mark()
        if known.get("requirements") == self.params["requirements"]:
            return {"changed": False}
        if not self.module.check_mode:
            # There is a mark only beside all files, also where it is broken.
            is_current = os.path.realpath(os.path.join(self.root, "current")) == os.path.realpath(self.path)
            if not os.path.isdir(self.path) or not (is_current or os.path.exists(self.mark)):
                self.unpack()
            self.write_mark({"checked": known.get("checked", []), "requirements": self.params["requirements"]})
            os.unlink(self.params["archive"])
        return {"changed": True}

    def unpack(self) -> None:
        try:
            group = grp.getgrnam(self.params["group"]).gr_gid
        except KeyError:
            self.module.fail_json(msg=f"There is no group {self.params['group']} on this host. Remedy: run site.yml first.")
        ensure_folder(self.module, self.root)
        partial = self.path + ".partial"
        for leftover in (partial, self.path):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            unpack(self.params["archive"], partial)
        except (EOFError, tarfile.TarError, zlib.error) as error:
            name = os.path.basename(self.path) + ".tar.gz"
            self.module.fail_json(
                msg=f"{self.params['archive']} is damaged ({error}). Remedy: remove {name} from airflow_release_cache on the "
                f"controller, and run this again: it is packed anew."
            )
        close_to_others(partial, group)
        os.rename(partial, self.path)
        os.sync()  # a power cut must not leave the mark and take the files

    def check(self) -> dict[str, Any]:
        known = self.read_mark()
        release = self.params["release"]
        nothing: dict[str, Any] = {"errors": {}, "unknown": {}}
        if release in known.get("checked", []) or self.module.check_mode:
            return {"changed": False, **nothing}
        with tempfile.TemporaryDirectory() as logs:
            shutil.chown(logs, self.params["account"])
            # No secret and no database: what is delivered is not yet to be trusted.
            environment = {
                "AIRFLOW_CONFIG": self.params["config"],
                "AIRFLOW_HOME": "/var/lib/airflow",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
                # Airflow 2 makes the folder when it is imported, and /var/log/airflow is there only once a unit has run.
                "AIRFLOW__SCHEDULER__CHILD_PROCESS_LOG_DIRECTORY": logs,
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            found = self.import_errors(environment)
        errors = {file: text for file, text in found.items() if not NEEDS_DATABASE.search(text)}
        if not errors:
            self.write_mark({**known, "checked": [*known.get("checked", []), release]})
        return {
            "changed": False,
            "errors": {file: last_words(text) for file, text in errors.items()},
            "unknown": {file: last_words(text) for file, text in found.items() if file not in errors},
        }

    def import_errors(self, environment: Mapping[str, str]) -> dict[str, str]:
        try:
            found: dict[str, str] = call_as(self.params["account"], environment, import_errors, self.path)
        except RuntimeError as error:
            self.module.fail_json(
                msg=f"The DAGs of revision {self.params['revision']} could not be checked: {error} Remedy: see whether a file "
                f"of them ends the process that imports it."
            )
        return found

    def switch(self) -> dict[str, Any]:
        link = os.path.join(self.root, "current")
        before = os.readlink(link) if os.path.islink(link) else ""
        after = self.params["revision"]
        if before == after:
            return {"changed": False, "diff": {}, "removed": [], "set_aside": ""}
        by_hand = not before and os.path.isdir(link) and bool(os.listdir(link))
        set_aside = self.free_name("by-hand") if by_hand else ""
        if not self.module.check_mode:
            if not os.path.exists(self.mark):
                self.module.fail_json(
                    msg=f"{self.path} is not complete, so it was not made current. Remedy: run deploy_dags.yml."
                )
            # The DAG processor parses at once what is younger than its last look.
            for path in entries(self.path):
                os.utime(path, follow_symlinks=False)
            os.utime(self.mark)
            temporary = link + ".new"
            if os.path.lexists(temporary):
                os.unlink(temporary)
            os.symlink(after, temporary)
            if set_aside:
                os.rename(link, set_aside)
            elif not before and os.path.isdir(link):
                os.rmdir(link)
            os.rename(temporary, link)
            sync(self.root)
        return {
            "changed": True,
            "diff": {"before": f"{link} -> {before}\n", "after": f"{link} -> {after}\n"},
            "removed": self.prune(self.params["keep"]),
            "set_aside": set_aside,
        }

    def take_off(self) -> dict[str, Any]:
        link = os.path.join(self.root, "current")
        before = os.readlink(link) if os.path.islink(link) else ""
        if before and not self.module.check_mode:
            os.unlink(link)
        removed = self.prune(0)
        diff = {"before": f"{link} -> {before}\n", "after": ""} if before else {}
        return {"changed": bool(before or removed), "diff": diff, "removed": removed}

    def free_name(self, name: str) -> str:
        """A path below the root that nothing has."""
        path, number = os.path.join(self.root, name), 1
        while os.path.lexists(path):
            number += 1
            path = os.path.join(self.root, f"{name}-{number}")
        return path

    def prune(self, keep: int) -> list[str]:
        """Remove the revisions that were current longest ago, and what killed runs left; never one that a process uses."""
        marks = sorted(glob.glob(self.root + "/*.complete"), key=os.path.getmtime, reverse=True)
        old = [mark.removesuffix(".complete") for mark in marks if mark != self.mark][keep:]
        removed = []
        for path in old:
            if self.remove(path):
                removed.append(os.path.basename(path))
        if not self.module.check_mode:
            for leftover in glob.glob(self.root + "/*.partial"):
                shutil.rmtree(leftover)
        return sorted(removed)

    def remove(self, path: str) -> bool:
        """Remove a revision; returns False where a process holds it (airfield_bundle.py)."""
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            handle = -1
        try:
            if handle >= 0:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.module.check_mode:
                os.unlink(path + ".complete")
                shutil.rmtree(path, ignore_errors=handle < 0)
        except BlockingIOError:
            return False
        finally:
            if handle >= 0:
                os.close(handle)
        return True


def last_words(text: str) -> str:
    """The line of a traceback that says what is wrong, with the place that Python names before it for wrong syntax."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""


def import_errors(path: str) -> dict[str, str]:
    """What goes wrong with each file of a folder of DAGs. From here on Airflow is there, with its environment."""
    from pathlib import Path

    try:
        from airflow.dag_processing.dagbag import BundleDagBag
    except ImportError:  # Airflow 2, which has no bundles
        import sys

        from airflow import settings
        from airflow.models.dagbag import DagBag

        # What is beside a file comes from this revision, and not from the one that is current.
        sys.path[:] = [place for place in sys.path if place != settings.DAGS_FOLDER] + [path]
        bag = DagBag(dag_folder=path, include_examples=False)
    else:
        bag = BundleDagBag(dag_folder=path, bundle_path=Path(path), bundle_name="dags-folder")
    return {str(file): str(text) for file, text in bag.import_errors.items()}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["packed", "staged", "checked", "current", "absent"], "required": True},
            "source": {"type": "raw"},
            "variable": {"type": "str", "default": "airflow_dags_source"},
            "packages": {"type": "str", "default": ""},
            "cache": {"type": "path"},
            "revision": {"type": "str"},
            "root": {"type": "path", "default": "/opt/airflow/dags"},
            "archive": {"type": "path"},
            "group": {"type": "str", "default": "airflow"},
            "requirements": {"type": "list", "elements": "str", "default": []},
            "release": {"type": "str"},
            "keep": {"type": "int", "default": 5},
            "account": {"type": "str", "default": "airflow"},
            "config": {"type": "path", "default": "/etc/airflow/airflow.cfg"},
        },
        required_if=[
            ("state", "packed", ("source", "cache")),
            ("state", "staged", ("revision", "archive")),
            ("state", "checked", ("revision", "release")),
            ("state", "current", ("revision",)),
        ],
        supports_check_mode=True,
    )
    os.umask(0o022)
    if module.params["state"] == "packed":
        try:
            module.exit_json(**pack(module))
        except dag_source.SourceError as error:
            module.fail_json(msg=f"{error}")
    revision = Revision(module)
    work = {
        "staged": revision.stage,
        "checked": revision.check,
        "current": revision.switch,
        "absent": revision.take_off,
    }
    module.exit_json(revision=module.params["revision"], **work[module.params["state"]]())


if __name__ == "__main__":
    main()
