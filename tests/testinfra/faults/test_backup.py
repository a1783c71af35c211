"""Backups are made, tested, kept and refused, and old rows go only when one has them. Another database is never touched: what
would be restored here would be the cluster's own, so the way back has a test of its own, in tests/testinfra/rolling."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import topology
from testinfra.host import Host

SCHEDULER = topology.members("airflow_scheduler")[0]
FOLDER = "/var/backups/airfield"
PROGRAM = "/opt/airflow/current/bin/python /usr/local/lib/airfield/airfield_backup.py"
# Of another cluster: from a run of age-keygen.
OTHER_KEY = "AGE-SECRET-KEY-19HHNDW4FJM9S7QA8QXX0VYV8L3NVHWCKGZ7S7XW3MKWJRCX84T2Q85UAUK"
ON_MYSQL = bool(topology.members("mysql"))
OLD_RUNS = 12
INSERT_ON_MYSQL = """
insert into dag_run (dag_id, run_id, logical_date, run_after, start_date, end_date, state, run_type, clear_number, span_status)
with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 12)
select 'airfield_backup_old', concat('run_', n), long_ago + interval n minute, long_ago, long_ago, long_ago, 'success',
       'manual', 0, 'ended'
from numbers, (select utc_timestamp() - interval 200 day as long_ago) t
"""
INSERT = """
insert into dag_run (dag_id, run_id, logical_date, run_after, start_date, end_date, state, run_type, clear_number, span_status)
select 'airfield_backup_old', 'run_' || n, long_ago + n * interval '1 minute', long_ago, long_ago, long_ago, 'success',
       'manual', 0, 'ended'
from generate_series(1, 12) n, (select now() - interval '200 days' as long_ago) t
"""
SQL = """
import json, re, sys, sqlalchemy
text = open("/etc/airflow/cli.env").read()
url = re.search('SQL_ALCHEMY_CONN="(.*)"', text).group(1)
with sqlalchemy.create_engine(re.sub(r"\\\\\\\\(.)", r"\\\\1", url)).begin() as connection:
    result = connection.execute(sqlalchemy.text(sys.stdin.read()))
    print(json.dumps([list(row) for row in result] if result.returns_rows else result.rowcount))
"""


def command(scheduler: Host, line: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run something as root on the scheduler's host, with an input that no command line shows."""
    ssh = ["ssh", "-F", str(topology.ssh_config()), SCHEDULER, "sudo", "sh", "-c", shlex.quote(line)]
    return subprocess.run(ssh, input=stdin, capture_output=True, text=True, check=False)


def sql(scheduler: Host, statement: str) -> Any:
    done = command(scheduler, shlex.join(["/opt/airflow/current/bin/python", "-c", SQL]), statement)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def private_key() -> str:
    return str(topology.variables()["airflow_backup_private_key"])


