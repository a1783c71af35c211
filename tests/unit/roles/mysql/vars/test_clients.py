"""Who may connect to MySQL, by the inventory and by what an earlier run has written there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROLE = Path(__file__).parents[5] / "roles/mysql"
GROUPS = {
    "airflow": ["s1", "w1", "w2"],
    "airflow_scheduler": ["s1"],
    "airflow_webserver": ["s1"],
    "airflow_worker": ["w1", "w2"],
}
PASSWORDS = {
    "airflow_database_password": "d",
    "airflow_result_backend_password": "r",
    "airflow_backup_test_password": "t",
}


@pytest.fixture
def ask(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """The value of a variable of the role; `seen` are the hosts whose addresses the run knows."""

    def ask(name: str, seen: str = "s1 w1 w2", **variables: Any) -> Any:
        hostvars: dict[str, dict[str, Any]] = {host: {"inventory_hostname": host} for host in GROUPS["airflow"]}
        for host in seen.split():
            hostvars[host]["__airflow_host"] = {"address": f"10.0.0.{host}"}
        known = {**PASSWORDS, "groups": GROUPS, "hostvars": hostvars, **variables}
        return evaluate(name, [ROLE / "defaults/main.yml", ROLE / "vars/main.yml"], known)

    return ask


def names(accounts: list[dict[str, Any]]) -> list[str]:
    return sorted(f"{account['owner']}@{account['address']}" for account in accounts)


def test_each_owner_comes_from_its_clients_alone(ask: Callable[..., Any]) -> None:
    accounts = ask("__mysql_accounts")
    expected = [
        "airflow@10.0.0.s1",
        "airflow_restore_test@10.0.0.s1",
        *(f"airflow_results@10.0.0.{n}" for n in ("s1", "w1", "w2")),
    ]
    assert names(accounts) == sorted(expected)
    (worker,) = (account for account in accounts if account["client"] == "w1")
    assert worker["privileges"] == {"airflow_results.*": "ALL"}
    assert worker["password"] == "r"
    (scheduler,) = (account for account in accounts if account["owner"] == "airflow")
    assert list(scheduler["privileges"]) == ["airflow.*", "airflow_airfield_restored.*", "airflow_airfield_replaced.*"]


def test_workers_of_airflow_2_come_to_the_metadata_too(ask: Callable[..., Any]) -> None:
    accounts = ask("__mysql_accounts", __airflow_workers_have_database=True)
    assert {f"airflow@10.0.0.{host}" for host in ("s1", "w1", "w2")} < set(names(accounts))


def test_no_backup_no_scratch_database(ask: Callable[..., Any]) -> None:
    assert "airflow_restore_test@10.0.0.s1" not in names(ask("__mysql_accounts", airflow_backup_enabled=False))


def test_one_owner_of_both_databases_is_one_account(ask: Callable[..., Any]) -> None:
    results = {"user": "airflow"}
    (account,) = (
        account
        for account in ask("__mysql_accounts", airflow_result_backend=results)
        if (account["owner"], account["client"]) == ("airflow", "s1")
    )
    assert {"airflow.*", "airflow_results.*"} < set(account["privileges"])


def state(*accounts: str) -> dict[str, Any]:
    rows = [dict(zip(("owner", "address", "client"), account.split(), strict=True)) for account in accounts]
    return {"query_result": [rows]}


def test_account_of_a_host_that_left_goes_and_of_one_that_was_not_seen_stays(ask: Callable[..., Any]) -> None:
    found = state(
        "airflow_results 10.0.0.w1 w1",
        "airflow_results 10.0.0.w2 w2",
        "airflow_results 10.0.0.w3 w3",
        # It has moved, and it was renamed.
        "airflow_results 10.0.9.9 w1",
        "other 10.0.0.w1 w1",
    )
    gone = ["airflow_results@10.0.0.w3", "airflow_results@10.0.9.9", "other@10.0.0.w1"]
    assert names(ask("__mysql_abandoned", __mysql_state=found)) == sorted(gone)
    # What a run that is limited to others has not seen is nobody's to remove, and is not made.
    assert names(ask("__mysql_abandoned", seen="s1 w1", __mysql_state=found)) == sorted(gone)
    assert "airflow_results@10.0.0.w2" not in names(ask("__mysql_accounts", seen="s1 w1"))


def test_worker_that_leaves_is_shut_out_though_the_inventory_has_it(ask: Callable[..., Any]) -> None:
    found = state("airflow_results 10.0.0.w1 w1", "airflow_results 10.0.0.w2 w2")
    leaving = {"__airflow_workers_leaving": ["w2"], "__mysql_state": found}
    assert names(ask("__mysql_abandoned", **leaving)) == ["airflow_results@10.0.0.w2"]
    assert names(ask("__mysql_abandoned", seen="s1 w1", **leaving)) == ["airflow_results@10.0.0.w2"]


def test_server_that_was_not_asked_has_no_abandoned_account(ask: Callable[..., Any]) -> None:
    assert ask("__mysql_abandoned", __mysql_state={"skipped": True}) == []
