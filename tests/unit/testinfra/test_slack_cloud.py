from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from queue import Queue
from typing import Any

import aiohttp
import pytest
import requests
import topology
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_cloud import BOT_USER, OTHER_BOT, SlackCloud
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web import SlackResponse
from slack_sdk.webhook import WebhookClient

# Slack's client would have a text with everything.
pytestmark = pytest.mark.filterwarnings("ignore:.*argument is missing")
ALERTS = "C0000000001"
Json = dict[str, Any]


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cloud(clock: Clock) -> Iterator[SlackCloud]:
    """A cloud that limits no rates: what does is tested with a cloud of its own."""
    free = dict.fromkeys(["chat.update", "chat.postEphemeral"], (1000, 1.0))
    # Longer than Slack waits, for a machine that has much else to do.
    with SlackCloud(clock=clock, burst=1000, limits=free, ack_seconds=30) as running:
        yield running


@pytest.fixture
def client(cloud: SlackCloud) -> WebClient:
    return web_client(cloud)


def web_client(cloud: SlackCloud, timeout: float = 30) -> WebClient:
    return WebClient(token=cloud.bot_token, base_url=cloud.url, timeout=timeout, retry_handlers=[])  # type: ignore[arg-type]


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> SlackResponse:
    """Slack's answer to what it does not do."""
    with pytest.raises(SlackApiError) as error:
        call(*arguments, **named)
    response: SlackResponse = error.value.response
    return response


def wait_for(what: str, check: Callable[[], Any]) -> Any:
    return topology.wait_for(what, check, timeout=30, pause=0.01)


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def button(action_id: str = "go", **more: Any) -> Json:
    return {"type": "button", "text": plain("Go"), "action_id": action_id, "value": "7", **more}


def actions(*elements: Json, **more: Any) -> Json:
    return {"type": "actions", "elements": list(elements), **more}


def section(text: str = "x", **more: Any) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}, **more}


def fields(count: int, length: int = 1) -> Json:
    return {"type": "section", "fields": [plain("x" * length)] * count}


# Who may call what.


@pytest.mark.parametrize(
    ("token", "method", "error"),
    [
        (None, "auth.test", "not_authed"),
        (None, "chat.postMessage", "not_authed"),
        ("xoxb-wrong", "chat.postMessage", "invalid_auth"),
        ("xapp-wrong", "apps.connections.open", "invalid_auth"),
        ("app", "chat.postMessage", "not_allowed_token_type"),
        ("app", "chat.update", "not_allowed_token_type"),
        ("app", "chat.postEphemeral", "not_allowed_token_type"),
        ("bot", "apps.connections.open", "not_allowed_token_type"),
        ("bot", "chat.sendMessage", "unknown_method"),
    ],
)
def test_a_token_is_for_its_methods(cloud: SlackCloud, token: str | None, method: str, error: str) -> None:
    client = WebClient({"app": cloud.app_token, "bot": cloud.bot_token}.get(str(token), token), base_url=cloud.url)
    assert refused(client.api_call, method, json={"channel": ALERTS, "text": "x"})["error"] == error
    assert not cloud.messages(ALERTS)


def test_a_token_in_a_body_counts_in_a_form_but_not_in_json(cloud: SlackCloud) -> None:
    body = {"token": cloud.bot_token, "channel": ALERTS, "text": "x"}
    assert requests.post(cloud.url + "chat.postMessage", json=body, timeout=30).json()["error"] == "not_authed"
    assert requests.post(cloud.url + "chat.postMessage", data=body, timeout=30).json()["ok"] is True
    assert [request.arguments for request in cloud.requests] == [{"channel": ALERTS, "text": "x"}] * 2


@pytest.mark.parametrize(("scopes", "missing"), [(["chat:write"], "connections:write"), (["connections:write"], "chat:write")])
def test_a_method_needs_its_scope(scopes: list[str], missing: str) -> None:
    with SlackCloud(scopes=scopes) as cloud:
        client = web_client(cloud)
        calls: dict[str, Callable[[], Any]] = {
            "chat:write": lambda: client.chat_postMessage(channel=ALERTS, text="x"),
            "connections:write": lambda: client.apps_connections_open(app_token=cloud.app_token),
        }
        answer = refused(calls.pop(missing))
        assert (answer["error"], answer["needed"], answer["provided"]) == ("missing_scope", missing, scopes[0])
        for call in calls.values():
            assert call()["ok"]


def test_tokens_may_be_given() -> None:
    with SlackCloud(bot_token="xoxb-mine", app_token="xapp-mine") as cloud:
        assert (cloud.bot_token, cloud.app_token) == ("xoxb-mine", "xapp-mine")
        assert WebClient("xoxb-mine", base_url=cloud.url).auth_test()["ok"]
        assert WebClient("xapp-mine", base_url=cloud.url).apps_connections_open(app_token="xapp-mine")["ok"]


def test_auth_test_says_who_the_bot_is(client: WebClient) -> None:
    answer = client.auth_test()
    assert (answer["user_id"], answer["team"]) == (BOT_USER, "Airfield")
    assert answer["bot_id"].startswith("B")
    assert answer["team_id"].startswith("T")


@pytest.mark.parametrize(("body", "error"), [("{", "invalid_json"), ("[]", "json_not_object")])
def test_a_body_that_is_no_call_is_refused(cloud: SlackCloud, body: str, error: str) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {cloud.bot_token}"}
    assert requests.post(cloud.url + "auth.test", body, headers=headers, timeout=30).json() == {"ok": False, "error": error}


def test_a_call_without_arguments_may_be_empty(cloud: SlackCloud) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {cloud.bot_token}"}
    assert requests.post(cloud.url + "auth.test", headers=headers, timeout=30).json()["ok"]


# Channels and messages.


@pytest.mark.parametrize("channel", ["#data-alerts", "data-alerts", ALERTS])
def test_a_message_goes_to_a_channel_by_name_or_id(cloud: SlackCloud, client: WebClient, channel: str) -> None:
    answer = client.chat_postMessage(channel=channel, text="one & 1 < 2 &amp; <https://x.test|link>")
    (message,) = cloud.messages(channel)
    assert (answer["channel"], answer["ts"]) == (ALERTS, message.ts)
    assert message.text == answer["message"]["text"] == "one &amp; 1 &lt; 2 &amp; <https://x.test|link>"
    assert (message.channel, message.user, message.thread_ts, message.updates) == (ALERTS, BOT_USER, None, 0)
    assert "thread_ts" not in answer["message"]


