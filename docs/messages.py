#!/usr/bin/env python
"""Write docs/slack-messages.json, the messages of docs/operators.md as Slack gets them; with --check, only compare.

With --image, also draw them with Chromium as docs/slack-messages.png, as near to Slack as a few lines of CSS come.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "roles/airflow/files/airfield_slack/src"))

from airfield_slack import message  # noqa: E402 - found by the line before

JSON, IMAGE = DOCS / "slack-messages.json", DOCS / "slack-messages.png"
ZONE = ZoneInfo("Asia/Seoul")
RUN = "scheduled__2026-11-25T00:00:00+00:00"
ALERT: dict[str, Any] = {
    "kind": "task",
    "state": "failed",
    "dag": "sales_daily",
    "run": RUN,
    "task": "load",
    "map_index": -1,
    "try": 3,
    "tries": 3,
    "logical_date": "2026-11-25T00:00:00+00:00",
    "reason": "FileNotFoundError: /srv/shared/sales-2026-11-25.csv",
    "log_url": f"http://web1:8080/dags/sales_daily/runs/{RUN}/tasks/load?try_number=3",
    "time": 1_795_573_323.0,
    "host": "worker2",
}
HOST = {"kind": "host", "state": "failed", "what": "Host worker3", "time": 1_795_600_000.0, "host": "web1"}
AGAIN = ":arrows_counterclockwise: <@U02ABCDEF> has had it run again at 2026-11-25 11:26:40 KST"
ENDED = ":white_check_mark: It succeeded at 2026-11-25 11:27:31 KST, run again by <@U02ABCDEF>"
FLOOD = {":red_circle: Failed: sales_daily.load": 87, ":red_circle: Failed: stock.count": 3}
EXAMPLES: dict[str, message.Message] = {
    "a task has failed for good": message.build(ALERT, ZONE, "the signed value"),
    "somebody has pressed Retry": message.build(ALERT, ZONE, notes=[AGAIN]),
    "and it went well": message.build(ALERT, ZONE, notes=[ENDED]),
    "a success, where asked for": message.build(ALERT | {"state": "success", "reason": ""}, ZONE),
    "a host is silent": message.build(HOST | {"reason": "Nothing was heard of it for 5 minutes."}, ZONE),
    "Slack had not answered": message.missing([message.title(ALERT)]),
    "a flood": message.summary(FLOOD, ALERT["time"], ALERT["time"] + 42, ZONE),
}
COLOURS = {"danger": "#a30200", "good": "#2eb886", "warning": "#daa038"}
# What Debian's fonts have instead.
EMOJI = {
    "red_circle": '<span style="color: #dd2e44">●</span>',
    "large_green_circle": '<span style="color: #78b159">●</span>',
    "arrows_counterclockwise": "↻",
    "grey_question": "?",
    "white_check_mark": '<span style="color: #78b159">✔</span>',
}
STYLE = """
body {font: 15px sans-serif; width: 720px; margin: 24px; color: #1d1c1d}
h2 {font-size: 13px; color: #616061; margin: 28px 0 6px}
pre {background: #f8f8f8; padding: 8px}
button {font: bold 13px sans-serif; background: #fff; border: 1px solid #bbb; border-radius: 4px; padding: 6px 12px}
button {margin: 6px 8px 6px 0}
.attachment {border-left: 4px solid; border-radius: 4px; padding: 4px 0 4px 14px; margin-top: 6px}
.context {color: #616061; font-size: 13px}
.fields {display: grid; grid-template-columns: 1fr 1fr; gap: 8px; margin: 6px 0}
.name {font-weight: bold}
.primary {background: #007a5a; color: #fff}
"""


def markup(text: str) -> str:
    """Slack's markup, which has escaped what HTML escapes, too."""
    text = re.sub(r"<@(\w+)>", "@ann", text)
    text = re.sub(r":([a-z_]+):", lambda match: EMOJI.get(match[1], match[0]), text)
    text = re.sub(r"```(.*?)```", r"<pre>\1</pre>", text, flags=re.DOTALL)
    return re.sub(r"\*([^*\n]+)\*", r"<b>\1</b>", text).replace("\n", "<br>")


def draw_block(block: dict[str, Any]) -> str:
    if block["type"] == "actions":
        shown = [(item.get("style", ""), html.escape(item["text"]["text"])) for item in block["elements"]]
        return "".join(f'<button class="{style}">{text}</button>' for style, text in shown)
    if block["type"] == "context":
        return "".join(f'<div class="context">{markup(item["text"])}</div>' for item in block["elements"])
    fields = "".join(f"<div>{markup(field['text'])}</div>" for field in block.get("fields", []))
    return f'<div class="fields">{fields}</div>' if fields else f"<div>{markup(block['text']['text'])}</div>"


def draw() -> str:
    """All examples as a page."""
    parts = [f"<meta charset=utf-8><style>{STYLE}</style>"]
    for name, example in EXAMPLES.items():
        (attachment,) = example["attachments"]
        blocks = "".join(map(draw_block, attachment["blocks"]))
        parts.append(f'<h2>{name}</h2><div class="name">Airflow</div><div>{markup(example["text"])}</div>')
        parts.append(f'<div class="attachment" style="border-color: {COLOURS[attachment["color"]]}">{blocks}</div>')
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--image", action="store_true")
    arguments = parser.parse_args()
    text = json.dumps(EXAMPLES, indent=2) + "\n"
    if arguments.check:
        if JSON.read_text(encoding="utf-8") != text:
            sys.exit(f"{JSON} is not as the code is: run docs/messages.py --image")
        return
    JSON.write_text(text, encoding="utf-8")
    if arguments.image:
        with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as page:
            page.write(draw())
            page.flush()
            options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=768,1830", f"--screenshot={IMAGE}"]
            subprocess.run(["chromium", *options, f"file://{page.name}"], check=True, capture_output=True)


if __name__ == "__main__":
    main()
