"""What people see of an alert."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airfield_slack import message

SEOUL = ZoneInfo("Asia/Seoul")
ALERT: dict[str, Any] = {
    "kind": "task",
    "state": "failed",
    "dag": "sales",
    "run": "scheduled__1",
    "task": "load",
    "map_index": -1,
    "try": 2,
    "tries": 3,
    "logical_date": "2026-11-25T00:00:00+00:00",
    "reason": "ValueError: a < b & `c` > d",
    "log_url": "http://web1:8080/dags/sales/runs/scheduled__1/tasks/load?try_number=2",
    "time": 1795633200.0,
    "host": "worker1",
}


def blocks(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    (attachment,) = found["attachments"]
    return [block for block in attachment["blocks"] if block["type"] == kind]


def shown(found: dict[str, Any]) -> dict[str, str]:
    """The fields, by name."""
    lines = [field["text"].split("*\n", 1) for block in blocks(found, "section") for field in block.get("fields", [])]
    return {name.removeprefix("*"): value for name, value in lines}


def buttons(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {button["action_id"]: button for block in blocks(found, "actions") for button in block["elements"]}


def test_failure_says_what_when_and_where() -> None:
    found = message.build(ALERT, SEOUL, "value")
    assert found["text"] == ":red_circle: Failed: sales.load"
    assert found["attachments"][0]["color"] == "danger"
    assert shown(found) == {
        "DAG": "sales",
        "Task": "load",
        "Try": "2 of 3",
        "Logical date": "2026-11-25 09:00:00 KST",
        "Time": "2026-11-26 04:00:00 KST",
        "Host": "worker1",
    }
    assert buttons(found)[message.LOG]["url"] == ALERT["log_url"]
    assert buttons(found)[message.RETRY]["value"] == "value"
    assert blocks(found, "section")[1]["text"]["text"] == "```ValueError: a &lt; b &amp; 'c' &gt; d```"


@pytest.mark.parametrize(
    ("state", "colour", "words"),
    [
        ("failed", "danger", "Failed: "),
        ("success", "good", "Succeeded: "),
        ("up_for_retry", "warning", "will be tried again: "),
    ],
)
def test_each_state_has_its_colour_and_words(state: str, colour: str, words: str) -> None:
    found = message.build({**ALERT, "state": state}, SEOUL)
    assert found["attachments"][0]["color"] == colour
    assert words in found["text"]


def test_mapped_task_has_its_index() -> None:
    found = message.build({**ALERT, "map_index": 4}, SEOUL)
    assert (found["text"][-13:], shown(found)["Task"]) == ("sales.load[4]", "load[4]")


def test_what_there_is_not_is_not_shown() -> None:
    found = message.build({**ALERT, "logical_date": None, "reason": "", "log_url": ""}, SEOUL)
    assert shown(found)["Logical date"] == "none"
    assert len(blocks(found, "section")) == 1
    assert blocks(found, "actions") == blocks(found, "context") == []


def test_notes_take_the_place_of_the_button() -> None:
    found = message.build(ALERT, SEOUL, notes=["run again by <@U1>"])
    assert set(buttons(found)) == {message.LOG}
    assert blocks(found, "context")[0]["elements"] == [{"type": "mrkdwn", "text": "run again by <@U1>"}]


def test_run_of_a_dag_has_no_task() -> None:
    run = {name: value for name, value in ALERT.items() if name not in ("task", "map_index", "try", "tries")}
    found = message.build({**run, "kind": "run"}, SEOUL)
    assert found["text"] == ":red_circle: Failed: DAG sales"
    assert set(shown(found)) == {"DAG", "Logical date", "Time", "Host"}


def test_host_has_no_dag() -> None:
    alert = {"kind": "host", "state": "recovered", "what": "Host worker2", "reason": "", "time": 0.0, "host": "web1"}
    found = message.build(alert, SEOUL)
    assert (found["text"], set(shown(found))) == (":large_green_circle: Back: Host worker2", {"Time", "Host"})


def test_names_cannot_mention_anybody() -> None:
    found = message.build({**ALERT, "dag": "<!channel>", "task": "<@U1>", "reason": "<!here>"}, SEOUL)
    assert "<" not in str(found)


def test_long_texts_stay_within_slack_s_limits() -> None:
    long = {**ALERT, "dag": "d" * 5000, "task": "t" * 5000, "reason": "<" * 5000}
    found = message.build(long, SEOUL, notes=["n" * 5000] * 50)
    assert all(len(block["text"]["text"]) <= 3000 for block in blocks(found, "section") if "text" in block)
    assert all(len(field["text"]) <= 2000 for block in blocks(found, "section") for field in block.get("fields", []))
    (context,) = blocks(found, "context")
    assert len(context["elements"]) == 10
    assert all(len(element["text"]) <= 3000 for element in context["elements"])


def test_summary_counts_what_was_not_said() -> None:
    found = message.summary({"Failed: a.b": 2, "Failed: c.d": 40}, 0.0, 60.0, SEOUL)
    assert found["text"] == ":red_circle: 42 more alerts between 1970-01-01 09:00:00 KST and 1970-01-01 09:01:00 KST"
    assert blocks(found, "section")[0]["text"]["text"] == "40 x Failed: c.d\n2 x Failed: a.b"


def test_summary_of_very_many_says_that_there_are_more() -> None:
    found = message.summary({f"Failed: dag_{number:05}.task": 1 for number in range(1000)}, 0.0, 60.0, SEOUL)
    text = blocks(found, "section")[0]["text"]["text"]
    lines = text.splitlines()
    assert len(text) <= 3000
    assert lines[-1] == f"and {1000 - len(lines) + 1} more"
