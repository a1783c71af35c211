from __future__ import annotations

import fcntl
import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.modules import airflow_dags

RunModule = Callable[..., dict[str, Any]]
Tree = Callable[[Path], Any]
GROUP = grp.getgrgid(os.getgid()).gr_name
ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
RELEASE = "3.3.2-a"
# The commands of git as an author would use it, whatever is configured on this machine.
GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# Packed -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pack(run_module: RunModule, tmp_path: Path) -> RunModule:
    def pack(source: Any, **arguments: Any) -> dict[str, Any]:
        return run_module(airflow_dags, state="packed", source=source, cache=str(tmp_path / "cache"), **arguments)

    return pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "source", a_py="a", team__b_py="b", requirements_txt="# Ours\npandas==2.3.3\n")


def test_folder_is_packed_once(pack: RunModule, folder: Path) -> None:
    first = pack(str(folder), packages="requirements.txt")
    assert (first["changed"], first["requirements"]) == (True, ["pandas==2.3.3"])
    assert Path(first["archive"]).name == first["revision"] + ".tar.gz"
    assert pack(str(folder), packages="requirements.txt") == {**first, "changed": False}
    write(folder, a_py="A")
    assert pack(str(folder))["revision"] != first["revision"]


def test_archive_that_was_not_used_for_a_month_is_removed(pack: RunModule, folder: Path, tmp_path: Path) -> None:
    used, unused = (pack(str(write(folder, a_py=text)))["archive"] for text in ("used", "unused"))
    for archive in (used, unused):
        os.utime(archive, (0, 0))
    write(folder, a_py="used")
    assert pack(str(folder), check=True)["archive"] == used
    assert Path(unused).exists()
    assert pack(str(folder))["archive"] == used
    assert [str(path) for path in (tmp_path / "cache").iterdir()] == [used]


def test_nothing_is_written_in_check_mode(pack: RunModule, folder: Path, tmp_path: Path, tree: Tree) -> None:
    before = tree(tmp_path)
    told = pack(str(folder), packages="requirements.txt", check=True)
    assert tree(tmp_path) == before
    assert told == pack(str(folder), packages="requirements.txt")


