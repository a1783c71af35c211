"""What people make in a clone, secrets above all, gets neither into the built collection nor into a commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARTIFACT = "build/airfield-metal.tar.gz"
SECRET = "planted-secret"
# Of what is tracked below the folders of a collection, these are for those who develop it.
FOR_DEVELOPERS = {"roles/airflow/files/releases/lock.sh", "docs/messages.py", "docs/reference.py"}
# As README has people make them, as other users of Ansible lay them out, and as tools leave them.
PLANTED = [
    *("inventories/ours/hosts.yml", "inventories/ours/group_vars/all/vault.yml", "inventories/ours/group_vars/all/secrets.yml"),
    *(
        "inventories/ours/group_vars/all.yml",
        "inventories/ours/host_vars/db1.yml",
        "inventories/ours/group_vars/all/secrets.yml~",
    ),
    *("inventories/ours/group_vars/all/.airfield-x1y2z3", "inventories/teams/a/group_vars/airflow_worker/secrets.yml"),
    *("inventories/demo/group_vars/all/secrets.yml", "inventories/production/group_vars/all/secrets.yml"),
    *("inventories/production/host_vars/worker1.yml", "inventories/staging.yml", "inventory", "hosts.yml", "hosts"),
    *("group_vars/all/vault.yml", "group_vars/all/secrets.yml", "host_vars/db1/secrets.yml"),
    *("playbooks/group_vars/all/secrets.yml", "playbooks/host_vars/db1.yml", "molecule/inventory/group_vars/all/secrets.yml"),
    *("molecule/inventory_airflow2/group_vars/all/secrets.yml", "bench/inventory/group_vars/all/secrets.yml"),
    *(".env", ".env.production", "ca.pem", "roles/redis/files/tls.key", ".vault_pass", "vault-password.txt", "age-key.txt"),
    *("backup.agekey", "airfield-20260101T023000Z.tar.age", "roles/redis/vars/main.yml~", "roles/redis/tasks/.main.yml.swp"),
    *("plugins/modules/airflow_lock.py.orig", "roles/redis/defaults/main.yml.bak", "playbooks/site.retry"),
]
# Git would take these, as anybody's files; the collection does not.
UNKNOWN = ["mydags/report.py", "tests/dags/ours.py", "docs/notes.txt", "deploy.sh", "roles/redis/files/dump.rdb", "dags.zip"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what git tracks here, as it stands."""
    clone = tmp_path_factory.mktemp("clone")
    for name in run(ROOT, "git", "ls-files").splitlines():
        if os.path.lexists(ROOT / name):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name, follow_symlinks=False)
    run(clone, "git", "init", "--quiet")
    run(clone, "git", "add", "--all", "--force")
    return clone


def run(folder: Path, *command: str, status: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MAKE"))}
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def plant(clone: Path, names: list[str]) -> None:
    for name in names:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(f"{SECRET}: {name}\n", encoding="utf-8")


def build(clone: Path, status: int = 0) -> str:
    # Without an environment of the clone's own: the tools are those of this one.
    return run(clone, "make", "--always-make", "--old-file=.venv/.complete", ARTIFACT, status=status)


def test_what_people_make_in_a_clone_stays_there(clone: Path, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: run(clone, "git", "clean", "-ffdxq"))
    tracked = set(run(clone, "git", "ls-files").splitlines())
    plant(clone, PLANTED + UNKNOWN)
    example = clone / "inventories/production/group_vars/all/vault.yml"
    original = example.read_text(encoding="utf-8")
    request.addfinalizer(lambda: example.write_text(original, encoding="utf-8"))
    example.write_text(original + f"airflow_admin_password: {SECRET}\n", encoding="utf-8")

    shown = run(clone, "git", "ls-files", "--others", "--exclude-standard").splitlines()
    assert sorted(shown) == sorted(UNKNOWN)

    build(clone)
    with tarfile.open(clone / ARTIFACT) as tar:
        members = [member for member in tar if not member.isdir()]
        contents = {member.name: (tar.extractfile(member) or pytest.fail(member.name)).read() for member in members}
    assert [name for name, content in contents.items() if SECRET.encode() in content] == []
    shipped = set(contents) - {"FILES.json", "MANIFEST.json"}
    folders = ("docs/", "meta/", "playbooks/", "plugins/", "roles/")
    named = {name for name in tracked if name.startswith(folders)} | {
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "requirements.yml",
    }
    assert shipped == named - FOR_DEVELOPERS
    assert {member.mode for member in members} == {0o644}


def test_files_that_look_like_ours_are_refused_by_their_names(clone: Path, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: run(clone, "git", "clean", "-ffdxq"))
    names = [
        "docs/ours.md",
        "playbooks/ours.yml",
        "plugins/filter/ours.py",
        "roles/ours/tasks/main.yml",
        "roles/redis/vars/ours.yml",
    ]
    plant(clone, names)
    assert f"git add them: {' '.join(names)}\n" in build(clone, status=2)
    assert not (clone / ARTIFACT).exists()


def test_a_file_that_is_hidden_or_a_link_is_not_shipped(clone: Path, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: run(clone, "git", "clean", "-ffdxq"))
    plant(clone, ["roles/redis/tasks/.ours.yml"])
    (clone / "playbooks/link.yml").symlink_to("/etc/hostname")
    build(clone)
    with tarfile.open(clone / ARTIFACT) as tar:
        assert not {"roles/redis/tasks/.ours.yml", "playbooks/link.yml"} & set(tar.getnames())
