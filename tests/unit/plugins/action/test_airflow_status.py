from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible import context
from ansible_collections.airfield.metal.plugins.action import airflow_status

WELL: dict[str, Any] = {
    "uptime": 9_000.0,
    "units": {
        "redis-server.service": {
            **dict.fromkeys(("load", "active", "sub", "result", "enabled", "type", "process"), ""),
            "load": "loaded",
            "active": "active",
            "sub": "running",
            "reload": False,
            "restarts": 0,
            "drop_ins": [],
            "ours": False,
        }
    },
    "journal_limit": True,
}
TIMER = {**WELL["units"]["redis-server.service"], "sub": "waiting", "has_next_run": True, "ours": True}
WELL["units"]["airfield-health.timer"] = TIMER


@pytest.fixture
def run(make_action: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    """The result and what was printed, of hosts with these results of airflow_info."""

    def run(results: dict[str, Any], **arguments: Any) -> tuple[dict[str, Any], list[str]]:
        shown: list[str] = []
        monkeypatch.setattr(airflow_status.display, "display", shown.append)
        monkeypatch.setattr(context, "CLIARGS", {"inventory": ("ours",), "args": ("playbooks/status.yml",)})
        given = {"facts": "found", "placement": {}, "services": {"redis": list(results)}, "version": "3.3.2", **arguments}
        hostvars = {name: {"found": result} if result else {} for name, result in results.items()}
        action = make_action(airflow_status, given)
        return action.run(task_vars={"ansible_play_hosts_all": list(results), "hostvars": hostvars}), shown

    return run


def test_cluster_that_is_well(run: Callable[..., Any]) -> None:
    result, shown = run({"store1": {"health": WELL, "clock_offset": 0.0}})
    assert not result.get("failed")
    assert result["status"]["well"] is True
    assert shown[0].splitlines()[-1] == "1 host, 1 service, all well"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            {
                "unreachable": True,
                "msg": 'Task failed: Data could not be sent to remote host "h". Make sure this host can be reached over ssh: '
                "ssh: connect to host h port 22: No route to host",
            },
            "ssh: connect to host h port 22: No route to host",
        ),
        # A task that must not fail registers the reason all the same.
        ({"failed": False, "msg": "Missing sudo password"}, "Missing sudo password"),
        ({"failed": False, "module_stderr": "MemoryError"}, "MemoryError"),
        ({}, "it was not looked at"),
    ],
)
def test_host_that_could_not_be_looked_at(run: Callable[..., Any], found: dict[str, Any], reason: str) -> None:
    result, shown = run({"store1": {"health": WELL}, "store2": found})
    assert (result["failed"], result["msg"]) == (True, "1 finding on 1 host")
    # Else Ansible shows the whole of it below its message.
    assert "status" not in result
    assert f"CRITICAL  store2: does not answer ({reason}). Remedy: " in shown[0]
    assert shown[0].splitlines()[2].startswith("store1")


def test_document_is_one_line_that_begins_as_no_other(run: Callable[..., Any]) -> None:
    dummy, shown = run({"store1": {}}, format="json")
    assert len(shown) == 1
    assert shown[0].startswith("{")
    assert "\n" not in shown[0]
    assert json.loads(shown[0])["findings"][0]["kind"] == "host-silent"


def test_remedy_names_the_inventory(run: Callable[..., Any]) -> None:
    dummy, shown = run({"store1": {"health": {**WELL, "units": {}}}})
    assert "`ansible-playbook -i ours site.yml`" in shown[0]
