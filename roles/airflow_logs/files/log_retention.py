"""Keep the bucket of the task logs: make it where there is none, and let no log in it grow older than it may.

A timer starts this on one host, with the release's own Python. Either the store removes old logs by a rule of the bucket, which
is set and read back, or this removes them itself. It remembers nothing: a run that was interrupted is finished by the next.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

# The rule of ours; others on the bucket are not touched.
RULE = "airfield-log-retention"
# What S3 deletes at once, at most.
BATCH = 1000


class BucketError(Exception):
    """Something for people to put right."""


def connect(connection: dict[str, Any]) -> Any:
    """A client for S3, by the connection as Airflow's processes have it."""
    import boto3
    from botocore.config import Config

    extra = connection["extra"]
    return boto3.client(
        "s3",
        region_name=extra["region_name"],
        endpoint_url=extra.get("endpoint_url"),
        aws_access_key_id=connection.get("login"),
        aws_secret_access_key=connection.get("password"),
        config=Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 3}),
    )


def code(error: Any) -> str:
    """What S3 calls an error; a number where it only says that."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


class Bucket:
    """The bucket, and the prefix below which the logs of tasks are: nothing else is touched."""

    def __init__(self, client: Any, name: str, prefix: str) -> None:
        self.client, self.name = client, name
        self.prefix = f"{prefix.strip('/')}/dag_id=".lstrip("/")

    def provide(self, region: str) -> None:
        """Make the bucket where it is missing."""
        from botocore.exceptions import ClientError

        try:
            self.client.head_bucket(Bucket=self.name)
        except ClientError as error:
            # Who may write logs need not be allowed to look at the bucket.
            if code(error) == "403":
                return
            if code(error) not in {"404", "NoSuchBucket"}:
                raise
        else:
            return
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self.client.create_bucket(Bucket=self.name, **place)
        except ClientError as error:
            raise BucketError(
                f"The bucket {self.name} is not there, and this account may not make it ({code(error)}). Remedy: create it, or "
                "correct airflow_logs.bucket."
            ) from error
        print(f"Made the bucket {self.name}.")

    def rules(self) -> list[dict[str, Any]]:
        """The rules of the bucket."""
        from botocore.exceptions import ClientError

        try:
            rules: list[dict[str, Any]] = self.client.get_bucket_lifecycle_configuration(Bucket=self.name)["Rules"]
        except ClientError as error:
            if code(error) == "NoSuchLifecycleConfiguration":
                return []
            raise
        return rules

    def set_rule(self, days: int) -> None:
        """Let the store remove logs of that age; 0 days: it no longer does."""
        before = self.rules()
        ours = {"ID": RULE, "Filter": {"Prefix": self.prefix}, "Status": "Enabled", "Expiration": {"Days": days}}
        wanted = [rule for rule in before if rule.get("ID") != RULE] + ([ours] if days else [])
        if sorted(wanted, key=str) == sorted(before, key=str):
            return
        if wanted:
            self.client.put_bucket_lifecycle_configuration(Bucket=self.name, LifecycleConfiguration={"Rules": wanted})
        else:
            self.client.delete_bucket_lifecycle(Bucket=self.name)
        found = [rule for rule in self.rules() if rule.get("ID") == RULE]
        if found != ([ours] if days else []):
            raise BucketError(
                f"The store has taken the rule for the bucket {self.name} and shows another: {found}. Remedy: set "
                "airflow_log_retention to timer."
            )

    def drop_rule(self) -> None:
        """Take the rule away that an earlier run may have set; a store without rules has none."""
        from botocore.exceptions import ClientError

        try:
            before = self.rules()
        except ClientError:
            return
        if any(rule.get("ID") == RULE for rule in before):
            self.set_rule(0)

    def versioning(self) -> str:
        """Whether the bucket keeps what is deleted: empty, Enabled or Suspended; empty also where one may not ask."""
        from botocore.exceptions import ClientError

        try:
            return str(self.client.get_bucket_versioning(Bucket=self.name).get("Status") or "")
        except ClientError:
            return ""

    def entries(self, versions: bool) -> Iterator[list[dict[str, Any]]]:
        """Pages of what is below the prefix; with all versions, old ones and marks of deletion are there, too."""
        paginator = self.client.get_paginator("list_object_versions" if versions else "list_objects_v2")
        for page in paginator.paginate(Bucket=self.name, Prefix=self.prefix):
            kinds = ("Versions", "DeleteMarkers") if versions else ("Contents",)
            yield [entry for kind in kinds for entry in page.get(kind, [])]

    def delete(self, until: float, rate: int) -> int:
        """Delete logs that were written before a moment, so many a second; returns how many.

        In a bucket with versions each of them, or nothing would ever be freed: whoever may write logs may have turned that on.
        """
        count = 0
        versioning = self.versioning()
        if versioning:
            print(f"The bucket {self.name} has versions ({versioning}): old ones are deleted, too.")
        names = ("Key", "VersionId") if versioning else ("Key",)
        for entries in self.entries(bool(versioning)):
            old = [entry for entry in entries if entry["LastModified"].timestamp() < until]
            step = min(rate, BATCH)
            for start in range(0, len(old), step):
                keys = [
                    {name: entry[name] for name in names}
                    for entry in old[start : start + step]
                    if entry["Key"].startswith(self.prefix)
                ]
                answer = self.client.delete_objects(Bucket=self.name, Delete={"Objects": keys, "Quiet": True})
                if answer.get("Errors"):
                    first = answer["Errors"][0]
                    raise BucketError(
                        f"{len(answer['Errors'])} logs in the bucket {self.name} could not be deleted, {first['Key']} among "
                        f"them: {first.get('Message') or first.get('Code')}. Remedy: let this account delete there "
                        "(s3:DeleteObject)."
                    )
                count += len(keys)
                time.sleep(len(keys) / rate)
        return count


def keep(bucket: Bucket, arguments: argparse.Namespace) -> None:
    """All that is to be done for the bucket."""
    bucket.provide(arguments.region)
    if arguments.by == "lifecycle":
        bucket.set_rule(arguments.days)
        return
    bucket.drop_rule()
    if arguments.days:
        count = bucket.delete(arguments.now - arguments.days * 86400, arguments.rate)
        print(f"Deleted {count} logs that were older than {arguments.days} days.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", default="", help="folder of the logs in the bucket")
    parser.add_argument("--region", required=True, help="where the bucket is made")
    parser.add_argument("--days", type=int, required=True, help="age beyond which logs go; 0: they stay")
    parser.add_argument("--by", choices=["lifecycle", "timer"], required=True, help="who removes them")
    parser.add_argument("--rate", type=int, required=True, help="logs to delete in a second, at most")
    parser.add_argument("--now", type=float, default=time.time(), help="the moment that ages are counted to")
    arguments = parser.parse_args()
    from botocore.exceptions import BotoCoreError, ClientError

    client = connect(json.loads(os.environ["AIRFLOW_CONN_AIRFLOW_LOGS"]))
    try:
        keep(Bucket(client, arguments.bucket, arguments.prefix), arguments)
    except BucketError as error:
        sys.exit(str(error))
    except (BotoCoreError, ClientError) as error:
        remedy = "let the account of airflow_logs_access_key do that, or see that the store answers"
        if arguments.by == "lifecycle":
            remedy += "; or set airflow_log_retention to timer, which needs no rules"
        sys.exit(f"The logs in the bucket {arguments.bucket} are not looked after: {error} Remedy: {remedy}.")


if __name__ == "__main__":
    main()
