from __future__ import annotations

import datetime
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.exceptions
import pytest

FILE = Path(__file__).parents[5] / "roles/airflow_logs/files/log_retention.py"
SPEC = importlib.util.spec_from_file_location("log_retention", FILE)
assert SPEC is not None
assert SPEC.loader is not None
log_retention = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(log_retention)

NOW = 1_800_000_000
DAY = 86400
OTHERS = {"ID": "theirs", "Filter": {"Prefix": "x/"}, "Status": "Enabled", "Expiration": {"Days": 5}}
OURS = {"ID": log_retention.RULE, "Filter": {"Prefix": "here/dag_id="}, "Status": "Enabled", "Expiration": {"Days": 30}}
OLD, YOUNG = "here/dag_id=a/1.log", "here/dag_id=a/2.log"
CONNECTION = {"conn_type": "aws", "login": "logs", "password": "secret", "extra": {"region_name": "r", "endpoint_url": "u"}}


def refuse(operation: str, code: str) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


class S3:
    """A store with as much of S3 as is used here."""

    def __init__(self) -> None:
        self.buckets: set[str] = {"logs"}
        self.objects: dict[str, float] = {}
        self.lifecycle: list[dict[str, Any]] = []
        self.denied: dict[str, str] = {}
        self.forgets = False
        self.calls: list[str] = []
        self.deletions: list[list[str]] = []
        self.undeletable: set[str] = set()
        self.versioning = ""
        # (key, version) -> when it was written; those of marks of deletion begin with "mark".
        self.versions: dict[tuple[str, str], float] = {}

    def __getattr__(self, name: str) -> Any:
        """An operation; what a test denies raises."""

        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            if name in self.denied:
                raise refuse(name, self.denied[name])
            return getattr(self, "do_" + name)(arguments)

        if name.startswith("do_"):
            raise AttributeError(name)
        return call

    def do_head_bucket(self, arguments: dict[str, Any]) -> None:
        if arguments["Bucket"] not in self.buckets:
            raise refuse("HeadBucket", "404")

    def do_create_bucket(self, arguments: dict[str, Any]) -> None:
        self.buckets.add(arguments.pop("Bucket"))
        self.place = arguments

    def do_get_bucket_lifecycle_configuration(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not self.lifecycle:
            raise refuse("GetBucketLifecycleConfiguration", "NoSuchLifecycleConfiguration")
        return {"Rules": [dict(rule) for rule in self.lifecycle]}

    def do_put_bucket_lifecycle_configuration(self, arguments: dict[str, Any]) -> None:
        if not self.forgets:
            self.lifecycle = arguments["LifecycleConfiguration"]["Rules"]

    def do_delete_bucket_lifecycle(self, arguments: dict[str, Any]) -> None:
        self.lifecycle = []

    def do_get_bucket_versioning(self, arguments: dict[str, Any]) -> dict[str, str]:
        return {"Status": self.versioning} if self.versioning else {}

    def get_paginator(self, name: str) -> Any:
        pages = {"list_objects_v2": self.paginate, "list_object_versions": self.paginate_versions}
        return SimpleNamespace(paginate=pages[name])

    def paginate_versions(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {}
        for (key, version), written in self.versions.items():
            kind = "DeleteMarkers" if version.startswith("mark") else "Versions"
            entry = {"Key": key, "VersionId": version, "LastModified": datetime.datetime.fromtimestamp(written, datetime.UTC)}
            page.setdefault(kind, []).append(entry)
        yield page

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Pages of two, as a store that is asked goes on after the last name of the page before."""
        last = ""
        while page := sorted(key for key in self.objects if key > last and key.startswith(arguments["Prefix"]))[:2]:
            last = page[-1]
            times = {key: datetime.datetime.fromtimestamp(self.objects[key], datetime.UTC) for key in page}
            yield {"Contents": [{"Key": key, "LastModified": written} for key, written in times.items()]}
        yield {}

    def do_delete_objects(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.versioning:
            for entry in arguments["Delete"]["Objects"]:
                del self.versions[entry["Key"], entry["VersionId"]]
            return {}
        keys = [entry["Key"] for entry in arguments["Delete"]["Objects"]]
        self.deletions.append(keys)
        for key in set(keys) - self.undeletable:
            del self.objects[key]
        errors = [{"Key": key, "Code": "AccessDenied", "Message": "Access Denied"} for key in keys if key in self.undeletable]
        return {"Errors": errors} if errors else {}


@pytest.fixture
def s3() -> S3:
    return S3()


@pytest.fixture
def run(s3: S3, monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> Any:
    """Run the program on the store; returns what it says when it fails."""
    monkeypatch.setattr(log_retention, "connect", lambda connection: s3)
    monkeypatch.setattr(log_retention, "time", clock)
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_LOGS", json.dumps(CONNECTION))

    def run(by: str = "timer", *more: str) -> str:
        usual = ["--bucket=logs", "--prefix=here", "--region=us-east-1", "--days=30", "--rate=100", f"--now={NOW}"]
        monkeypatch.setattr(sys, "argv", ["log_retention.py", *usual, f"--by={by}", *more])
        try:
            log_retention.main()
        except SystemExit as end:
            return str(end.code)
        return ""

    clock.time = lambda: clock.now
    return run


def test_client_is_that_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("boto3.client", lambda service, **arguments: given.update(arguments))
    log_retention.connect(CONNECTION)
    wanted = {"region_name": "r", "endpoint_url": "u", "aws_access_key_id": "logs", "aws_secret_access_key": "secret"}
    assert given.items() >= wanted.items()


# The bucket -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "place"),
    [("us-east-1", {}), ("ap-northeast-2", {"CreateBucketConfiguration": {"LocationConstraint": "ap-northeast-2"}})],
)
def test_missing_bucket_is_made(run: Any, s3: S3, region: str, place: dict[str, Any]) -> None:
    s3.buckets.clear()
    assert run("timer", f"--region={region}") == ""
    assert (s3.buckets, s3.place) == ({"logs"}, place)


def test_bucket_that_may_not_be_made_is_named_with_the_remedy(run: Any, s3: S3) -> None:
    s3.buckets.clear()
    s3.denied["create_bucket"] = "AccessDenied"
    assert run() == (
        "The bucket logs is not there, and this account may not make it (AccessDenied). Remedy: create it, or correct "
        "airflow_logs.bucket."
    )


def test_bucket_that_one_may_not_look_at_is_there(run: Any, s3: S3) -> None:
    s3.denied["head_bucket"] = "403"
    assert run() == ""
    assert "create_bucket" not in s3.calls


@pytest.mark.parametrize("by", ["timer", "lifecycle"])
def test_what_the_store_says_is_told_with_a_remedy(run: Any, s3: S3, by: str) -> None:
    s3.denied["head_bucket"] = "SlowDown"
    said = run(by)
    assert said.startswith("The logs in the bucket logs are not looked after: An error occurred (SlowDown)")
    assert ("or set airflow_log_retention to timer" in said) is (by == "lifecycle")


# The rule -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [[], [OTHERS], [OTHERS, {**OURS, "Expiration": {"Days": 3}}]])
def test_rule_is_set_beside_those_of_others(run: Any, s3: S3, before: list[dict[str, Any]]) -> None:
    s3.lifecycle = before
    assert run("lifecycle") == ""
    assert s3.lifecycle == [rule for rule in before if rule is OTHERS] + [OURS]
    assert s3.deletions == []


def test_rule_that_is_there_is_not_set_again(run: Any, s3: S3) -> None:
    s3.lifecycle = [OURS, OTHERS]
    assert run("lifecycle") == ""
    assert "put_bucket_lifecycle_configuration" not in s3.calls


def test_rule_that_does_not_read_back_is_a_failure(run: Any, s3: S3) -> None:
    s3.forgets = True
    assert run("lifecycle").startswith("The store has taken the rule for the bucket logs and shows another: [].")


@pytest.mark.parametrize("operation", ["get_bucket_lifecycle_configuration", "put_bucket_lifecycle_configuration"])
def test_rule_that_may_not_be_set_is_a_failure(run: Any, s3: S3, operation: str) -> None:
    s3.denied[operation] = "AccessDenied"
    assert "AccessDenied" in run("lifecycle")


@pytest.mark.parametrize("days", ["0", "30"])
@pytest.mark.parametrize("others", [[], [OTHERS]])
def test_timer_takes_the_rule_away(run: Any, s3: S3, others: list[dict[str, Any]], days: str) -> None:
    s3.lifecycle = [*others, OURS]
    assert run("timer", f"--days={days}") == ""
    assert s3.lifecycle == others


def test_logs_that_stay_for_good_have_no_rule(run: Any, s3: S3) -> None:
    s3.lifecycle = [OTHERS, OURS]
    assert run("lifecycle", "--days=0") == ""
    assert s3.lifecycle == [OTHERS]


def test_timer_needs_no_rules(run: Any, s3: S3) -> None:
    s3.denied["get_bucket_lifecycle_configuration"] = "NotImplemented"
    assert run() == ""


# The timer ------------------------------------------------------------------------------------------------------------


def test_old_logs_are_deleted_and_nothing_else(run: Any, s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    others = ["elsewhere/dag_id=a/1.log", "here/report.csv", "hereafter/dag_id=a/1.log", "dag_id=a/1.log"]
    s3.objects = {**dict.fromkeys([*others, OLD], NOW - 31 * DAY), YOUNG: NOW - 29 * DAY}
    assert run() == ""
    assert sorted(s3.objects) == sorted([*others, YOUNG])
    assert capsys.readouterr().out == "Deleted 1 logs that were older than 30 days.\n"


def test_without_a_prefix_only_logs_of_tasks_are_deleted(run: Any, s3: S3) -> None:
    s3.objects = {"backup.tar": NOW - 31 * DAY, "dag_id=a/1.log": NOW - 31 * DAY}
    assert run("timer", "--prefix=") == ""
    assert list(s3.objects) == ["backup.tar"]


def test_all_pages_are_looked_at_and_the_rate_is_kept(run: Any, s3: S3, clock: SimpleNamespace) -> None:
    s3.objects = {f"here/dag_id=a/{number}.log": NOW - 31 * DAY for number in range(7)}
    before = clock.now
    assert run("timer", "--rate=1") == ""
    assert (s3.objects, [len(keys) for keys in s3.deletions], clock.now - before) == ({}, [1] * 7, 7)


def test_logs_that_stay_for_good_are_not_deleted(run: Any, s3: S3) -> None:
    s3.objects = {OLD: 0}
    assert run("timer", "--days=0") == ""
    assert OLD in s3.objects


def test_interrupted_run_is_finished_by_the_next(run: Any, s3: S3) -> None:
    s3.objects = {f"here/dag_id=a/{number}.log": NOW - 31 * DAY for number in range(5)}
    s3.undeletable = {"here/dag_id=a/3.log"}
    assert run() == (
        "1 logs in the bucket logs could not be deleted, here/dag_id=a/3.log among them: Access Denied. Remedy: let this "
        "account delete there (s3:DeleteObject)."
    )
    assert sorted(s3.objects) == ["here/dag_id=a/3.log", "here/dag_id=a/4.log"]
    s3.undeletable = set()
    assert run() == ""
    assert s3.objects == {}


@pytest.mark.parametrize("versioning", ["Enabled", "Suspended"])
def test_versions_of_old_logs_are_deleted_for_good(
    run: Any, s3: S3, versioning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.versioning = versioning
    old, young = NOW - 31 * DAY, NOW - DAY
    kept = {(OLD, "current"): young, (YOUNG, "current"): young, ("elsewhere/1.log", "old"): old}
    s3.versions = {**kept, (OLD, "old"): old, (OLD, "mark"): old, (YOUNG, "null"): old}
    assert run() == ""
    assert s3.versions == kept
    assert f"has versions ({versioning})" in capsys.readouterr().out


def test_who_may_not_ask_for_versions_deletes_logs(run: Any, s3: S3) -> None:
    s3.denied = {"get_bucket_versioning": "AccessDenied"}
    s3.objects = {OLD: NOW - 31 * DAY}
    assert run() == ""
    assert s3.objects == {}