@pytest.mark.parametrize(("channel", "error"), [("#other", "channel_not_found"), ("#finance", "not_in_channel")])
@pytest.mark.parametrize("method", ["chat.postMessage", "chat.postEphemeral"])
def test_a_message_needs_a_channel_with_the_bot_in_it(
    cloud: SlackCloud, client: WebClient, method: str, channel: str, error: str
) -> None:
    cloud.add_channel("#finance", member=False)
    body = {"channel": channel, "text": "x", "user": cloud.user("alice")}
    assert refused(client.api_call, method, json=body)["error"] == error
    assert [(request.method, request.error) for request in cloud.requests] == [(method, error)]


def test_json_and_forms_say_the_same(cloud: SlackCloud, client: WebClient) -> None:
    blocks, attachments = [section("hello", block_id="b")], [{"text": "red", "color": "#f00"}]
    client.api_call("chat.postMessage", json={"channel": ALERTS, "text": "x", "blocks": blocks, "attachments": attachments})
    form = {"channel": ALERTS, "text": "x", "blocks": json.dumps(blocks), "attachments": json.dumps(attachments)}
    client.api_call("chat.postMessage", data=form)
    first, second = cloud.messages(ALERTS)
    assert first.versions == second.versions
    assert first.blocks == blocks
    assert first.attachments == [{"text": "red", "color": "#f00", "id": 1, "fallback": "[no preview available]"}]


def test_what_is_empty_in_a_form_is_not_there(cloud: SlackCloud, client: WebClient) -> None:
    client.api_call("chat.postMessage", data={"channel": ALERTS, "text": "x", "blocks": "", "attachments": ""})
    assert [(message.blocks, message.attachments) for message in cloud.messages(ALERTS)] == [([], [])]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"blocks": "["}, "invalid_blocks_format"),
        ({"blocks": "{}"}, "invalid_blocks_format"),
        ({"attachments": "["}, "invalid_attachments"),
        ({"attachments": "{}"}, "invalid_attachments"),
    ],
)
def test_a_form_has_blocks_in_json(client: WebClient, form: Json, error: str) -> None:
    assert refused(client.api_call, "chat.postMessage", data={"channel": ALERTS, "text": "x", **form})["error"] == error


def test_a_ts_is_greater_than_all_before(cloud: SlackCloud, client: WebClient, clock: Clock) -> None:
    stamps = []
    for clock.now in (1_700_000_000.0, 1_700_000_000.0, 1_600_000_000.0, 1_700_000_060.5):
        stamps.append(client.chat_postMessage(channel=ALERTS, text="x")["ts"])
    assert stamps == ["1700000000.000000", "1700000000.000001", "1700000000.000002", "1700000060.500000"]
    assert [message.ts for message in cloud.messages(ALERTS)] == stamps


def test_a_reply_is_in_its_thread(cloud: SlackCloud, client: WebClient) -> None:
    parent = cloud.say("data-alerts", "why?", user="alice")
    reply = client.chat_postMessage(channel=ALERTS, text="because", thread_ts=parent)
    assert reply["message"]["thread_ts"] == parent
    assert client.chat_postMessage(channel=ALERTS, text="and", thread_ts=reply["ts"])["message"]["thread_ts"] == parent
    assert [message.thread_ts for message in cloud.messages(ALERTS)] == [None, parent, parent]


def test_a_reply_to_what_is_not_there_goes_to_the_channel(cloud: SlackCloud, client: WebClient) -> None:
    parent = cloud.say("data-alerts", "why?", user="alice")
    cloud.delete("data-alerts", parent)
    for thread in (parent, "1600000000.000000"):
        assert "thread_ts" not in client.chat_postMessage(channel=ALERTS, text="because", thread_ts=thread)["message"]
    assert [message.thread_ts for message in cloud.messages(ALERTS)] == [None, None]


def test_an_ephemeral_message_is_for_one_person(cloud: SlackCloud, client: WebClient) -> None:
    bob = cloud.add_user("bob")
    client.chat_postEphemeral(channel=ALERTS, user=bob, text="psst", thread_ts="1.0")
    assert [(said.user, said.text, said.thread_ts) for said in cloud.ephemerals] == [(bob, "psst", "1.0")]
    assert not cloud.messages(ALERTS)
    assert refused(client.chat_postEphemeral, channel=ALERTS, user="U1", text="psst")["error"] == "user_not_in_channel"


# What a message may say. Each row: what makes arguments of a size, the greatest size, the error above it, and where.

