"""Redis, PostgreSQL and SeaweedFS as this collection sets them up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import botocore.exceptions
import pytest
import topology
from testinfra.host import Host

testinfra_hosts = topology.backends("redis")

ADDRESS = topology.address(topology.members("redis")[0])

# Gives Redis a command as a worker could.
REDIS = """
import re, redis, sys
url = re.search('BROKER_URL="(.*)"', open("/etc/airflow/worker.env").read()).group(1)
try:
    print(redis.Redis.from_url(url).execute_command(*sys.argv[1:]))
except redis.exceptions.ResponseError as error:
    print("refused:", error)
"""


def test_redis_keeps_what_it_is_given(host: Host) -> None:
    configuration = host.file("/etc/redis/redis.conf")
    assert configuration.mode == 0o640
    for line in ("appendonly yes", "maxmemory-policy noeviction", f"bind {ADDRESS}", "protected-mode yes"):
        assert line in configuration.content_string.splitlines()
    assert topology.variables()["airflow_broker_password"] not in configuration.content_string


@pytest.mark.parametrize("command", ["FLUSHALL", "CONFIG GET dir", "KEYS *", "DEBUG SLEEP 0", "MODULE LIST", "SHUTDOWN"])
def test_redis_refuses_what_celery_does_not_need(connect: topology.Connect, command: str) -> None:
    worker = connect(topology.members("airflow_worker")[0])
    assert topology.python(worker, REDIS, "PING").stdout.strip() == "True"
    assert topology.python(worker, REDIS, *command.split()).stdout.startswith("refused:")


def test_redis_has_no_other_way_in(host: Host) -> None:
    assert "NOAUTH" in host.run(f"redis-cli -h {ADDRESS} PING").stdout
    assert "WRONGPASS" in host.run(f"REDISCLI_AUTH=wrong redis-cli -h {ADDRESS} --user airflow PING 2>&1").stdout


@pytest.mark.where("postgresql")
def test_databases_are_apart(connect: topology.Connect) -> None:
    owners = topology.ask_database(
        connect, "select datname, pg_get_userbyid(datdba) from pg_database where datname like 'airflow%' order by 1"
    )
    scratch = "airflow_restore_test|airflow_restore_test"
    assert owners.splitlines() == ["airflow|airflow", scratch, "airflow_results|airflow_results"]
    kinds = topology.ask_database(
        connect, "select left(rolpassword, 13), rolsuper from pg_authid where rolname like 'airflow%'"
    )
    assert set(kinds.splitlines()) == {"SCRAM-SHA-256|f"}


@pytest.mark.where("postgresql")
def test_database_lets_in_only_whom_it_knows(connect: topology.Connect) -> None:
    rules = topology.ask_database(
        connect, "select type, database[1], user_name[1], address from pg_hba_file_rules where type <> 'local'"
    )
    control = [topology.address(name) for name in topology.members(*topology.this_series().database_clients)]
    workers = [topology.address(name) for name in topology.members("airflow_scheduler", "airflow_worker")]
    assert sorted(rules.splitlines()) == sorted(
        [f"hostssl|airflow|airflow|{address}" for address in control]
        + [f"hostssl|airflow_results|airflow_results|{address}" for address in workers]
        + [f"hostssl|airflow_restore_test|airflow_restore_test|{address}" for address in control[:1]]
    )
    encrypted = topology.ask_database(
        connect, "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where client_addr is not null"
    )
    assert encrypted == "t"


@pytest.fixture(scope="module")
def bucket() -> Any:
    """The bucket of the logs, with the workers' own account."""
    return boto3.client(
        "s3",
        endpoint_url=f"http://{ADDRESS}:8333",
        region_name="us-east-1",
        aws_access_key_id=topology.variables()["airflow_logs_access_key"],
        aws_secret_access_key=topology.variables()["airflow_logs_secret_key"],
    )


def test_bucket_takes_and_gives(bucket: Any) -> None:
    bucket.put_object(Bucket="airflow-logs", Key="probe", Body=b"probe")
    assert bucket.get_object(Bucket="airflow-logs", Key="probe")["Body"].read() == b"probe"
    bucket.delete_object(Bucket="airflow-logs", Key="probe")


def test_account_of_the_logs_is_for_this_bucket_alone(bucket: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        bucket.create_bucket(Bucket="other")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        bucket.put_object(Bucket="other", Key="x", Body=b"")


# What would keep objects for ever, remove them, or show them to others.
SETTINGS: dict[str, Callable[[Any], Any]] = {
    "versioning": lambda s3: s3.put_bucket_versioning(Bucket="airflow-logs", VersioningConfiguration={"Status": "Enabled"}),
    "lifecycle": lambda s3: s3.put_bucket_lifecycle_configuration(
        Bucket="airflow-logs",
        LifecycleConfiguration={
            "Rules": [{"ID": "x", "Filter": {"Prefix": ""}, "Status": "Enabled", "Expiration": {"Days": 1}}]
        },
    ),
    "no lifecycle": lambda s3: s3.delete_bucket_lifecycle(Bucket="airflow-logs"),
    "cors": lambda s3: s3.put_bucket_cors(
        Bucket="airflow-logs", CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}
    ),
    "tags": lambda s3: s3.put_bucket_tagging(Bucket="airflow-logs", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}),
    "policy": lambda s3: s3.put_bucket_policy(Bucket="airflow-logs", Policy='{"Version": "2012-10-17", "Statement": []}'),
    "acl": lambda s3: s3.put_bucket_acl(Bucket="airflow-logs", ACL="public-read"),
    "lock": lambda s3: s3.put_object_lock_configuration(
        Bucket="airflow-logs", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    ),
    "retention": lambda s3: s3.put_object_retention(
        Bucket="airflow-logs", Key="probe", Retention={"Mode": "COMPLIANCE", "RetainUntilDate": "2100-01-01"}
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_account_of_the_logs_may_change_no_setting_of_the_bucket(setting: str, bucket: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        SETTINGS[setting](bucket)
