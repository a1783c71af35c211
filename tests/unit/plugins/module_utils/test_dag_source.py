from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import dag_source

NAME = "airflow_dags_source"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """DAGs, with what is left out."""
    root = tmp_path / "dags"
    for name, text in {
        "a.py": "a",
        "team/b.py": "b",
        "team/run.sh": "#!/bin/sh",
        "a.pyc": "no",
        "team/__pycache__/b.cpython-311.pyc": "no",
        ".git/config": "no",
        ".airflowignore": "team/run.sh",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "team/run.sh").chmod(0o755)
    return root


# The form of a source ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "",
        "/srv/dags",
        {"repository": "https://git.example.org/dags.git"},
        {"repository": "git@git.example.org:team/dags.git", "ref": "v1", "key_file": "~/.ssh/deploy", "subdirectory": "a/b"},
        {"repository": "ssh://git@git.example.org/dags.git", "subdirectory": "./dags/"},
        {"repository": "https://[malformed"},
    ],
)
def test_folder_and_repository_are_accepted(source: Any) -> None:
    assert dag_source.find_problems(NAME, source) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (5, "is neither a text nor a mapping"),
        (["/srv/dags"], "is neither a text nor a mapping"),
        ({}, "has no repository"),
        ({"repository": ""}, "has no repository"),
        ({"repository": "x", "branch": "main"}, "has branch, which is unknown"),
        ({"repository": "x", "ref": 1.2}, "ref is not a text"),
        ({"repository": "--upload-pack=x"}, "repository begins with a dash"),
        ({"repository": "x", "ref": "-f"}, "ref begins with a dash"),
        ({"repository": "https://me:hunter2@git.example.org/dags.git"}, "address holds a password"),
        ({"repository": "x", "subdirectory": "../other"}, "leads out of the repository"),
        ({"repository": "x", "subdirectory": "a/../../other"}, "leads out of the repository"),
        ({"repository": "x", "subdirectory": "/etc"}, "leads out of the repository"),
    ],
)
def test_malformed_source_is_told_with_the_variable_and_the_remedy(source: Any, problem: str) -> None:
    (found,) = dag_source.find_problems(NAME, source)
    assert found.startswith(f"variable {NAME}")
    assert problem in found
    assert "Remedy: " in found
    assert "hunter2" not in found


# What is packed ---------------------------------------------------------------------------------------------------------


def test_caches_and_the_repository_itself_are_left_out(folder: Path) -> None:
    assert list(dag_source.walk(str(folder))) == [".airflowignore", "a.py", "team/b.py", "team/run.sh"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "team/../../secret"])
def test_link_out_of_the_folder_is_refused(folder: Path, target: str) -> None:
    (folder / "link").symlink_to(target)
    with pytest.raises(dag_source.SourceError, match=r"link is a link that leads out of .* Remedy: "):
        dag_source.content_hash(str(folder))


def test_link_inside_is_kept(folder: Path, tmp_path: Path) -> None:
    (folder / "team/c.py").symlink_to("../a.py")
    (folder / "other").symlink_to("team")
    archive = tmp_path / "x.tar.gz"
    dag_source.write_archive(str(folder), str(archive))
    with tarfile.open(archive) as tar:
        assert tar.getmember("team/c.py").linkname == "../a.py"
        assert tar.getmember("other").linkname == "team"


def test_pipe_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(dag_source.SourceError, match=r"pipe in .* is neither a file nor a folder"):
        dag_source.content_hash(str(folder))


def test_folder_without_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    with pytest.raises(dag_source.SourceError, match=r"holds no file. Remedy: "):
        dag_source.content_hash(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda root: (root / "a.py").write_text("A"), True),
        (lambda root: (root / "a.py").rename(root / "b.py"), True),
        (lambda root: (root / "a.py").chmod(0o755), True),
        (lambda root: (root / "c.py").symlink_to("a.py"), True),
        (lambda root: (root / "a.py").chmod(0o600), False),
        (lambda root: os.utime(root / "a.py", (0, 0)), False),
        (lambda root: (root / "new.pyc").write_text(""), False),
    ],
)
def test_name_follows_the_content_alone(folder: Path, change: Callable[[Path], Any], differs: bool) -> None:
    before = dag_source.content_hash(str(folder))
    change(folder)
    assert (dag_source.content_hash(str(folder)) != before) is differs
    assert len(before) == 12