LIMITS: dict[str, tuple[Callable[[int], Json], int, str, str]] = {
    "text": (lambda n: {"text": "x" * n}, 40_000, "msg_too_long", ""),
    "blocks": (
        lambda n: {"blocks": [section()] * n},
        50,
        "invalid_blocks",
        "no more than 50 items allowed [json-pointer:/blocks]",
    ),
    "section": (
        lambda n: {"blocks": [section("x" * n)]},
        3000,
        "invalid_blocks",
        "must be less than 3001 characters [json-pointer:/blocks/0/text/text]",
    ),
    "fields": (
        lambda n: {"blocks": [fields(n)]},
        10,
        "invalid_blocks",
        "no more than 10 items allowed [json-pointer:/blocks/0/fields]",
    ),
    "field": (lambda n: {"blocks": [fields(1, n)]}, 2000, "invalid_blocks", "/blocks/0/fields/0/text]"),
    "header": (
        lambda n: {"blocks": [{"type": "header", "text": plain("x" * n)}]},
        150,
        "invalid_blocks",
        "/blocks/0/text/text]",
    ),
    "button": (
        lambda n: {"blocks": [section(), actions(button(text=plain("x" * n)))]},
        75,
        "invalid_blocks",
        "/blocks/1/elements/0/text/text]",
    ),
    "value": (lambda n: {"blocks": [actions(button(value="x" * n))]}, 2000, "invalid_blocks", "/blocks/0/elements/0/value]"),
    "action_id": (lambda n: {"blocks": [actions(button("x" * n))]}, 255, "invalid_blocks", "/blocks/0/elements/0/action_id]"),
    "accessory": (
        lambda n: {"blocks": [section(accessory=button("x" * n))]},
        255,
        "invalid_blocks",
        "/blocks/0/accessory/action_id]",
    ),
    "url": (lambda n: {"blocks": [actions(button(url="x" * n))]}, 3000, "invalid_blocks", "/blocks/0/elements/0/url]"),
    "block_id": (lambda n: {"blocks": [section(block_id="x" * n)]}, 255, "invalid_blocks", "/blocks/0/block_id]"),
    "actions": (
        lambda n: {"blocks": [actions(*(button(f"go-{index}") for index in range(n)))]},
        25,
        "invalid_blocks",
        "no more than 25 items allowed [json-pointer:/blocks/0/elements]",
    ),
    "context": (
        lambda n: {"blocks": [{"type": "context", "elements": [plain("x")] * n}]},
        10,
        "invalid_blocks",
        "no more than 10 items allowed [json-pointer:/blocks/0/elements]",
    ),
    "alt_text": (
        lambda n: {"blocks": [{"type": "image", "image_url": "https://x.test", "alt_text": "x" * n}]},
        2000,
        "invalid_blocks",
        "/blocks/0/alt_text]",
    ),
    "all blocks": (lambda n: {"blocks": [section("x" * (n // 10))] * 10}, 13_200, "msg_blocks_too_long", ""),
    "attachments": (lambda n: {"attachments": [{"text": "x"}] * n}, 100, "too_many_attachments", ""),
    "attached blocks": (
        lambda n: {"attachments": [{"text": "x"}, {"blocks": [section()] * n}]},
        50,
        "invalid_attachments",
        "[json-pointer:/attachments/1/blocks]",
    ),
    "attached section": (
        lambda n: {"attachments": [{"blocks": [section("x" * n)]}]},
        3000,
        "invalid_attachments",
        "[json-pointer:/attachments/0/blocks/0/text/text]",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_message_has_limits(cloud: SlackCloud, client: WebClient, name: str) -> None:
    arguments, limit, error, where = LIMITS[name]
    above = limit + (10 if name == "all blocks" else 1)
    assert client.chat_postMessage(channel=ALERTS, **arguments(limit))["ok"]
    answer = refused(client.chat_postMessage, channel=ALERTS, **arguments(above))
    assert answer["error"] == error
    messages = (answer.get("response_metadata") or {"messages": []})["messages"]
    assert len(messages) == bool(where)
    assert all(message.startswith("[ERROR] ") and message.endswith(where) for message in messages)
    assert len(cloud.messages(ALERTS)) == 1


NO_DENY = {"title": plain("x"), "text": plain("x"), "confirm": plain("x")}
MARKDOWN = {"type": "mrkdwn", "text": "x"}
HTML = {"type": "html", "text": "x"}


@pytest.mark.parametrize(
    ("block", "problem", "where"),
    [
        ({"type": "section"}, "missing required field: text", ""),
        ({"type": "header"}, "missing required field: text", ""),
        ({"type": "actions"}, "missing required field: elements", ""),
        ({"type": "context"}, "missing required field: elements", ""),
        ({"type": "image", "alt_text": "x"}, "missing required field: image_url", ""),
        ({"type": "image", "image_url": "x"}, "missing required field: alt_text", ""),
        (actions(), "no less than 1 items required", "/elements"),
        (actions({"type": "button"}), "missing required field: text", "/elements/0"),
        ({"type": "carousel"}, "unsupported type: carousel", "/type"),
        ({"type": ["section"]}, "unsupported type: ['section']", "/type"),
        ("text", "unsupported type: None", "/type"),
        ({"type": "divider", "text": "x"}, "invalid additional property: text", ""),
        (section(""), "must be more than 0 characters", "/text/text"),
        ({"type": "section", "text": "x"}, "must provide an object", "/text"),
        ({"type": "section", "text": {"type": "mrkdwn"}}, "missing required field: text", "/text"),
        ({"type": "section", "text": HTML}, "must be one of plain_text, mrkdwn", "/text/type"),
        ({"type": "section", "text": {"type": "mrkdwn", "text": 7}}, "must provide a string", "/text/text"),
        ({"type": "section", "fields": {}}, "must provide an array", "/fields"),
        ({"type": "header", "text": MARKDOWN}, "must be one of plain_text", "/text/type"),
        (actions(button(text=MARKDOWN)), "must be one of plain_text", "/elements/0/text/type"),
        (actions(button(style="red")), "must be one of primary, danger", "/elements/0/style"),
        (actions(button(confirm=NO_DENY)), "missing required field: deny", "/elements/0/confirm"),
        (actions(button(), button()), "action_id 'go' already exists", "/elements/1/action_id"),
        (actions(plain("x")), "unsupported type: plain_text", "/elements/0/type"),
        (section(accessory=plain("x")), "unsupported type: plain_text", "/accessory/type"),
        ({"type": "context", "elements": [button()]}, "unsupported type: button", "/elements/0/type"),
    ],
)
def test_blocks_have_a_form(cloud: SlackCloud, client: WebClient, block: Any, problem: str, where: str) -> None:
    answer = refused(client.chat_postMessage, channel=ALERTS, text="x", blocks=[block])
    assert answer["error"] == "invalid_blocks"
    assert answer["errors"] == [f"{problem} [json-pointer:/blocks/0{where}]"]
    assert answer["response_metadata"]["messages"] == [f"[ERROR] {answer['errors'][0]}"]
    assert not cloud.messages(ALERTS)


def test_blocks_have_names_of_their_own(cloud: SlackCloud, client: WebClient) -> None:
    blocks = [section(block_id="a"), section(block_id="b"), section(block_id="a")]
    answer = refused(client.chat_postMessage, channel=ALERTS, text="x", blocks=blocks)
    assert answer["errors"] == ["block_id 'a' already exists [json-pointer:/blocks/2/block_id]"]
    client.chat_postMessage(channel=ALERTS, blocks=[actions({"type": "button", "text": plain("Go")}), {"type": "divider"}])
    first, second = cloud.messages(ALERTS)[0].blocks
    assert first["block_id"] != second["block_id"]
    assert first["elements"][0]["action_id"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"text": ""},
        {"text": " \n"},
        {"blocks": []},
        {"attachments": []},
        {"attachments": [{}]},
        {"attachments": [{"color": "#f00"}]},
    ],
)
def test_a_message_says_something(cloud: SlackCloud, client: WebClient, arguments: Json) -> None:
    ts = client.chat_postMessage(channel=ALERTS, text="x")["ts"]
    assert refused(client.api_call, "chat.postMessage", json={"channel": ALERTS, **arguments})["error"] == "no_text"
    assert refused(client.api_call, "chat.update", json={"channel": ALERTS, "ts": ts, **arguments})["error"] == "no_text"
    assert [message.text for message in cloud.messages(ALERTS)] == ["x"]


# Updates.


@pytest.mark.parametrize(
    ("arguments", "text", "blocks", "attachments"),
    [
        ({"text": "new"}, "new", [], ["old"]),
        ({"text": "new", "attachments": []}, "new", [], []),
        ({"text": "new", "blocks": [section("new", block_id="b")]}, "new", ["new"], ["old"]),
        ({"blocks": [section("new", block_id="b")]}, "old", ["new"], ["old"]),
        ({"attachments": [{"text": "new"}]}, "old", ["old"], ["new"]),
    ],
)
def test_an_update_replaces_what_it_gives(
    cloud: SlackCloud, client: WebClient, arguments: Json, text: str, blocks: list[str], attachments: list[str]
) -> None:
    before = client.chat_postMessage(channel=ALERTS, text="old", blocks=[section("old")], attachments=[{"text": "old"}])
    answer = client.chat_update(channel=ALERTS, ts=before["ts"], **arguments)
    assert (answer["ts"], answer["text"], answer["message"]["text"]) == (before["ts"], text, text)
    (message,) = cloud.messages(ALERTS)
    assert [(version.text, len(version.blocks), len(version.attachments)) for version in message.versions[:-1]] == [
        ("old", 1, 1)
    ]
    assert (message.ts, message.text, message.updates) == (before["ts"], text, 1)
    assert [block["text"]["text"] for block in message.blocks] == blocks
    assert [attachment["text"] for attachment in message.attachments] == attachments


def test_only_what_the_bot_has_posted_is_updated(cloud: SlackCloud, client: WebClient) -> None:
    cloud.add_channel("other")
    cloud.add_channel("finance", member=False)
    own = client.chat_postMessage(channel=ALERTS, text="x")["ts"]
    for channel, ts, error in [
        (ALERTS, "1600000000.000000", "message_not_found"),
        ("C0000000002", own, "message_not_found"),
        ("C0000000003", own, "not_in_channel"),
        ("C0000000004", own, "channel_not_found"),
        ("#data-alerts", own, "channel_not_found"),
        (ALERTS, cloud.say(ALERTS, "mine", user="alice"), "cant_update_message"),
        (ALERTS, cloud.say(ALERTS, "mine"), "cant_update_message"),
    ]:
        assert refused(client.chat_update, channel=channel, ts=ts, text="new")["error"] == error
    assert [(message.user, message.updates) for message in cloud.messages(ALERTS)] == [
        (BOT_USER, 0),
        (cloud.user("alice"), 0),
        (OTHER_BOT, 0),
    ]
    cloud.delete(ALERTS, own)
    assert refused(client.chat_update, channel=ALERTS, ts=own, text="new")["error"] == "message_not_found"


@pytest.mark.parametrize("unit", ["x", "ä", "&", "&amp;"])
def test_the_text_of_an_update_is_shorter(client: WebClient, unit: str) -> None:
    most = 4000 // {"x": 1, "ä": 2, "&": 5, "&amp;": 5}[unit]
    ts = client.chat_postMessage(channel=ALERTS, text=unit * (most + 1))["ts"]
    assert client.chat_update(channel=ALERTS, ts=ts, text=unit * most)["ok"]
    assert refused(client.chat_update, channel=ALERTS, ts=ts, text=unit * (most + 1))["error"] == "msg_too_long"


# Rates.


def outcome(call: Callable[[], Any]) -> tuple[int, str | None, str | None]:
    """The status of a call, its error, and how long Slack says to wait."""
    try:
        return call().status_code, None, None
    except SlackApiError as error:
        return error.response.status_code, error.response["error"], error.response.headers.get("Retry-After")


OK = (200, None, None)


def limited(seconds: int) -> tuple[int, str, str]:
    return 429, "ratelimited", str(seconds)


def test_a_channel_takes_a_message_a_second(clock: Clock) -> None:
    with SlackCloud(clock=clock, channels=["one", "two"]) as cloud:
        client = web_client(cloud)
        outcomes = []
        start = clock.now
        for clock.now, channel in [
            (start, "one"),
            (start + 0.5, "C0000000001"),
            (start + 0.99, "two"),
            (start + 0.99, "one"),
            (start + 1, "one"),
            (start + 1.98, "two"),
            (start + 2, "two"),
        ]:
            outcomes.append(outcome(lambda to=channel: client.chat_postMessage(channel=to, text="x")))  # type: ignore[misc]
        assert outcomes == [OK, limited(1), OK, limited(1), OK, limited(1), OK]
        assert [len(cloud.messages(channel)) for channel in ("one", "two")] == [2, 2]
        assert [request.status for request in cloud.requests] == [status for status, *_ in outcomes]


def test_a_burst_is_allowed_where_a_test_allows_it(clock: Clock) -> None:
    with SlackCloud(clock=clock, burst=3) as cloud:
        client = web_client(cloud)
        outcomes = [outcome(lambda: client.chat_postMessage(channel=ALERTS, text="x")) for _ in range(4)]
        assert outcomes == [OK] * 3 + [limited(3)]


@pytest.mark.parametrize(("method", "calls"), [("chat.update", 50), ("chat.postEphemeral", 100)])
def test_a_method_takes_so_many_calls_a_minute(clock: Clock, method: str, calls: int) -> None:
    with SlackCloud(clock=clock) as cloud:
        client = web_client(cloud)
        ts = client.chat_postMessage(channel=ALERTS, text="x")["ts"]
        body = {"channel": ALERTS, "ts": ts, "text": "y", "user": cloud.user("alice")}
        start = clock.now
        headers = {"Authorization": f"Bearer {cloud.bot_token}"}
        with requests.Session() as session:
            for _ in range(calls):
                assert session.post(cloud.url + method, json=body, headers=headers, timeout=30).status_code == 200
                clock.now += 0.1
        clock.now = start + 42.5
        assert outcome(lambda: client.api_call(method, json=body)) == limited(18)
        clock.now = start + 60
        assert outcome(lambda: client.api_call(method, json=body)) == OK
        assert outcome(lambda: client.api_call(method, json=body)) == limited(1)


def test_requests_are_on_record(cloud: SlackCloud, client: WebClient, clock: Clock) -> None:
    client.chat_postMessage(channel="#data-alerts", text="x")
    clock.now += 5
    refused(client.chat_postMessage, channel="#nowhere", text="x")
    client.auth_test()
    assert [(row.time, row.method, row.status, row.error, row.channel) for row in cloud.requests] == [
        (1_700_000_000, "chat.postMessage", 200, None, ALERTS),
        (1_700_000_005, "chat.postMessage", 200, "channel_not_found", "#nowhere"),
        (1_700_000_005, "auth.test", 200, None, None),
    ]
    assert cloud.requests[0].arguments == {"channel": "#data-alerts", "text": "x"}


def test_many_at_the_same_time(cloud: SlackCloud, client: WebClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda index: client.chat_postMessage(channel=ALERTS, text=str(index)), range(40)))
    stamps = [message.ts for message in cloud.messages(ALERTS)]
    assert sorted(answer["ts"] for answer in answers) == sorted(set(stamps)) == stamps


# Socket Mode.


@pytest.fixture(scope="module")
def leaving() -> Iterator[ThreadPoolExecutor]:
    """Closes clients while tests go on: each takes a second or two."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def connect(leaving: ThreadPoolExecutor) -> Iterator[Callable[[SlackCloud], tuple[SocketModeClient, Queue[Any]]]]:
    """Connects Slack's own client, which hands over what comes and acknowledges nothing by itself."""
    clients: list[SocketModeClient] = []

    def connect(cloud: SlackCloud) -> tuple[SocketModeClient, Queue[Any]]:
        count, seen = cloud.connections, Queue[Any]()
        clients.append(SocketModeClient(cloud.app_token, web_client=web_client(cloud), auto_reconnect_enabled=False))
        clients[-1].message_listeners.append(lambda _, message, __: seen.put(message))
        clients[-1].connect()
        wait_for("a connection", lambda: cloud.connections > count)
        assert seen.get(timeout=30)["type"] == "hello"
        return clients[-1], seen

    yield connect
    for client in clients:
        leaving.submit(client.close)


@pytest.fixture
def bolt(leaving: ThreadPoolExecutor) -> Iterator[Callable[[SlackCloud], App]]:
    """Connects an app of Slack's own framework."""
    handlers: list[SocketModeHandler] = []

    def connect(cloud: SlackCloud) -> App:
        app = App(client=web_client(cloud), token_verification_enabled=False)
        handlers.append(SocketModeHandler(app, cloud.app_token, ping_interval=0.2))
        handlers[-1].connect()
        wait_for("a connection", lambda: cloud.connections == 1)
        return app

    yield connect
    for handler in handlers:
        leaving.submit(handler.close)


Connect = Callable[[SlackCloud], tuple[SocketModeClient, "Queue[Any]"]]
Bolt = Callable[[SlackCloud], App]


def test_a_pressed_button_comes_to_a_bolt_app(cloud: SlackCloud, client: WebClient, bolt: Bolt) -> None:
    app = bolt(cloud)
    seen = Queue[Any]()

    @app.action("go")
    def go(ack: Any, body: Json, client: WebClient, respond: Any) -> None:
        ack()
        seen.put(body)
        client.chat_update(channel=body["channel"]["id"], ts=body["message"]["ts"], text="gone", blocks=[])
        respond("thank you")

    ts = client.chat_postMessage(channel=ALERTS, text="go?", blocks=[section(), actions(button(), block_id="b")])["ts"]
    press = cloud.press(ts, "#data-alerts", "go", "alice")
    assert (press.sent, press.failed, press.late) == (True, False, None)
    assert press.acknowledged is not None
    assert 0 < press.acknowledged < 30
    body = seen.get(timeout=30)
    assert body == press.payload
    alice = {"id": cloud.user("alice"), "username": "alice", "name": "alice", "team_id": body["team"]["id"]}
    assert (body["type"], body["user"]) == ("block_actions", alice)
    assert body["channel"] == {"id": ALERTS, "name": "data-alerts"}
    assert body["container"] == {"type": "message", "message_ts": ts, "channel_id": ALERTS, "is_ephemeral": False}
    assert (body["message"]["ts"], body["message"]["text"], body["message"]["bot_id"][0]) == (ts, "go?", "B")
    (action,) = body["actions"]
    assert float(action.pop("action_ts")) > float(ts)
    assert action == {"action_id": "go", "block_id": "b", "text": plain("Go"), "value": "7", "type": "button"}
    assert body["trigger_id"]
    wait_for("the answer", lambda: cloud.ephemerals)
    assert (cloud.messages(ALERTS)[0].text, cloud.ephemerals[0].text, cloud.ephemerals[0].user) == (
        "gone",
        "thank you",
        alice["id"],
    )
    with pytest.raises(ValueError, match="as it is now"):
        cloud.press(ts, ALERTS, "go", "alice")


def test_a_bolt_app_that_does_not_know_an_action_does_not_acknowledge_it(clock: Clock, bolt: Bolt) -> None:
    with SlackCloud(clock=clock, ack_seconds=0.5) as cloud:
        bolt(cloud)
        ts = web_client(cloud).chat_postMessage(channel=ALERTS, blocks=[actions(button())])["ts"]
        press = cloud.press(ts, ALERTS, "go", "alice")
        assert (press.sent, press.failed) == (True, True)


def test_what_is_pressed_is_what_the_message_has(cloud: SlackCloud, client: WebClient) -> None:
    attachments: list[Json] = [{"text": "x"}, {"blocks": [actions(button("stop", value="8", style="danger"), block_id="b")]}]
    nothing = {name: content for name, content in button("n").items() if name != "value"}
    blocks = [section(accessory=button("look", value="9"), block_id="c"), actions(nothing)]
    ts = client.chat_postMessage(channel=ALERTS, blocks=blocks, attachments=attachments)["ts"]
    stop = cloud.press(ts, ALERTS, "stop", "alice").payload
    assert (stop["container"]["type"], stop["container"]["attachment_id"]) == ("message_attachment", 2)
    assert stop["message"]["attachments"][1]["blocks"][0]["elements"][0]["value"] == "8"
    assert (stop["actions"][0]["value"], stop["actions"][0]["block_id"], stop["actions"][0]["style"]) == ("8", "b", "danger")
    look = cloud.press(ts, ALERTS, "look", cloud.user("alice"), block_id="c", value="forged").payload
    assert (look["container"]["type"], look["actions"][0]["value"]) == ("message", "forged")
    assert "value" not in cloud.press(ts, ALERTS, "n", "alice").payload["actions"][0]
    assert stop["trigger_id"] != look["trigger_id"]
    for arguments in [
        (ts, ALERTS, "other", "alice"),
        (ts, ALERTS, "stop", "mallory"),
        (ts, "#other", "stop", "alice"),
        ("1.0", ALERTS, "stop", "alice"),
    ]:
        with pytest.raises(ValueError, match="no "):
            cloud.press(*arguments)
    with pytest.raises(ValueError, match="no button"):
        cloud.press(ts, ALERTS, "stop", "alice", block_id="c")


def test_a_press_that_nobody_hears_fails(cloud: SlackCloud, client: WebClient) -> None:
    ts = client.chat_postMessage(channel=ALERTS, blocks=[actions(button())])["ts"]
    press = cloud.press(ts, ALERTS, "go", "alice")
    assert (press.sent, press.acknowledged, press.failed) == (False, None, True)
    assert cloud.presses == [press]


def test_an_acknowledgement_may_be_late(connect: Connect) -> None:
    with SlackCloud(ack_seconds=0.05) as cloud:
        client, seen = connect(cloud)
        press = cloud.send({"type": "block_actions"})
        assert press.sent
        assert press.failed
        envelope = seen.get(timeout=30)
        assert envelope == {
            "envelope_id": press.envelope_id,
            "payload": {"type": "block_actions"},
            "type": "interactive",
            "accepts_response_payload": False,
        }
        assert not cloud.late_acks
        for _ in range(2):
            client.send_socket_mode_response(SocketModeResponse(envelope_id=press.envelope_id))
        wait_for("both acknowledgements", lambda: len(cloud.received) == 2)
        assert cloud.late_acks == [press]
        assert press.failed
        assert press.late is not None
        assert press.late > 0.05


def test_an_acknowledgement_is_for_its_envelope(connect: Connect) -> None:
    with SlackCloud(ack_seconds=0.2) as cloud:
        client, seen = connect(cloud)
        client.message_listeners.append(
            lambda _, message, __: client.send_message(json.dumps({"envelope_id": "x" + message["envelope_id"]}))
        )
        assert cloud.send({}).failed
        client.send_message("no JSON")
        client.send_message("[]")
        wait_for("the messages", lambda: len(cloud.received) == 3)
        assert cloud.received[1:] == ["no JSON", []]
        assert not cloud.late_acks


def test_slack_waits_three_seconds() -> None:
    with SlackCloud() as cloud:
        assert cloud.ack_seconds == 3


def acknowledge(client: SocketModeClient, payload: Json | None = None) -> None:
    client.socket_mode_request_listeners.append(
        lambda c, request: c.send_socket_mode_response(SocketModeResponse(request.envelope_id, payload))
    )


def test_anything_may_be_sent_and_sent_again(cloud: SlackCloud, connect: Connect) -> None:
    client, seen = connect(cloud)
    acknowledge(client, {"text": "ok"})
    first = cloud.send({"type": "forged"}, kind="slash_commands")
    again = cloud.send(first.payload, envelope_id=first.envelope_id)
    assert (first.failed, again.failed, again.response) == (False, False, {"text": "ok"})
    one, two = seen.get(timeout=30), seen.get(timeout=30)
    assert (one["type"], two["type"]) == ("slash_commands", "interactive")
    assert (one["envelope_id"], one["payload"]) == (two["envelope_id"], two["payload"])


def test_one_connection_gets_it(cloud: SlackCloud, connect: Connect) -> None:
    both = [connect(cloud) for _ in range(2)]
    for client, _ in both:
        acknowledge(client)
    for _ in range(5):
        assert not cloud.send({}).failed
    assert sum(seen.qsize() for _, seen in both) == 5
    assert len(cloud.received) == 5


def test_a_client_that_is_asked_to_connect_anew_does(cloud: SlackCloud, client: WebClient, bolt: Bolt) -> None:
    # Slack's client does not look at its new connection before the old one has said something or has ended, or for 3 s.
    cloud.leave_seconds = 0.2
    app = bolt(cloud)
    app.action("go")(lambda ack: ack())
    ts = client.chat_postMessage(channel=ALERTS, blocks=[actions(button())])["ts"]
    before = cloud.links[-1]
    for _ in range(3):
        cloud.refresh()
        # At once: whether it has connected anew yet or not.
        assert not cloud.press(ts, ALERTS, "go", "alice").failed
        assert cloud.links[-1] is not before
        before = cloud.links[-1]
    wait_for("the old connections to be closed", lambda: len(cloud.links) == 1)
    assert [request.method for request in cloud.requests].count("apps.connections.open") == 4


def test_a_client_that_was_asked_to_connect_anew_is_waited_for_as_long_as_for_an_answer() -> None:
    with SlackCloud(ack_seconds=0.05) as cloud:

        def do() -> None:
            cloud.refresh()
            press = cloud.send({})
            assert (press.sent, press.failed) == (False, True)
            cloud.loop.call_soon_threadsafe(cloud._drop)

        asyncio.run(follow(cloud, link(cloud), do))


async def follow(cloud: SlackCloud, url: str, do: Callable[[], Any] = lambda: None) -> list[Any]:
    """What comes by a connection until it ends or pings, with a client that answers nothing."""
    seen: list[Any] = []
    async with aiohttp.ClientSession() as session, session.ws_connect(url, autoping=False) as connection:
        seen.append(json.loads((await connection.receive(30)).data))
        await asyncio.get_running_loop().run_in_executor(None, do)
        while True:
            message = await connection.receive(30)
            if message.type != aiohttp.WSMsgType.TEXT:
                return [*seen, message.type]
            seen.append(json.loads(message.data))


async def visit(url: str) -> None:
    """Connect, and go after the first message."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as connection:
        assert (await connection.receive(30)).json()["type"] == "hello"


def link(cloud: SlackCloud) -> str:
    return str(web_client(cloud).apps_connections_open(app_token=cloud.app_token)["url"])


def test_a_client_that_stays_hears_of_nothing_more(cloud: SlackCloud) -> None:
    def do() -> None:
        cloud.refresh()
        asyncio.run(visit(link(cloud)))
        wait_for("the other client to go", lambda: len(cloud.links) == 1)
        assert not cloud.send({}).sent
        cloud.loop.call_soon_threadsafe(cloud._drop)

    assert [message["type"] for message in asyncio.run(follow(cloud, link(cloud), do))[:-1]] == ["hello", "disconnect"]


def test_a_client_that_stays_is_cut_off() -> None:
    with SlackCloud(leave_seconds=0.01) as cloud:

        def do() -> None:
            cloud.refresh()
            assert cloud.connections == 0

        hello, disconnect, end = asyncio.run(follow(cloud, link(cloud), do))
        assert (hello["type"], hello["num_connections"]) == ("hello", 1)
        assert (disconnect["type"], disconnect["reason"]) == ("disconnect", "refresh_requested")
        assert end == aiohttp.WSMsgType.CLOSED


def test_a_connection_is_pinged() -> None:
    with SlackCloud(ping_seconds=0.01) as cloud:
        assert asyncio.run(follow(cloud, link(cloud)))[1:] == [aiohttp.WSMsgType.PING]


def test_a_ticket_is_for_one_connection_soon(cloud: SlackCloud, clock: Clock) -> None:
    first, second, third = (link(cloud) for _ in range(3))
    assert first.startswith(f"ws://127.0.0.1:{cloud.port}/link/?ticket=")

    def status(url: str) -> int:
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        with requests.get(url.replace("ws:", "http:"), headers=headers | key, timeout=30, stream=True) as answer:
            return answer.status_code

    clock.now += 29
    assert [status(first), status(first)] == [101, 401]
    clock.now += 1
    assert [status(second), status(third.replace("ticket=", "ticket=x"))] == [401, 401]


# Response URLs.


@pytest.fixture
def pressed(cloud: SlackCloud, client: WebClient) -> tuple[str, WebhookClient]:
    """The ts of a message with a button, and a client for the response URL of this."""
    ts = client.chat_postMessage(channel=ALERTS, text="go?", blocks=[actions(button())])["ts"]
    return ts, WebhookClient(cloud.press(ts, ALERTS, "go", "alice").payload["response_url"])


def test_a_response_is_for_the_person_unless_it_says_otherwise(cloud: SlackCloud, pressed: tuple[str, WebhookClient]) -> None:
    ts, hook = pressed
    answers = [
        hook.send(text="one"),
        hook.send(text="two", response_type="ephemeral", replace_original=False),
        hook.send_dict({"text": "three", "response_type": "in_channel", "thread_ts": ts}),
    ]
    assert [(answer.status_code, answer.body) for answer in answers] == [(200, "ok")] * 3
    assert [(said.text, said.user, said.channel) for said in cloud.ephemerals] == [
        ("one", cloud.user("alice"), ALERTS),
        ("two", cloud.user("alice"), ALERTS),
    ]
    assert [(message.text, message.thread_ts, message.updates) for message in cloud.messages(ALERTS)] == [
        ("go?", None, 0),
        ("three", ts, 0),
    ]


def test_a_response_may_replace_or_delete_the_message(cloud: SlackCloud, pressed: tuple[str, WebhookClient]) -> None:
    ts, hook = pressed
    assert hook.send(text="done", replace_original=True).status_code == 200
    (message,) = cloud.messages(ALERTS)
    assert (message.ts, message.text, message.blocks, message.updates) == (ts, "done", [], 1)
    assert hook.send_dict({"delete_original": True}).status_code == 200
    assert not cloud.messages(ALERTS)
    for body in ({"delete_original": True}, {"replace_original": True, "text": "x"}):
        assert (hook.send_dict(body).status_code, cloud.messages(ALERTS)) == (404, [])
    assert not cloud.ephemerals


def test_a_response_url_has_five_uses(cloud: SlackCloud, pressed: tuple[str, WebhookClient]) -> None:
    answers = [pressed[1].send(text="x") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [404]
    assert json.loads(answers[-1].body)["error"] == "used_url"
    assert len(cloud.ephemerals) == 5


def test_a_response_url_lasts_half_an_hour(cloud: SlackCloud, pressed: tuple[str, WebhookClient], clock: Clock) -> None:
    clock.now += 1799.9
    assert pressed[1].send(text="x").status_code == 200
    clock.now += 0.1
    answer = pressed[1].send(text="x")
    assert (answer.status_code, json.loads(answer.body)["error"]) == (404, "expired_url")
    assert WebhookClient(pressed[1].url + "x").send(text="x").status_code == 404
    assert len(cloud.ephemerals) == 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("{", "invalid_payload"),
        ("[]", "invalid_payload"),
        ("{}", "no_text"),
        ('{"replace_original": true}', "no_text"),
        ('{"blocks": [{"type": "section"}]}', "invalid_blocks"),
    ],
)
def test_a_response_that_says_nothing_is_refused(
    cloud: SlackCloud, pressed: tuple[str, WebhookClient], body: str, error: str
) -> None:
    answer = requests.post(pressed[1].url, body, timeout=30)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert (len(cloud.messages(ALERTS)), cloud.messages(ALERTS)[0].updates, cloud.ephemerals) == (1, 0, [])


# Faults.


def test_connections_are_refused(cloud: SlackCloud, client: WebClient, bolt: Bolt) -> None:
    app = bolt(cloud)
    app.action("go")(lambda ack: ack())
    ts = client.chat_postMessage(channel=ALERTS, blocks=[actions(button())])["ts"]
    with cloud.fault("refuse"):
        with pytest.raises(OSError, match="refused"):
            client.auth_test()
        wait_for("the connection to be lost", lambda: not cloud.connections)
        assert not cloud.press(ts, ALERTS, "go", "alice").sent
    assert client.auth_test()["ok"]
    wait_for("the app to connect anew", lambda: cloud.connections)
    assert not cloud.press(ts, ALERTS, "go", "alice").failed


def test_nothing_is_answered(cloud: SlackCloud, client: WebClient, connect: Connect) -> None:
    connect(cloud)
    with ThreadPoolExecutor(1) as pool:
        fault = cloud.fault("hang")
        post = pool.submit(client.chat_postMessage, channel=ALERTS, text="x")
        wait_for("the request", lambda: [row for row in cloud.requests if row.error == "hang"])
        with pytest.raises(TimeoutError):
            web_client(cloud, timeout=0.2).auth_test()
        assert not cloud.send({}).sent
        assert not post.done()
        assert cloud.connections == 1
        fault.__exit__(None, None, None)
        with pytest.raises((OSError, HTTPException)):
            post.result(timeout=30)
    wait_for("the connection to be lost", lambda: not cloud.connections)
    assert not cloud.messages(ALERTS)
    assert (cloud.requests[1].method, cloud.requests[1].status, cloud.requests[1].channel) == ("chat.postMessage", None, ALERTS)
    assert client.chat_postMessage(channel=ALERTS, text="x")["ok"]


def test_pings_are_not_answered_while_nothing_is(cloud: SlackCloud) -> None:
    async def pings() -> list[Any]:
        async with aiohttp.ClientSession() as session, session.ws_connect(link(cloud), autoping=False) as connection:
            await connection.receive(30)
            await connection.ping(b"one")
            seen: list[Any] = [(await connection.receive(30)).data]
            # The test's own loop waits; what the fault lets through, it finds afterwards.
            cloud.fault("hang")
            await connection.ping(b"two")
            with pytest.raises(TimeoutError):
                await connection.receive(0.1)
            cloud.heal()
            return [*seen, (await connection.receive(30)).type]

    assert asyncio.run(pings()) == [b"one", aiohttp.WSMsgType.CLOSED]


def test_answers_are_slow(cloud: SlackCloud, client: WebClient) -> None:
    with ThreadPoolExecutor(1) as pool, cloud.fault("slow", seconds=600):
        post = pool.submit(client.chat_postMessage, channel=ALERTS, text="x")
        wait_for("the message", lambda: cloud.messages(ALERTS))
        with pytest.raises(TimeoutError):
            web_client(cloud, timeout=0.1).chat_postMessage(channel=ALERTS, text="y")
        assert not post.done()
        cloud.heal()
        assert post.result(timeout=30)["ok"]
    # Who has not waited for the answer does not know that it was posted all the same.
    assert [message.text for message in cloud.messages(ALERTS)] == ["x", "y"]


def test_answers_come_after_their_time(cloud: SlackCloud, client: WebClient) -> None:
    url = link(cloud)
    with cloud.fault("slow", seconds=0.1):
        for call in (client.auth_test, lambda: asyncio.run(visit(url))):
            start = time.monotonic()
            call()
            assert time.monotonic() - start >= 0.1


@pytest.mark.parametrize(
    ("fault", "status", "error", "wait"),
    [("error", 500, "internal_error", None), ("ratelimit", 429, "ratelimited", "7")],
)
def test_everything_is_refused(
    cloud: SlackCloud,
    client: WebClient,
    pressed: tuple[str, WebhookClient],
    fault: str,
    status: int,
    error: str,
    wait: str | None,
) -> None:
    with cloud.fault(fault, retry_after=7):
        answer = refused(client.chat_postMessage, channel=ALERTS, text="x")
        assert (answer.status_code, answer["error"], answer.headers.get("Retry-After")) == (status, error, wait)
        assert (
            requests.post(cloud.url + "auth.test", "{", headers={"Content-Type": "application/json"}, timeout=30).status_code
            == status
        )
        assert pressed[1].send(text="x").status_code == status
        row = cloud.requests[1]
        assert (row.method, row.status, row.error, row.channel) == ("chat.postMessage", status, error, ALERTS)
    assert len(cloud.messages(ALERTS)) == 1
    assert client.chat_postMessage(channel=ALERTS, text="x")["ok"]


def test_one_fault_ends_with_the_next(cloud: SlackCloud, client: WebClient) -> None:
    for fault in ("refuse", "hang", "error"):
        cloud.fault(fault)
    assert refused(client.auth_test).status_code == 500
    cloud.heal()
    cloud.heal()
    assert client.auth_test()["ok"]
    with pytest.raises(ValueError, match="no fault fire"):
        cloud.fault("fire")


@pytest.mark.parametrize("fault", ["refuse", "hang", "slow"])
def test_the_end_waits_for_no_fault(cloud: SlackCloud, leaving: ThreadPoolExecutor, fault: str) -> None:
    with SlackCloud() as mine:
        mine.fault(fault, seconds=600)
        post = leaving.submit(web_client(mine).auth_test)
        wait_for("the request", lambda: mine.requests or post.done())
    with pytest.raises((OSError, HTTPException)):
        post.result(timeout=30)


def test_the_port_stays_its_own_while_connections_are_refused() -> None:
    with SlackCloud() as cloud:
        assert cloud.url == f"http://127.0.0.1:{cloud.port}/api/"
        with cloud.fault("refuse"), socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", cloud.port))
        assert web_client(cloud).auth_test()["ok"]


def test_clients_may_know_it_by_another_name() -> None:
    with SlackCloud(name="localhost") as cloud:
        assert cloud.url == f"http://localhost:{cloud.port}/api/"
        assert link(cloud).startswith(f"ws://localhost:{cloud.port}/link/")
