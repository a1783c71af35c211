"""Alerts as Slack shows them: an attachment with Block Kit in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

LOG = "airfield_log"
RETRY = "airfield_retry"
# State -> Slack's colour and the words for it.
STATES = {
    "failed": ("danger", ":red_circle: Failed"),
    "success": ("good", ":large_green_circle: Succeeded"),
    "up_for_retry": ("warning", ":large_yellow_circle: Failed, will be tried again"),
    "recovered": ("good", ":large_green_circle: Back"),
}
# Slack's limit is 3000 for a section, of which the frame needs some.
SECTION = 2900

Message = dict[str, Any]


def plain(text: object) -> str:
    """Text in which Slack finds no markup of its own: its three characters, and what would end code."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")


def moment(seconds: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def logical_date(alert: Mapping[str, Any], zone: ZoneInfo) -> str:
    given = alert.get("logical_date")
    return moment(datetime.fromisoformat(given).timestamp(), zone) if given else "none"


def title(alert: Mapping[str, Any]) -> str:
    """In one line what has happened, for notifications and summaries."""
    words = STATES[alert["state"]][1]
    if alert["kind"] == "task":
        index = f"[{alert['map_index']}]" if alert["map_index"] >= 0 else ""
        return f"{words}: {plain(alert['dag'])}.{plain(alert['task'])}{index}"
    if alert["kind"] == "run":
        return f"{words}: DAG {plain(alert['dag'])}"
    return f"{words}: {plain(alert['what'])}"


def fields(alert: Mapping[str, Any], zone: ZoneInfo) -> list[tuple[str, str]]:
    """What is said of an alert, by names."""
    found = []
    if alert["kind"] in ("task", "run"):
        found += [("DAG", alert["dag"])]
    if alert["kind"] == "task":
        index = f"[{alert['map_index']}]" if alert["map_index"] >= 0 else ""
        found += [("Task", alert["task"] + index), ("Try", f"{alert['try']} of {alert['tries']}")]
    if alert["kind"] in ("task", "run"):
        found += [("Logical date", logical_date(alert, zone))]
    return [*found, ("Time", moment(alert["time"], zone)), ("Host", alert["host"])]


def build(alert: Mapping[str, Any], zone: ZoneInfo, retry: str = "", notes: Iterable[str] = ()) -> Message:
    """The message for an alert, as arguments of chat.postMessage.

    :arg retry: value of the *Retry* button; empty, there is none.
    :arg notes: what has happened since, in lines.
    """
    colour = STATES[alert["state"]][0]
    text = title(alert)
    shown = [{"type": "mrkdwn", "text": f"*{name}*\n{plain(value)[:1900]}"} for name, value in fields(alert, zone)]
    blocks: list[dict[str, Any]] = [{"type": "section", "fields": shown}]
    if alert.get("reason"):
        blocks.append(section(f"```{plain(alert['reason'])[:SECTION]}```"))
    buttons: list[dict[str, Any]] = []
    if alert.get("log_url"):
        words = "View log" if alert["kind"] == "task" else "Open in Airflow"
        buttons.append({"type": "button", "action_id": LOG, "text": button_text(words), "url": alert["log_url"]})
    if retry:
        buttons.append({"type": "button", "action_id": RETRY, "text": button_text("Retry"), "style": "primary", "value": retry})
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    notes = list(notes)
    if notes:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": note[:SECTION]} for note in notes[-10:]]})
    # The text stands above the attachment, and alone in notifications.
    return {"text": text, "attachments": [{"color": colour, "fallback": text, "blocks": blocks}]}


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000]}}


def button_text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def listed(text: str, colour: str, lines: Sequence[str]) -> Message:
    """One message for many things, as many as Slack takes."""
    shown: list[str] = []
    length = 0
    for line in lines:
        length += len(line) + 1
        if length > SECTION:
            shown.append(f"and {len(lines) - len(shown)} more")
            break
        shown.append(line)
    return {"text": text, "attachments": [{"color": colour, "fallback": text, "blocks": [section("\n".join(shown))]}]}


def summary(counts: Mapping[str, int], since: float, until: float, zone: ZoneInfo) -> Message:
    """One message instead of many.

    :arg counts: what would have been said -> how often.
    """
    total = sum(counts.values())
    text = f":red_circle: {total} more alert{'s' * (total != 1)} between {moment(since, zone)} and {moment(until, zone)}"
    lines = [f"{count} x {line}" for line, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return listed(text, "danger", lines)


def missing(titles: Sequence[str]) -> Message:
    """What may not have arrived, as Slack did not answer."""
    return listed(":grey_question: Slack did not answer: this may be missing above", "warning", titles)
