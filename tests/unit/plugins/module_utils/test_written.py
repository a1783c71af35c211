from __future__ import annotations

import hashlib
import json

from ansible_collections.airfield.metal.plugins.module_utils import written


def test_record_has_hash_mode_and_owner_of_each_file_and_no_content() -> None:
    files = [
        {"path": "/etc/a.env", "content": "PASSWORD=hunter2", "mode": "0600"},
        {"path": "/etc/b", "content": "", "owner": "redis", "group": "adm"},
    ]
    entry = written.record("/var/lib/airfield/x.written.json", files)
    assert (entry["path"], entry["mode"]) == ("/var/lib/airfield/x.written.json", "0600")
    assert "hunter2" not in entry["content"]
    assert json.loads(entry["content"]) == {
        "/etc/a.env": {"sha256": hashlib.sha256(b"PASSWORD=hunter2").hexdigest(), "mode": "0600", "owner": "root:root"},
        "/etc/b": {"sha256": hashlib.sha256(b"").hexdigest(), "mode": "0644", "owner": "redis:adm"},
    }


def test_record_is_where_the_facts_look_for_it() -> None:
    assert written.path_of("airflow-worker") == "/var/lib/airfield/airflow-worker.written.json"
