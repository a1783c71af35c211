"""Runs on a converged cluster: check mode says nothing, and a URL is as good as a host.

After test_slack.py, whose alerts wait for it: the service loses them when its host is no longer in its group.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import topology
from testinfra.host import Host

# Other passwords for everything that has one on both sides.
OTHER = {
    f"airflow_{name}": f"another 'p@ss:w%rd' of {name}"
    for name in ("database_password", "result_backend_password", "broker_password", "logs_secret_key")
}

# Workers one after the other are test_rolling.py's.
TOGETHER = {"airflow_worker_batch": 99, "airflow_worker_minimum_percent": 0}


def units(host: Host) -> list[str]:
    return host.check_output("systemctl list-units --plain --no-legend --state=active 'airflow-*.service'").split()


def output(*arguments: str, inventory: Path = topology.INVENTORY) -> str:
    run = topology.playbook(*arguments, inventory=inventory)
    assert run.returncode == 0, run.stdout[-3000:]
    return run.stdout


def changes(*arguments: str, inventory: Path = topology.INVENTORY) -> dict[str, int]:
    return topology.changes(output(*arguments, inventory=inventory))


def test_check_mode_and_diff_show_nothing() -> None:
    said = output("--check", "--diff")
    assert "changed: [" not in said
    assert "+++ after" not in said
    assert set(topology.changes(said).values()) == {0}


def quoted_password(name: str) -> str:
    # Airflow would expand "~" in a URL.
    return quote(topology.variables()[f"airflow_{name}_password"], safe="").replace("~", "%7E")


def given(tmp_path: Path, variables: dict[str, Any]) -> list[str]:
    """Arguments that set variables; secrets go by a file, since everybody may read a command line."""
    path = tmp_path / "given.json"
    path.write_text(json.dumps(variables))
    return ["--extra-vars", f"@{path}"]


def test_url_renders_what_host_and_password_render(tmp_path: Path) -> None:
    store = topology.members("redis")[0]
    results = f"airflow_results:{quoted_password('result_backend')}"
    urls = {
        "airflow_database_url": f"postgresql+psycopg2://airflow:{quoted_password('database')}@{store}:5432/airflow",
        "airflow_result_backend_url": f"db+postgresql+psycopg2://{results}@{store}:5432/airflow_results",
        "airflow_broker_url": f"redis://airflow:{quoted_password('broker')}@{store}:6379/0",
    }
    found = changes("--check", *given(tmp_path, urls))
    # What a backup has of the inventory is less: the three passwords are no longer in use.
    sealing = found.pop(topology.members("airflow_scheduler")[0])
    assert (sealing, set(found.values())) == (1, {0})


def test_a_changed_option_restarts_only_who_reads_it() -> None:
    # As people type it, which makes it a string.
    assert changes("--check", "--extra-vars", "airflow_worker_concurrency=3") == {
        "localhost": 0,
        "scheduler1": 1,  # airflow.cfg alone
        "web1": 1,
        "store1": 0,
        # airflow.cfg, what belongs to the unit, and its restart in its turn
        "worker1": 3,
        "worker2": 3,
    }


def test_moved_component_and_new_passwords_are_followed_in_one_run(
    tmp_path: Path, api: topology.Api, connect: topology.Connect, dags: None
) -> None:
    scheduler, web = (connect(topology.members(group)[0]) for group in ("airflow_scheduler", "airflow_webserver"))
    triggerers: dict[str, Any] = {"hosts": {topology.members("airflow_webserver")[0]: {}}}
    inventory = tmp_path / "elsewhere.yml"
    inventory.write_text(json.dumps({"airflow": {"children": {"airflow_triggerer": triggerers}}}))

    # Without what other files of the inventory add: the service for Slack goes.
    changes("--inventory", str(inventory), *given(tmp_path, OTHER | TOGETHER), inventory=topology.INVENTORY / "hosts.yml")
    for name in topology.members("airflow"):
        assert not [unit for unit in units(connect(name)) if unit in ("airflow-slack.service", "airflow-alerts.service")]
        assert connect(name).run("ls -d /etc/airflow/slack* /etc/airflow/alerts.env /var/lib/airfield-slack").stdout == ""
    assert "airflow-triggerer.service" not in units(scheduler)
    assert not scheduler.file("/etc/airflow/triggerer.env").exists
    assert "airflow-triggerer.service" in units(web)
    api.finish("example_xcom", api.trigger("example_xcom"))

    changes(*given(tmp_path, TOGETHER))
    assert "airflow-triggerer.service" in units(scheduler)
    assert "airflow-triggerer.service" not in units(web)
    # Nothing there reads DAGs any more.
    assert not web.file("/opt/airflow/dags/current").is_symlink
    api.finish("example_xcom", api.trigger("example_xcom"))
    assert set(changes().values()) == {0}