def test_same_content_gives_the_same_archive(folder: Path, tmp_path: Path) -> None:
    archives = [tmp_path / name for name in ("first.tar.gz", "second.tar.gz")]
    for number, archive in enumerate(archives):
        os.utime(folder / "a.py", (number, number))
        dag_source.write_archive(str(folder), str(archive))
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert archives[0].stat().st_mode & 0o077 == 0
    with tarfile.open(archives[0]) as tar:
        found = {member.name: (member.mode, member.uid, member.uname, member.mtime) for member in tar}
    assert found["a.py"] == (0o644, 0, "root", 0)
    assert found["team/run.sh"] == (0o755, 0, "root", 0)


def test_archive_that_cannot_be_completed_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "z").symlink_to("/etc/passwd")
    with pytest.raises(dag_source.SourceError):
        dag_source.write_archive(str(folder), str(tmp_path / "x.tar.gz"))
    assert not list(tmp_path.glob("x.tar.gz*"))


# Packages ---------------------------------------------------------------------------------------------------------------


def read(folder: Path, text: str) -> list[str]:
    (folder / "requirements.txt").write_text(text)
    return dag_source.read_requirements(str(folder), "requirements.txt", "airflow_dags_packages")


def test_comments_order_and_spaces_of_requirements_do_not_count(folder: Path) -> None:
    text = "# Ours\npandas==2.3.3  # for sales\n\n  numpy == 2.1  \npandas==2.3.3\n"
    assert read(folder, text) == ["numpy == 2.1", "pandas==2.3.3"]


@pytest.mark.parametrize(
    "line",
    [
        "pandas",
        "pandas==2.3.3",
        "pandas>=2,<3",
        "pandas ~= 2.3",
        "pandas[excel,html]==2.3.*",
        "ruamel.yaml==0.18",
        "tomli==2.0; python_version < '3.11'",
        "x==1!2.0+local.1",
    ],
)
def test_plain_requirement_is_read(folder: Path, line: str) -> None:
    assert read(folder, line) == [line]


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt",
        "--index-url https://pypi.example.org/simple",
        "-e .",
        "./pandas.whl",
        "pandas @ https://example.org/pandas.whl",
        "git+https://example.org/pandas.git",
        "pandas==",
        "pandas=2.3.3",
        "pandas==2.3.3 --hash=sha256:00",
        "pandas numpy",
        "pandas==2.3.3 \\",
    ],
)
def test_other_line_is_refused_with_its_place(folder: Path, line: str) -> None:
    with pytest.raises(dag_source.SourceError, match=r"^requirements.txt, line 2: .* Remedy: "):
        read(folder, f"numpy==2.1\n{line}\n")


@pytest.mark.parametrize("name", ["none.txt", "../secret", "team"])
def test_missing_file_of_packages_is_told(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("hunter2")
    with pytest.raises(dag_source.SourceError, match=r"variable airflow_dags_packages: there is no file .* Remedy: "):
        dag_source.read_requirements(str(folder), name, "airflow_dags_packages")


# Git --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "commit"), [("main", "1"), ("v1", "3"), ("v2", "5"), ("HEAD", "0"), ("refs/heads/v1", "4"), ("x", ""), ("ain", "")]
)
def test_tag_is_taken_before_a_branch_and_by_its_commit(ref: str, commit: str) -> None:
    listing = (
        "0\tHEAD\n1\trefs/heads/main\n6\trefs/heads/feature/main\n"
        "2\trefs/tags/v1\n3\trefs/tags/v1^{}\n4\trefs/heads/v1\n5\trefs/tags/v2\n"
    )
    assert dag_source.pick_commit(listing, ref) == commit


@pytest.mark.parametrize("content", [b'{"requirements": {}}', b'{"requirements": [], "checked": "x"}'])
def test_mark_of_other_types_is_broken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.complete").write_bytes(content)
    assert dag_source.read_mark(str(tmp_path / "one.complete")) == ({}, f"{tmp_path}/one.complete is broken.")


def test_archive_is_on_the_disk_before_it_has_its_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[tuple[int, str]] = []

    def put(temporary: str, path: str) -> None:
        placed.append((os.stat(temporary).st_size, path))
        os.replace(temporary, path)

    monkeypatch.setattr(dag_source, "put_in_place", put)
    archive = tmp_path / "a.tar.gz"
    dag_source.write_archive(str(folder), str(archive))
    assert placed == [(archive.stat().st_size, str(archive))]