def test_revision_that_has_a_name_keeps_it(pack: RunModule, folder: Path) -> None:
    result = pack(str(folder), revision="0a1b2c")
    assert result["revision"] == "0a1b2c"
    assert Path(result["archive"]).name == "0a1b2c.tar.gz"


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("/nonexistent", {}, "variable airflow_x: /nonexistent is no folder on the controller. Remedy: "),
        ({"repository": ""}, {}, "variable airflow_x has no repository. Remedy: "),
        ("source", {"packages": "other.txt"}, "variable airflow_dags_packages: there is no file other.txt"),
    ],
)
def test_bad_source_is_told(
    pack: RunModule, folder: Path, source: Any, arguments: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    result = pack(source, variable="airflow_x", **arguments)
    assert result["failed"]
    assert result["msg"].startswith(message)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with DAGs in a folder, the tag v1, and a later commit on main."""
    work = write(tmp_path / "work", dags__a_py="1", README_md="no DAG")

    def git(*arguments: str) -> None:
        subprocess.run([*GIT, *arguments], cwd=work, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    git("tag", "-a", "v1", "-m", "one")
    write(work, dags__a_py="2")
    git("commit", "-a", "-m", "two")
    bare = tmp_path / "dags.git"
    git("clone", "--bare", ".", str(bare))
    return bare


def commit(repository: Path, ref: str) -> str:
    command = ["git", "--git-dir", str(repository), "rev-parse", ref + "^{commit}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def packed_files(archive: str, tmp_path: Path) -> dict[str, str]:
    target = tmp_path / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    airflow_dags.unpack(archive, str(target))
    return {str(path.relative_to(target)): path.read_text() for path in sorted(target.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("ref", ["v1", "main", "HEAD", "", "commit"])
def test_repository_is_packed_at_its_ref(pack: RunModule, repository: Path, ref: str, tmp_path: Path) -> None:
    wanted = commit(repository, {"": "HEAD", "commit": "v1"}.get(ref, ref))
    source = {"repository": f"file://{repository}", "ref": wanted if ref == "commit" else ref}
    result = pack(source)
    assert (result["changed"], result["revision"]) == (True, wanted[:12])
    content = "1" if ref in ("v1", "commit") else "2"
    assert packed_files(result["archive"], tmp_path) == {"README.md": "no DAG", "dags/a.py": content}
    assert pack(source) == {**result, "changed": False}


def test_commit_comes_from_a_server_that_gives_none_by_its_digits(
    pack: RunModule, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"COUNT": "1", "KEY_0": "protocol.version", "VALUE_0": "0"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    result = pack({"repository": f"file://{repository}", "ref": commit(repository, "v1")})
    assert packed_files(result["archive"], tmp_path) == {"README.md": "no DAG", "dags/a.py": "1"}


def test_branch_that_moves_meanwhile_is_told(pack: RunModule, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = commit(repository, "v1")
    monkeypatch.setattr(airflow_dags.Git, "commit", lambda git: before)
    result = pack({"repository": f"file://{repository}", "ref": "main"})
    assert result["msg"] == f"main of file://{repository} has just moved on. Remedy: run this again."


def test_folder_of_a_repository_has_a_name_of_its_own(pack: RunModule, repository: Path, tmp_path: Path) -> None:
    result = pack({"repository": f"file://{repository}", "ref": "v1", "subdirectory": "./dags/"})
    assert result["revision"] == commit(repository, "v1")[:12] + "-dags"
    assert packed_files(result["archive"], tmp_path) == {"a.py": "1"}


def test_packages_of_a_repository_are_known_without_fetching_it_again(pack: RunModule, repository: Path) -> None:
    source = {"repository": f"file://{repository}", "ref": commit(repository, "v1")}
    pack(source)
    shutil.rmtree(repository)
    result = pack(source, packages="README.md")
    assert result["msg"].startswith("README.md, line 1: 'no DAG' is not a package")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ref": "nothing"}, "has no branch or tag nothing. Remedy: "),
        ({"ref": "0" * 40}, "git cannot get " + "0" * 40),
        ({"subdirectory": "nothing"}, "has no folder nothing. Remedy: "),
        ({"repository": "file:///nonexistent"}, "git cannot get HEAD of file:///nonexistent: fatal: "),
    ],
)
def test_what_git_does_not_have_is_told(pack: RunModule, repository: Path, change: dict[str, str], message: str) -> None:
    result = pack({"repository": f"file://{repository}", **change})
    assert result["failed"]
    assert message in result["msg"]


def test_deploy_key_is_the_only_one_that_git_may_use(pack: RunModule, commands: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ops")
    commands.answer = lambda words: (128, "", "Permission denied")
    result = pack({"repository": "git@git.example.org:dags.git", "key_file": "~/.ssh/my key"})
    assert "Permission denied Remedy: " in result["msg"]
    ssh = "ssh -o BatchMode=yes -i '/home/ops/.ssh/my key' -o IdentitiesOnly=yes"
    assert (commands.environments[0]["GIT_SSH_COMMAND"], commands.environments[0]["GIT_TERMINAL_PROMPT"]) == (ssh, "0")


# Staged, checked, current ------------------------------------------------------------------------------------------------


class Host:
    """A host, by the module's states; `errors` is what Airflow finds, or the text with which its process ends."""

    def __init__(self, run_module: RunModule, pack: RunModule, tmp_path: Path) -> None:
        self.run_module, self.pack, self.tmp_path = run_module, pack, tmp_path
        self.root = tmp_path / "opt/dags"
        self.link = self.root / "current"
        self.errors: dict[str, str] | str = {}
        self.calls: list[tuple[Any, ...]] = []

    def run(self, state: str, revision: str | None, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return self.run_module(airflow_dags, check=check, state=state, revision=revision, root=str(self.root), **arguments)

    def stage(self, revision: str, check: bool = False, requirements: tuple[str, ...] = (), **files: str) -> dict[str, Any]:
        source = write(self.tmp_path / "sources" / revision, **(files or {"a_py": revision}))
        archive = self.pack(str(source), revision=revision)["archive"]
        return self.run("staged", revision, check, archive=archive, group=GROUP, requirements=list(requirements))

    def check(self, revision: str, check: bool = False, release: str = RELEASE) -> dict[str, Any]:
        return self.run("checked", revision, check, release=release, account=ACCOUNT, config="/etc/a.cfg")

    def switch(self, revision: str, check: bool = False, keep: int = 5) -> dict[str, Any]:
        return self.run("current", revision, check, keep=keep)

    def revisions(self) -> set[str]:
        return {path.name for path in self.root.iterdir() if path.is_dir() and not path.is_symlink()}

    def call_as(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        if isinstance(self.errors, str):
            raise RuntimeError(self.errors)
        return self.errors


@pytest.fixture
def host(run_module: RunModule, pack: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host(run_module, pack, tmp_path)
    monkeypatch.setattr(airflow_dags, "call_as", fake.call_as)
    return fake


def test_staged_revision_is_for_root_and_the_group(host: Host) -> None:
    result = host.stage("one", a_py="a", team__b_py="b")
    assert (result["changed"], result["revision"]) == (True, "one")
    modes = {path.name: path.stat().st_mode & 0o777 for path in [host.root / "one", *(host.root / "one").rglob("*")]}
    assert modes == {"one": 0o750, "a.py": 0o640, "team": 0o750, "b.py": 0o640}
    assert json.loads((host.root / "one.complete").read_text()) == {"checked": [], "requirements": []}
    assert not list(host.tmp_path.glob("cache/*"))
    assert not host.stage("one")["changed"]


def test_program_stays_one(host: Host) -> None:
    source = write(host.tmp_path / "sources/one", run_sh="#!/bin/sh")
    (source / "run.sh").chmod(0o700)
    host.stage("one", a_py="a")
    assert (host.root / "one/run.sh").stat().st_mode & 0o777 == 0o750


def test_half_of_a_revision_is_replaced(host: Host) -> None:
    write(host.root / "one", old_py="left by a killed run")
    write(host.root / "one.partial", old_py="left by a killed run")
    host.stage("one", a_py="a")
    assert {path.name for path in (host.root / "one").iterdir()} == {"a.py"}
    assert host.revisions() == {"one"}


def test_other_packages_of_a_staged_revision_are_noted(host: Host) -> None:
    host.stage("one")
    host.check("one")
    assert host.stage("one", requirements=("pandas==2.3.3",))["changed"]
    assert json.loads((host.root / "one.complete").read_text()) == {"checked": [RELEASE], "requirements": ["pandas==2.3.3"]}


def test_host_without_the_group_is_told_what_to_do(host: Host, tmp_path: Path) -> None:
    archive = host.pack(str(write(tmp_path / "source", a_py="a")))["archive"]
    result = host.run("staged", "one", archive=archive, group="no-such-group")
    assert result["msg"] == "There is no group no-such-group on this host. Remedy: run site.yml first."


def test_staging_in_check_mode_changes_nothing(host: Host) -> None:
    assert host.stage("one", check=True)["changed"]
    assert not host.root.exists()


def test_revision_is_imported_without_secrets_and_database(host: Host) -> None:
    host.stage("one")
    result = host.check("one")
    assert (result["changed"], result["errors"], result["unknown"]) == (False, {}, {})
    ((account, environment, function, path),) = host.calls
    assert (account, function, path) == (ACCOUNT, airflow_dags.import_errors, str(host.root / "one"))
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "sqlite://"
    assert environment["AIRFLOW_CONFIG"] == "/etc/a.cfg"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_result_is_kept_for_each_release(host: Host) -> None:
    host.stage("one")
    for release in (RELEASE, RELEASE, "3.3.2-b", "3.3.2-b", RELEASE):
        assert host.check("one", release=release)["errors"] == {}
    assert len(host.calls) == 2


def test_each_file_that_fails_is_named_and_asked_again(host: Host) -> None:
    host.stage("one")
    host.errors = {
        "a.py": "Traceback (most recent call last):\n  File \"a.py\", line 1\nModuleNotFoundError: No module named 'pandas'\n",
        "b.py": "SyntaxError: invalid syntax (b.py, line 3)",
    }
    for _ in range(2):
        assert host.check("one")["errors"] == {
            "a.py": "ModuleNotFoundError: No module named 'pandas'",
            "b.py": "SyntaxError: invalid syntax (b.py, line 3)",
        }
    assert len(host.calls) == 2


@pytest.mark.parametrize(
    "error",
    [
        "airflow.sdk.exceptions.AirflowRuntimeError: VARIABLE_NOT_FOUND: {'message': 'Variable x not found'}",
        "airflow.exceptions.AirflowNotFoundException: The conn_id `x` isn't defined",
        "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) no such table: variable",
        "KeyError: 'Variable x does not exist'",
    ],
)
def test_file_that_needs_the_database_is_not_refused(host: Host, error: str) -> None:
    host.stage("one")
    host.errors = {"a.py": "Traceback\n" + error}
    result = host.check("one")
    assert (result["errors"], result["unknown"]) == ({}, {"a.py": error})


def test_file_that_ends_the_process_is_told(host: Host) -> None:
    host.stage("one")
    host.errors = "Segmentation fault\n(wait status 139)"
    result = host.check("one")
    assert result["failed"]
    assert "could not be checked: Segmentation fault" in result["msg"]


def test_nothing_is_imported_in_check_mode(host: Host) -> None:
    host.stage("one")
    assert host.check("one", check=True)["errors"] == {}
    assert host.calls == []


def test_airflow_s_own_reader_of_dags_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def read(**arguments: Any) -> SimpleNamespace:
        calls.append(arguments)
        return SimpleNamespace(import_errors={Path("a.py"): "SyntaxError"})

    module = ModuleType("airflow.dag_processing.dagbag")
    vars(module)["BundleDagBag"] = read
    for name in ("airflow", "airflow.dag_processing"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert airflow_dags.import_errors("/opt/airflow/dags/one") == {"a.py": "SyntaxError"}
    path = "/opt/airflow/dags/one"
    assert calls == [{"dag_folder": path, "bundle_path": Path(path), "bundle_name": "dags-folder"}]


def test_reader_of_airflow_2_knows_no_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def read(**arguments: Any) -> SimpleNamespace:
        calls.append(arguments)
        return SimpleNamespace(import_errors={"a.py": "SyntaxError"})

    module = ModuleType("airflow.models.dagbag")
    vars(module)["DagBag"] = read
    for name in ("airflow", "airflow.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules["airflow"])["settings"] = SimpleNamespace(DAGS_FOLDER="/opt/airflow/dags/current")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "path", ["somewhere", "/opt/airflow/dags/current"])
    assert airflow_dags.import_errors("/opt/airflow/dags/one") == {"a.py": "SyntaxError"}
    assert calls == [{"dag_folder": "/opt/airflow/dags/one", "include_examples": False}]
    assert sys.path == ["somewhere", "/opt/airflow/dags/one"]


def test_link_is_switched(host: Host) -> None:
    host.stage("one")
    host.stage("two")
    first, second = host.switch("one"), host.switch("two")
    assert first["diff"] == {"before": f"{host.link} -> \n", "after": f"{host.link} -> one\n"}
    assert second["diff"] == {"before": f"{host.link} -> one\n", "after": f"{host.link} -> two\n"}
    assert (host.link / "a.py").read_text() == "two"
    assert not host.switch("two")["changed"]


def test_files_are_as_young_as_the_switch(host: Host) -> None:
    host.stage("one")
    os.utime(host.root / "one/a.py", (0, 0))
    host.switch("one")
    assert (host.link / "a.py").stat().st_mtime > 0


def test_revision_that_is_not_complete_is_not_made_current(host: Host) -> None:
    write(host.root / "one", a_py="a")
    result = host.switch("one")
    assert "is not complete, so it was not made current. Remedy: " in result["msg"]
    assert not host.link.exists()


def test_switch_in_check_mode_changes_nothing(host: Host, tree: Tree) -> None:
    for name in ("one", "two", "three"):
        host.stage(name)
    host.switch("one")
    before = tree(host.root)
    told = host.switch("two", check=True, keep=0)
    assert told["changed"]
    assert tree(host.root) == before
    # On a bare host there is nothing yet.
    assert host.switch("four", check=True)["changed"]


@pytest.mark.parametrize("files", [{}, {"a_py": "by hand"}])
def test_folder_that_was_there_before_makes_way(host: Host, files: dict[str, str]) -> None:
    host.stage("one")
    host.link.mkdir()
    write(host.link, **files)
    (host.root / "by-hand").mkdir()
    result = host.switch("one")
    assert host.link.is_symlink()
    aside = host.root / "by-hand-2"
    assert result["set_aside"] == (str(aside) if files else "")
    assert [path.read_text() for path in aside.rglob("*.py")] == list(files.values())


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A process that uses a revision, as airfield_bundle.py does."""
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(handle)


def test_oldest_revisions_are_removed_but_none_that_is_used(host: Host) -> None:
    names = ["one", "two", "three", "four", "five"]
    for number, name in enumerate(names, 1):
        host.stage(name)
        assert host.switch(name, keep=9)["removed"] == []
        os.utime(host.root / f"{name}.complete", (number, number))
    host.stage("six")
    write(host.root / "seven.partial", a_py="left by a killed run")
    write(host.root / "by-hand", a_py="somebody's")
    with held(host.root / "one"):
        assert host.switch("six", keep=2)["removed"] == ["three", "two"]
    assert host.revisions() == {"one", "four", "five", "six", "by-hand"}
    host.stage("seven")
    assert host.switch("seven", keep=2)["removed"] == ["four", "one"]
    assert not (host.root / "one.complete").exists()


def test_host_that_needs_no_dags_any_more_loses_all_but_what_is_somebody_s(host: Host, tree: Tree) -> None:
    for name in ("one", "two", "three"):
        host.stage(name)
        host.switch(name)
    write(host.root / "by-hand", a_py="somebody's")
    with held(host.root / "two"):
        before = tree(host.root)
        shown = host.run("absent", None, check=True)
        assert tree(host.root) == before
        done = host.run("absent", None)
    assert (shown["changed"], shown["removed"]) == (done["changed"], done["removed"]) == (True, ["one", "three"])
    assert not host.link.is_symlink()
    assert host.revisions() == {"two", "by-hand"}
    later = host.run("absent", None)
    assert (later["changed"], later["removed"]) == (True, ["two"])
    assert not host.run("absent", None)["changed"]


def test_host_that_never_had_dags_stays_as_it_is(host: Host) -> None:
    assert not host.run("absent", None)["changed"]
    write(host.link, a_py="by hand")
    assert not host.run("absent", None)["changed"]
    assert (host.link / "a.py").exists()


def test_mark_without_its_folder_is_removed(host: Host) -> None:
    host.stage("one")
    shutil.rmtree(host.root / "one")
    host.stage("two")
    assert host.switch("two", keep=0)["removed"] == ["one"]


# What a power cut spoils ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0, 10, 0.5, -1])
@pytest.mark.parametrize("kind", ["folder", "repository"])
def test_archive_that_was_cut_off_is_packed_anew(
    pack: RunModule, folder: Path, repository: Path, kind: str, part: float
) -> None:
    source: Any = str(folder) if kind == "folder" else {"repository": str(repository)}
    archive = Path(pack(source)["archive"])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(part * len(whole)) if 0 < part < 1 else int(part)])
    result = pack(source)
    assert (result["changed"], result["archive"]) == (True, str(archive))
    assert archive.read_bytes() == whole


def test_archive_that_is_rubbish_is_packed_anew(pack: RunModule, folder: Path, spoilt: bytes) -> None:
    archive = Path(pack(str(folder))["archive"])
    archive.write_bytes(spoilt)
    assert pack(str(folder))["changed"]
    assert airflow_dags.is_whole(str(archive))


def test_archive_that_arrived_in_part_is_told_with_its_remedy(host: Host) -> None:
    archive = Path(host.pack(str(write(host.tmp_path / "source", a_py="a" * 9999)), revision="one")["archive"])
    archive.write_bytes(archive.read_bytes()[:-20])
    result = host.run("staged", "one", archive=str(archive), group=GROUP, requirements=[])
    assert result["failed"]
    assert "Remedy: remove one.tar.gz from airflow_release_cache on the controller" in result["msg"]
    assert not (host.root / "one").exists()


def test_spoilt_mark_is_made_anew_and_the_files_stay(host: Host, spoilt: bytes, tree: Tree) -> None:
    host.stage("one", requirements=("pandas==2.3.3",))
    host.switch("one")
    before = tree(host.root / "one")
    (host.root / "one.complete").write_bytes(spoilt)
    assert host.check("one")["errors"] == {}
    # Also as the message has people do it: without the mark.
    for spoil in (lambda: (host.root / "one.complete").write_bytes(spoilt), (host.root / "one.complete").unlink):
        spoil()
        assert host.stage("one", requirements=("pandas==2.3.3",))["changed"]
        assert json.loads((host.root / "one.complete").read_text()) == {"checked": [], "requirements": ["pandas==2.3.3"]}
    assert tree(host.root / "one") == before
