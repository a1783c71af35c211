from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.modules import airflow_config

RunModule = Callable[..., dict[str, Any]]
Tree = Callable[[Path], Any]
DECLARED = {
    "airflow": "3.3.2",
    "free_sections": [],
    "moved": {},
    "options": {
        "core": {"parallelism": {"type": "int"}, "executor": {"type": "str"}},
        "database": {"sql_alchemy_conn": {"type": "str", "sensitive": True}},
    },
}
PASSWORD = "hunter2-of-the-database"


class Host:
    """The folders of a host, with a release, and the arguments of a usual task."""

    def __init__(self, root: Path, group: str) -> None:
        self.root = root
        self.config = root / "etc/airflow.cfg"
        self.secrets = root / "etc/cli.env"
        self.folder = root / "dags"
        self.command = root / "bin/airflow"
        self.release = root / "release"
        self.release.mkdir()
        (self.release / "airfield.json").write_text(json.dumps(DECLARED))
        self.task: dict[str, Any] = {
            "options": {"core": {"parallelism": 8}},
            "path": str(self.config),
            "release": str(self.release),
            "group": group,
            "record": str(root / "state/airflow-config.written.json"),
            "folders": [str(self.folder)],
            "files": [{"path": str(self.command), "content": "#!/bin/sh\n", "mode": "0755"}],
            "environment_file": str(self.secrets),
            "environment": {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": PASSWORD},
        }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, tmp_path.group())


CHANGES: dict[str, dict[str, Any]] = {
    "option": {"options": {"core": {"parallelism": 9}}},
    "secret": {"environment": {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "other"}},
    "folder": {"folders": ["{root}/plugins"]},
    "file": {"files": [{"path": "{root}/bin/airflow", "content": "#!/bin/bash\n", "mode": "0755"}]},
    "mode": {"files": [{"path": "{root}/bin/airflow", "content": "#!/bin/sh\n", "mode": "0700"}]},
}


def changed_task(host: Host, change: str) -> dict[str, Any]:
    changes = json.loads(json.dumps(CHANGES[change]).replace("{root}", str(host.root)))
    return {**host.task, **changes}


def test_first_run_lays_everything_down(run_module: RunModule, host: Host) -> None:
    result = run_module(airflow_config, **host.task)
    assert (result["changed"], result["path"]) == (True, str(host.config))
    assert host.config.read_text().endswith("\n[core]\nparallelism = 8\n")
    assert host.secrets.read_text() == f'AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="{PASSWORD}"\n'
    modes = [path.stat().st_mode & 0o7777 for path in (host.config, host.secrets, host.command, host.folder)]
    assert modes == [0o640, 0o600, 0o755, 0o755]


def test_second_run_changes_nothing(run_module: RunModule, host: Host, tree: Tree) -> None:
    run_module(airflow_config, **host.task)
    before = tree(host.root)
    result = run_module(airflow_config, **host.task)
    assert (result["changed"], result["diff"]) == (False, [])
    assert tree(host.root) == before


@pytest.mark.parametrize("change", CHANGES)
def test_check_mode_says_what_a_run_does_and_writes_nothing(run_module: RunModule, host: Host, tree: Tree, change: str) -> None:
    run_module(airflow_config, **host.task)
    before = tree(host.root)
    told = run_module(airflow_config, check=True, **changed_task(host, change))
    assert tree(host.root) == before
    done = run_module(airflow_config, **changed_task(host, change))
    assert told["changed"]
    assert (told["changed"], told["diff"]) == (done["changed"], done["diff"])
    assert tree(host.root) != before


def test_check_mode_works_on_a_bare_host(run_module: RunModule, host: Host, tree: Tree) -> None:
    (host.release / "airfield.json").unlink()
    before = tree(host.root)
    assert run_module(airflow_config, check=True, **host.task)["changed"]
    assert tree(host.root) == before


def test_diff_shows_what_changes_and_no_secret(run_module: RunModule, host: Host) -> None:
    run_module(airflow_config, **host.task)
    task = {**changed_task(host, "option"), "environment": {"NEW": "s3cret-value"}}
    result = run_module(airflow_config, **task)
    config, environment = result["diff"]
    assert (config["before_header"], "parallelism = 8" in config["before"]) == (str(host.config), True)
    assert "parallelism = 9" in config["after"]
    assert environment["before"] == "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=<before>\n"
    assert environment["after"] == "NEW=<after>\n"
    for secret in (PASSWORD, "s3cret-value"):
        assert secret not in json.dumps(result)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"core": {"parallelism": "many"}}, "[core] parallelism must be of type int, it is 'many'."),
        ({"core": {"exekutor": "x"}}, 'Did you mean "core.executor"?'),
        ({"core": "x"}, "[core] must be a mapping of options, it is 'x'."),
        ({"database": {"sql_alchemy_conn": PASSWORD}}, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN holds a secret"),
    ],
)
def test_option_that_airflow_refuses_fails_and_changes_nothing(
    run_module: RunModule, host: Host, tree: Tree, options: dict[str, Any], problem: str
) -> None:
    run_module(airflow_config, **host.task)
    before = tree(host.root)
    result = run_module(airflow_config, **{**host.task, "options": options})
    assert result["failed"]
    assert result["msg"].startswith("airflow.cfg was not changed: ")
    assert problem in result["msg"]
    assert result["msg"].endswith(" Remedy: correct airflow_config in the inventory.")
    assert PASSWORD not in json.dumps(result)
    assert tree(host.root) == before


def test_refused_secret_is_not_shown_when_no_other_argument_holds_it(run_module: RunModule, host: Host) -> None:
    task = {**host.task, "options": {"database": {"sql_alchemy_conn": PASSWORD}}}
    del task["environment_file"], task["environment"]
    result = run_module(airflow_config, **task)
    assert PASSWORD not in result["msg"]


def test_unknown_group_fails_and_leaves_no_file_behind(run_module: RunModule, host: Host) -> None:
    result = run_module(airflow_config, **{**host.task, "group": "no-such-group"})
    assert result["failed"]
    assert "no-such-group" in result["msg"]
    assert list(host.config.parent.iterdir()) == []


def test_environment_needs_a_file(run_module: RunModule, host: Host) -> None:
    del host.task["environment_file"]
    assert "environment_file" in run_module(airflow_config, **host.task)["msg"]


def test_damaged_release_is_told_and_changes_nothing(run_module: RunModule, host: Host, tree: Tree, spoilt: bytes) -> None:
    (host.release / "airfield.json").write_bytes(spoilt)
    before = tree(host.root)
    result = run_module(airflow_config, **host.task)
    assert result["failed"]
    assert result["msg"].startswith(
        f"airflow.cfg was not changed: {host.release}/airfield.json is broken. Remedy: the release is"
    )
    assert tree(host.root) == before


def test_all_that_is_written_is_recorded_without_a_secret(host: Host, run_module: RunModule) -> None:
    run_module(airflow_config, **host.task)
    record = (host.root / "state/airflow-config.written.json").read_text()
    assert sorted(json.loads(record)) == sorted(str(path) for path in (host.config, host.command, host.secrets))
    assert PASSWORD not in record
