"""Who may do what in SeaweedFS: its static configuration of S3 accounts."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# The old versions are for the retention, in a bucket that was once versioned.
OF_OBJECTS = [
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersion",
    "s3:GetObject",
    "s3:GetObjectTagging",
    "s3:GetObjectVersion",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
    "s3:PutObjectTagging",
]
# Read alone: whoever may version a bucket, or give it rules, keeps its objects for ever or has them removed.
OF_THE_BUCKET = [
    "s3:GetBucketLocation",
    "s3:GetBucketVersioning",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListBucketVersions",
]


def s3_accounts(buckets: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What s3.json holds: an account for each bucket, which may do anything with objects in it and nothing to the bucket.

    Not SeaweedFS' own actions: its `Write` includes versioning, lifecycle rules and CORS of the bucket (tried with 4.48).

    :arg buckets: name, access_key and secret_key of each.
    """
    identities, policies = [], []
    for bucket in buckets:
        name, resource = bucket["name"], f"arn:aws:s3:::{bucket['name']}"
        document = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": OF_OBJECTS, "Resource": [resource + "/*"]},
                {"Effect": "Allow", "Action": OF_THE_BUCKET, "Resource": [resource]},
            ],
        }
        credentials = [{"accessKey": bucket["access_key"], "secretKey": bucket["secret_key"]}]
        identities.append({"name": name, "credentials": credentials, "policyNames": [name]})
        policies.append({"name": name, "content": json.dumps(document)})
    return {"identities": identities, "policies": policies}
