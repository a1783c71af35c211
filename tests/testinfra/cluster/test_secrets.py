"""Each process holds the secrets that it needs and no other, and no secret is anywhere else.

The matrix is Airflow's own security model: on 3.x a worker has neither the metadata database nor the key that signs tokens; on
2.x its tasks use the database themselves (tests/testinfra/series.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
import topology
import yaml
from leaks import hits
from testinfra.host import Host

testinfra_hosts = topology.backends("all")

SERIES = topology.this_series()
VARIABLES = {
    **SERIES.secrets,
    "AIRFLOW__CELERY__BROKER_URL": {"scheduler", "worker", "flower", "cli"},
    "AIRFLOW__CELERY__RESULT_BACKEND": {"scheduler", "worker", "cli"},
    "AIRFLOW_CONN_AIRFLOW_LOGS": {SERIES.web, "triggerer", "worker", "logs", "log-retention"},
    "AIRFLOW__SENTRY__SENTRY_DSN": {SERIES.web, "scheduler", "dag-processor", "triggerer", "worker", "flower", "cli"},
    "FLOWER_BASIC_AUTH": {"flower"},
    "AIRFIELD_SLACK_BROKER_URL": {"alerts", "slack"},
    "AIRFIELD_SLACK_AIRFLOW_PASSWORD": {"slack"},
    "AIRFIELD_SLACK_APP_TOKEN": {"slack"},
    "AIRFIELD_SLACK_BUTTON_KEY": {"slack"},
    "AIRFLOW_CONN_SLACK": {"slack"},
    # Not a secret: what is to be done for every DAG.
    "AIRFIELD_SLACK_DEFAULT_CHANNEL": {"dag-processor", "worker"},
}
# Beside it: names of modules of ours, and the URL for another driver.
OF_THE_DATABASE = ["CONNECT_ARGS", "CONNECT_ARGS_ASYNC", *(["CONN_ASYNC"] if topology.members("mysql") else [])]
for name in OF_THE_DATABASE:
    VARIABLES[f"AIRFLOW__DATABASE__SQL_ALCHEMY_{name}"] = VARIABLES["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
# Connects to a database with the password that the worker has for its results.
CONNECT = """
import re, sqlalchemy, sys
from sqlalchemy.engine import make_url
url = re.search('RESULT_BACKEND="db.(.*)"', open("/etc/airflow/worker.env").read()).group(1)
sqlalchemy.create_engine(make_url(url).set(database=sys.argv[1])).connect()
"""
REFUSED = "Access denied for user 'airflow_results'" if topology.members("mysql") else "no pg_hba.conf entry"


def test_the_search_finds_what_it_is_for() -> None:
    assert len(topology.secret_names()) >= 8
    secret = topology.variables()["airflow_database_password"]
    assert hits(f"x {secret} y") == ["airflow_database_password"]
    assert hits(f"postgresql://airflow:{quote(secret, safe='')}@store1") == ["airflow_database_password"]
    assert hits(json.dumps({"password": secret})) == ["airflow_database_password"]
    assert hits(yaml.safe_dump({"password": secret}, width=1000)) == ["airflow_database_password"]
    assert hits(str([{"content": json.dumps({"password": secret}) + "\n"}])) == ["airflow_database_password"]
    assert hits(f"x {secret[len(secret) // 2 :]} y") == ["airflow_database_password"]
    assert hits("nothing") == []
    if "airflow_oauth_client_secrets" in topology.secret_names():
        assert hits(f"x {topology.variables()['airflow_oauth_client_secrets']['google']} y") == ["airflow_oauth_client_secrets"]


def test_environment_files_hold_what_the_matrix_says(host: Host) -> None:
    extra = set() if "sentry" in configured() else {"AIRFLOW__SENTRY__SENTRY_DSN"}
    extra |= set() if topology.members("airflow_slack") else {"AIRFIELD_SLACK_DEFAULT_CHANNEL"}
    # Only where task logs are written is anything to upload.
    writers = topology.members("airflow_worker", "airflow_triggerer") + topology.members("airflow_scheduler")
    for path in host.run("ls /etc/airflow/*.env").stdout.split():
        component = Path(path).stem
        if component == "logs" and host.check_output("hostname") not in writers:
            component = "none"
        names = {line.partition("=")[0] for line in host.file(path).content_string.splitlines()}
        assert names == {name for name, holders in VARIABLES.items() if component in holders} - extra, path


def configured() -> dict[str, object]:
    result: dict[str, object] = topology.variable("airflow_config", {})
    return result


def test_a_worker_has_of_the_metadata_what_its_series_needs(host: Host) -> None:
    if host.check_output("hostname") not in topology.members("airflow_worker"):
        return
    pids = host.check_output("cat /sys/fs/cgroup/systemd/$(systemctl show -P ControlGroup airflow-worker)/cgroup.procs").split()
    assert len(pids) > 1
    for pid in pids:
        environment = host.run(f"tr '\\0' '\\n' < /proc/{pid}/environ").stdout
        assert not SERIES.not_for_workers & set(hits(environment))
    assert topology.python(host, CONNECT, "airflow_results").rc == 0
    assert REFUSED in topology.python(host, CONNECT, "airflow").stderr


def test_no_secret_in_units(host: Host) -> None:
    anybody = host.run(
        'runuser -u nobody -- sh -c \'systemctl show "*"; systemctl cat "airflow*" "mysql*" "redis*" "seaweedfs*" || true\''
    )
    assert any(word in anybody.stdout for word in ("AIRFLOW_HOME", "mysqld", "redis"))
    assert hits(anybody.stdout) == []


def test_no_secret_in_the_journal_and_the_logs(host: Host) -> None:
    printable = "tr -cd '\\11\\12\\40-\\176'"
    assert hits(host.check_output(f"journalctl --no-pager --all --output=cat | {printable}")) == []
    assert hits(host.check_output(f"find /var/log -type f ! -path '*/journal/*' -exec cat {{}} + | {printable}")) == []


def test_no_secret_in_what_everybody_may_read(host: Host) -> None:
    text = host.check_output(
        "runuser -u nobody -- sh -c 'find /etc /opt/seaweedfs /usr/local /var/lib/airfield /tmp /var/tmp -type f -size -1M"
        " -readable -exec cat {} + 2>/dev/null; true' | tr -d '\\0'"
    )
    assert hits(text) == []


@pytest.mark.parametrize("name", ["command_lines", "ansible.log"])
def test_no_secret_in_what_molecule_recorded(name: str) -> None:
    """Command lines of every process since the hosts were bare, and Ansible's output with -vv --diff."""
    record = topology.folder() / name
    if topology.variable("testbed_name") == "demo":
        assert not record.exists()
        return
    text = record.read_text(encoding="utf-8", errors="replace")
    assert "airflow" in text
    assert hits(text) == []
