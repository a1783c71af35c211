"""Accounts of SeaweedFS: a bucket's account reaches that bucket's objects, and no setting of it."""

from __future__ import annotations

import json

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import object_store

BUCKETS = [
    {"name": "airflow-logs", "access_key": "logs-key", "secret_key": 'l"s\\'},
    {"name": "backups", "access_key": "backups-key", "secret_key": "b"},
]


def test_every_bucket_has_one_account_with_one_policy() -> None:
    accounts = object_store.s3_accounts(BUCKETS)
    assert accounts["identities"] == [
        {
            "name": bucket["name"],
            "credentials": [{"accessKey": bucket["access_key"], "secretKey": bucket["secret_key"]}],
            "policyNames": [bucket["name"]],
        }
        for bucket in BUCKETS
    ]
    assert [policy["name"] for policy in accounts["policies"]] == ["airflow-logs", "backups"]


def test_policy_names_no_other_bucket_and_nothing_that_changes_one() -> None:
    for policy in object_store.s3_accounts(BUCKETS)["policies"]:
        for statement in json.loads(policy["content"])["Statement"]:
            resource = f"arn:aws:s3:::{policy['name']}"
            objects = statement["Resource"] == [resource + "/*"]
            assert objects or statement["Resource"] == [resource]
            for action in statement["Action"]:
                assert action.startswith(("s3:Get", "s3:List")) or (objects and ("Object" in action or "Upload" in action))


@pytest.mark.parametrize(
    "action",
    [
        "PutBucketVersioning",
        "PutLifecycleConfiguration",
        "PutBucketCORS",
        "PutBucketTagging",
        "PutBucketPolicy",
        "DeleteBucket",
    ],
)
def test_settings_of_a_bucket_are_nobodys(action: str) -> None:
    assert f"s3:{action}" not in json.dumps(object_store.s3_accounts(BUCKETS))
