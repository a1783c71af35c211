"""Where DAGs come from: a folder or a git repository on the controller, packed the same way whenever it is the same."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import gzip
import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.airfield.metal.plugins.module_utils.files import put_in_place, read_json

# Keys of a source that is a repository, and whether it must have them.
REPOSITORY = {"repository": True, "ref": False, "key_file": False, "subdirectory": False}
SKIPPED = ("__pycache__", ".git")
# Names and versions, as PEP 508 has them. No options, no paths, no addresses: those are for airflow_packages.
REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*"
    r"(?:\[[A-Za-z0-9._,\s-]*\])?\s*"
    r"(?:(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*(?:,\s*(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*)*)?"
    r"(?:;.*)?"
)


class SourceError(Exception):
    """A source that cannot be delivered, told with the remedy."""


def find_problems(variable: str, source: Any) -> list[str]:
    """What is wrong with the form of a source, one sentence each."""
    remedy = (
        f"Remedy: set {variable} to a folder on the controller, or to a mapping with repository, ref, key_file, subdirectory."
    )
    if isinstance(source, str):
        return []
    if not isinstance(source, Mapping):
        return [f"variable {variable} is neither a text nor a mapping. {remedy}"]
    problems = [
        f"variable {variable} has {key}, which is unknown. {remedy}" for key in sorted(map(str, set(source) - set(REPOSITORY)))
    ]
    problems += [
        f"variable {variable} has no {key}. {remedy}" for key, needed in REPOSITORY.items() if needed and not source.get(key)
    ]
    for key in sorted(set(source) & set(REPOSITORY)):
        if not isinstance(source[key], str):
            problems.append(f"variable {variable}: {key} is not a text. Remedy: quote it.")
        elif source[key].startswith("-"):
            problems.append(f"variable {variable}: {key} begins with a dash. Remedy: correct it.")
    if not problems and has_password(source["repository"]):
        problems.append(
            f"variable {variable}: the repository's address holds a password, which every user of the controller could read "
            f"while git runs. Remedy: use key_file, or a credential helper of git."
        )
    subdirectory = os.path.normpath(source.get("subdirectory") or ".") if not problems else "."
    if os.path.isabs(subdirectory) or subdirectory.split("/")[0] == "..":
        problems.append(f"variable {variable}: subdirectory leads out of the repository. Remedy: give a path inside of it.")
    return problems


def has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False


def walk(root: str) -> Iterator[str]:
    """All files and links below a folder, relative to it and in order.

    :raises SourceError: for what is neither, and for a link that leads out of the folder, which would be broken on a host.
    """
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted(files + links):
            path = os.path.join(folder, name)
            if name.endswith(".pyc") or name in SKIPPED:
                continue
            mode = os.lstat(path).st_mode
            relative = os.path.relpath(path, root)
            if stat.S_ISLNK(mode):
                target = os.path.normpath(os.path.join(os.path.dirname(relative), os.readlink(path)))
                if os.path.isabs(target) or target.split("/")[0] == "..":
                    raise SourceError(
                        f"{relative} is a link that leads out of {root}, where no host could follow it. Remedy: put what it "
                        f"points to in its place."
                    )
            elif not stat.S_ISREG(mode):
                raise SourceError(f"{relative} in {root} is neither a file nor a folder. Remedy: remove it.")
            yield relative


def content_hash(root: str) -> str:
    """A hash of names, contents and executability of all that would be packed, in twelve digits.

    :raises SourceError: as `walk`, and where there is nothing.
    """
    total = hashlib.sha256()
    empty = True
    for relative in walk(root):
        empty = False
        path = os.path.join(root, relative)
        if os.path.islink(path):
            kind, content = b"link", hashlib.sha256(os.fsencode(os.readlink(path)))
        else:
            kind, content = b"program" if os.stat(path).st_mode & 0o100 else b"file", hashlib.sha256()
            with open(path, "rb") as stream:
                for block in iter(lambda: stream.read(2**20), b""):
                    content.update(block)
        total.update(os.fsencode(relative) + b"\0" + kind + b"\0" + content.digest())
    if empty:
        raise SourceError(f"{root} holds no file. Remedy: see that it is the right folder.")
    return total.hexdigest()[:12]


def read_mark(path: str) -> tuple[dict[str, Any], str]:
    """What is known of a revision on a host, and what is wrong with that; empty and nothing where it is not complete."""
    mark, problem = read_json(path, ("requirements",))
    if mark and not all(isinstance(mark.get(name, []), list) for name in ("checked", "requirements")):
        return {}, f"{path} is broken."
    return mark, problem


def write_archive(root: str, archive: str) -> None:
    """Pack a folder; the same content gives the same bytes."""

    def level(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = 0
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    temporary = f"{archive}.{os.getpid()}"
    try:
        with (
            open(temporary, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream,
            gzip.GzipFile("", "wb", 6, stream, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for relative in walk(root):
                tar.add(os.path.join(root, relative), relative, recursive=False, filter=level)
        # A run that is killed on the way, or a power cut, must not leave half of it under this name.
        put_in_place(temporary, archive)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def read_requirements(root: str, name: str, variable: str) -> list[str]:
    """The packages that a file in a tree names, sorted, so that comments and order do not count.

    :arg variable: what names the file, for messages.
    :raises SourceError: where there is no such file, or a line is not a plain requirement.
    """
    path = os.path.normpath(os.path.join(root, name))
    if not path.startswith(root.rstrip("/") + "/") or not os.path.isfile(path):
        raise SourceError(
            f"variable {variable}: there is no file {name} among the DAGs. Remedy: put it there, or correct the name, which is "
            f"relative to the DAGs' folder."
        )
    with open(path, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    found = set()
    for number, line in enumerate(lines, 1):
        requirement = re.sub(r"(^|\s)#.*", "", line).strip()
        if requirement and not REQUIREMENT.fullmatch(requirement):
            raise SourceError(
                f"{name}, line {number}: {requirement!r} is not a package with its version, such as pandas==2.3.3. Remedy: "
                f"correct it; an index of your own belongs into airflow_index_url, all else into airflow_packages."
            )
        if requirement:
            found.add(" ".join(requirement.split()))
    return sorted(found)


def pick_commit(listing: str, ref: str) -> str:
    """The commit of a branch or a tag in what `git ls-remote` says; empty where it has none. A tag wins, as git has it."""
    commits = {name: commit for commit, name in (line.split("\t", 1) for line in listing.splitlines() if "\t" in line)}
    for name in (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}", ref):
        if name in commits:
            return commits[name]
    return ""