def play(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    inventory = ("--inventory", str(topology.INVENTORY))
    return topology.run("ansible-playbook", *inventory, f"playbooks/{name}.yml", *arguments, check=False)


def report(scheduler: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scheduler.file("/var/lib/airfield/backup.json").content_string)
    return found


def archives(scheduler: Host) -> list[str]:
    return sorted(scheduler.check_output(f"ls -A {FOLDER}").split())


@pytest.fixture(scope="module")
def scheduler(connect: topology.Connect) -> Host:
    return connect(SCHEDULER)


@pytest.fixture(scope="module")
def backup(scheduler: Host) -> dict[str, Any]:
    """What is known of a backup that the playbook has made, and tested with the private key."""
    run = play("backup")
    assert run.returncode == 0, run.stdout[-3000:]
    assert "restored for a test" in run.stdout
    last: dict[str, Any] = report(scheduler)["last"]
    return last


def test_backup_is_made_and_has_been_restored(scheduler: Host, backup: dict[str, Any]) -> None:
    assert backup["tested"] is True
    assert backup["rows"] > 100
    path = f"{FOLDER}/{backup['name']}"
    assert scheduler.file(path).mode == 0o600
    assert scheduler.check_output(f"sha256sum {path}").split()[0] == backup["sha256"]
    assert report(scheduler)["tested"]["name"] == backup["name"]
    status = play("status", "--extra-vars", "airflow_status_format=json")
    assert status.returncode == 0, status.stdout[-3000:]
    assert backup["name"] in status.stdout


def test_archive_opens_with_the_private_key_alone_and_has_what_a_restore_needs(scheduler: Host, backup: dict[str, Any]) -> None:
    path = f"{FOLDER}/{backup['name']}"
    opened = command(scheduler, f"/usr/bin/python3 {PROGRAM.split()[1]} inspect {path}", private_key())
    assert opened.returncode == 0, opened.stderr
    content = json.loads(opened.stdout)
    for name in ("airflow_fernet_key", "airflow_jwt_secret", "airflow_api_secret_key", "airflow_database_password"):
        assert content["secrets"][name] == topology.variables()[name]
    assert "airflow_backup_private_key" not in content["secrets"]
    assert sum(content["manifest"]["rows"].values()) == backup["rows"]
    wrong = command(scheduler, f"{PROGRAM} test {path}", OTHER_KEY)
    assert wrong.returncode == 1
    assert "The private key is not the one of this archive" in wrong.stderr


def test_no_secret_is_readable_in_what_is_kept(scheduler: Host, backup: dict[str, Any]) -> None:
    for path in (f"{FOLDER}/{backup['name']}", "/var/lib/airfield/backup-secrets.age"):
        content = base64.b64decode(scheduler.check_output(f"base64 --wrap=0 {path}"))
        assert content.startswith(b"age-encryption.org/v1")
        found = [name for name, value in topology.secrets() if value.encode() in content]
        assert found == []
    # The private key is on no host, whoever looks for it.
    for name in topology.members("all"):
        line = "grep -rslF -f - /etc /var /root /run /usr/local /home /tmp"
        ssh = ["ssh", "-F", str(topology.ssh_config()), name, "sudo", "sh", "-c", shlex.quote(line)]
        assert subprocess.run(ssh, input=private_key(), capture_output=True, text=True, check=False).stdout == ""


def test_bucket_has_a_copy(scheduler: Host, backup: dict[str, Any]) -> None:
    if not topology.variable("airflow_backup_s3"):
        return
    code = """
import hashlib, json, sys
sys.path.insert(0, "/usr/local/lib/airfield")
import airfield_backup
bucket = airfield_backup.Bucket(json.load(open("/etc/airflow/backup.json"))["s3"])
name = sys.argv[1]
body = bucket.client.get_object(Bucket=bucket.bucket, Key=bucket.key(name))["Body"].read()
print(hashlib.sha256(body).hexdigest(), sorted(bucket.names()) == sorted(sys.argv[2:]))
"""
    shown = topology.python(scheduler, code, backup["name"], *archives(scheduler))
    assert shown.stdout.split() == [backup["sha256"], "True"], shown.stderr


@pytest.mark.parametrize("damage", ["truncate --size=-100", "dd bs=1 seek=5000 count=1 conv=notrunc if=/dev/zero of="])
def test_damaged_archive_is_refused(scheduler: Host, backup: dict[str, Any], damage: str) -> None:
    copy = "/tmp/damaged.tar.age"  # noqa: S108 - on a test host
    scheduler.check_output(f"cp {FOLDER}/{backup['name']} {copy} && {damage}{'' if damage.endswith('=') else ' '}{copy}")
    for words in ("test", "restore --replace"):
        done = command(scheduler, f"{PROGRAM} {words} {copy}", private_key())
        assert done.returncode == 1
        assert "The archive is damaged" in done.stderr
    scheduler.check_output(f"rm {copy}")
    assert sql(scheduler, "select count(*) from dag")[0][0] > 0


@pytest.mark.parametrize("program", ["mysqldump", "age", "mysql"] if ON_MYSQL else ["pg_dump", "age", "psql"])
def test_killed_backup_is_none_and_the_next_one_cleans_up(scheduler: Host, backup: dict[str, Any], program: str) -> None:
    before = archives(scheduler)
    # One that waits for ever, where it would be in the middle of its work.
    stuck = f'#!/bin/sh\n[ "$1" = --version ] && exec /usr/bin/{program} --version\nhead -c 100 /dev/zero\nexec sleep 600\n'
    command(scheduler, f"cat > /usr/local/bin/{program} && chmod 755 /usr/local/bin/{program}", stuck)
    try:
        scheduler.check_output(f"systemd-run --quiet --collect --unit=airfield-killed {PROGRAM} create --test")
        # The brackets, so that the shell which asks is not the answer.
        asked = f"pgrep --full '[s]h /usr/local/bin/{program}|[s]leep 600'"
        topology.wait_for(f"{program} to run", lambda: scheduler.run(asked).rc == 0, 60)
        # Not at the same time as another.
        second = command(scheduler, f"{PROGRAM} create")
        assert "Another backup or restore is running" in second.stderr
        scheduler.check_output("systemctl kill --signal=KILL airfield-killed")
        topology.wait_for("it to be dead", lambda: scheduler.run("systemctl is-active airfield-killed").rc != 0, 30)
    finally:
        scheduler.check_output(f"rm /usr/local/bin/{program}")
    names = {found["name"] for found in json.loads(scheduler.check_output(f"{PROGRAM} list"))}
    assert names == {name for name in before if name.endswith(".age")}
    scheduler.check_output("systemctl start airfield-backup")
    left = archives(scheduler)
    assert [name for name in left if name.startswith(".")] == []
    assert len(left) == len(before) + 2
    assert report(scheduler)["error"] == ""


def test_failure_is_one_of_the_unit_and_says_why(scheduler: Host, backup: dict[str, Any]) -> None:
    scheduler.check_output("mv /var/lib/airfield/backup-secrets.age /var/lib/airfield/away")
    try:
        assert scheduler.run("systemctl start airfield-backup").rc != 0
        assert "airfield-backup.service" in scheduler.check_output("systemctl --failed --plain --no-legend")
        run = play("backup")
        assert run.returncode != 0
        assert (
            "There is no new backup: [Errno 2] No such file or directory: '/var/lib/airfield/backup-secrets.age'" in run.stdout
        )
        status = play("status")
        assert status.returncode != 0
        assert "backup-secrets.age" in status.stdout
    finally:
        scheduler.check_output("mv /var/lib/airfield/away /var/lib/airfield/backup-secrets.age")
    scheduler.check_output("systemctl start airfield-backup")
    assert report(scheduler)["error"] == ""


def test_oldest_backups_go(scheduler: Host, backup: dict[str, Any]) -> None:
    settings = json.loads(scheduler.check_output("cat /etc/airflow/backup.json"))
    command(scheduler, "umask 077; cat > /run/two.json", json.dumps({**settings, "keep": 2}))
    scheduler.check_output(f"{PROGRAM} --settings /run/two.json create")
    scheduler.check_output("rm /run/two.json")
    found = json.loads(scheduler.check_output(f"{PROGRAM} list"))
    # The last one that was tested stays, however old it is.
    assert [one["name"] for one in found][2:] in ([], [report(scheduler)["tested"]["name"]])
    assert found[0]["name"] == report(scheduler)["last"]["name"]
    test_bucket_has_a_copy(scheduler, report(scheduler)["last"])


def test_scratch_database_is_empty_again(scheduler: Host, connect: topology.Connect, backup: dict[str, Any]) -> None:
    schemas = "public"
    if ON_MYSQL:
        # A schema is a database there, and what a killed test has left goes with the next one.
        schemas = "airflow_restore_test%"
        done = command(scheduler, f"{PROGRAM} create --test")
        assert done.returncode == 0, done.stderr
    query = f"select count(*) from information_schema.tables where table_schema like '{schemas}'"  # noqa: S608 - ours
    assert topology.ask_database(connect, query, "airflow_restore_test") == "0"


# Old rows --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old_rows(scheduler: Host) -> Iterator[None]:
    """Runs from 200 days ago, of a DAG that never was."""
    sql(scheduler, INSERT_ON_MYSQL if ON_MYSQL else INSERT)
    yield
    sql(scheduler, "delete from dag_run where dag_id = 'airfield_backup_old'")


def old_runs(scheduler: Host) -> int:
    return int(sql(scheduler, "select count(*) from dag_run where dag_id = 'airfield_backup_old'")[0][0])


def shown_rows(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    match = re.search(r"dag_run\W+(\d+)", run.stdout)
    return {"dag_run": int(match[1])} if match else {}


def test_check_mode_counts_old_rows_and_keeps_them(scheduler: Host, backup: dict[str, Any], old_rows: None) -> None:
    run = play("clean_database", "--check")
    assert run.returncode == 0, run.stdout[-3000:]
    # The newest of the scheduled runs of each DAG would stay, and these were started by hand.
    assert shown_rows(run) == {"dag_run": OLD_RUNS}
    assert old_runs(scheduler) == OLD_RUNS


def test_old_rows_stay_without_a_young_backup(scheduler: Host, backup: dict[str, Any], old_rows: None) -> None:
    path = "/var/lib/airfield/backup.json"
    scheduler.check_output(f"mv {path} {path}.away")
    try:
        assert scheduler.run("systemctl start airfield-database-clean").rc != 0
        journal = scheduler.check_output("journalctl -u airfield-database-clean -o cat -n 20")
        assert "Nothing was removed, since there is no backup. Remedy: `systemctl start airfield-backup`" in journal
    finally:
        scheduler.check_output(f"mv {path}.away {path}")
    assert old_runs(scheduler) == OLD_RUNS


def test_old_rows_go_and_are_counted(scheduler: Host, backup: dict[str, Any], old_rows: None) -> None:
    # As a `db clean` that was killed leaves it.
    sql(scheduler, "create table _airflow_deleted__job__20260101000000 (id int)")
    young = sql(scheduler, "select count(*) from dag_run where dag_id <> 'airfield_backup_old'")
    run = play("clean_database")
    assert run.returncode == 0, run.stdout[-3000:]
    assert shown_rows(run) == {"dag_run": OLD_RUNS}
    assert old_runs(scheduler) == 0
    assert sql(scheduler, "select count(*) from dag_run where dag_id <> 'airfield_backup_old'")[0][0] >= young[0][0]
    done = json.loads(scheduler.file("/var/lib/airflow/database-clean.json").content_string)
    assert done["rows"]["dag_run"] == OLD_RUNS
    assert done["dropped"] == ["_airflow_deleted__job__20260101000000"]
    left = sql(scheduler, "select count(*) from information_schema.tables where table_name like '\\_airflow\\_deleted%'")
    assert left == [[0]]
