"""Slack's cloud as an app sees it, for tests: a server with Slack's rules, on which Slack's own clients work as they are.

It has the Web API by which an app posts, Socket Mode by which an app hears of pressed buttons, and the response URLs that come
with these. What it does not know of Slack it refuses; what a test wants to go wrong goes wrong (`SlackCloud.fault`).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import math
import re
import secrets
import socket
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from aiohttp import WSMsgType, web

T = TypeVar("T")
Json = dict[str, Any]
# Looks at a value at a place in the message, and yields what Slack would find wrong with it.
Check = Callable[[Any, str], Iterator[str]]
# Fields of an object that Slack knows; all others are an error to it.
Shape = dict[str, Check]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TEAM, APP, BOT, BOT_USER, OTHER_BOT = "T0000000001", "A0000000001", "B0000000001", "U0000000001", "U0000000002"
TEXT_LIMIT = 40_000
# Of an update: in bytes, and after Slack has escaped it. What was posted with more text cannot be updated with as much.
UPDATE_LIMIT = 4_000
# Slack does not document it; measured by those who met it (slackapi/bolt-js issue 2509).
BLOCKS_LIMIT = 13_200
RESPONSE_URL_USES, RESPONSE_URL_SECONDS = 5, 30 * 60
TICKET_SECONDS = 30
# Calls per seconds: tier 3 and tier 4. That of chat.postMessage counts by channel.
LIMITS = {"chat.update": (50, 60.0), "chat.postEphemeral": (100, 60.0)}
SCOPES = ("chat:write", "connections:write")
FAULTS = ("refuse", "hang", "slow", "error", "ratelimit")


class RefusedError(Exception):
    """Slack's answer to a call that it does not do."""

    def __init__(self, error: str, status: int = 200, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(error)
        self.error, self.status = error, status
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.body = {"ok": False, "error": error, **more}

    def answer(self) -> web.Response:
        return web.json_response(self.body, status=self.status, headers=self.headers)


def string(limit: int) -> Check:
    """A text of a character or more."""

    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"must provide a string [json-pointer:{where}]"
        elif not value:
            yield f"must be more than 0 characters [json-pointer:{where}]"
        elif len(value) > limit:
            yield f"must be less than {limit + 1} characters [json-pointer:{where}]"

    return check


def one_of(*allowed: Any) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if value not in allowed:
            yield f"must be one of {', '.join(map(str, allowed))} [json-pointer:{where}]"

    return check


def items(limit: int, each: Check) -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"must provide an array [json-pointer:{where}]"
            return
        if not value:
            yield f"no less than 1 items required [json-pointer:{where}]"
        if len(value) > limit:
            yield f"no more than {limit} items allowed [json-pointer:{where}]"
        for index, item in enumerate(value):
            yield from each(item, f"{where}/{index}")

    return check


def thing(shape: Shape, *required: str) -> Check:
    """An object with these fields and no others."""

    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"must provide an object [json-pointer:{where}]"
            return
        for name in required:
            if name not in value:
                yield f"missing required field: {name} [json-pointer:{where}]"
        for name, content in value.items():
            if name in shape:
                yield from shape[name](content, f"{where}/{name}")
            else:
                yield f"invalid additional property: {name} [json-pointer:{where}]"

    return check


def typed(shapes: Mapping[str, Check]) -> Check:
    """An object that has one of these types."""

    def check(value: Any, where: str) -> Iterator[str]:
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in shapes:
            yield f"unsupported type: {kind} [json-pointer:{where}/type]"
        else:
            yield from shapes[kind](value, where)

    return check


def distinct(name: str, each: Check) -> Check:
    """A list of objects that may not have the same name."""

    def check(value: Any, where: str) -> Iterator[str]:
        yield from each(value, where)
        seen = set()
        for index, item in enumerate(value if isinstance(value, list) else []):
            own = item.get(name) if isinstance(item, dict) else None
            if isinstance(own, str):
                if own in seen:
                    yield f"{name} {own!r} already exists [json-pointer:{where}/{index}/{name}]"
                seen.add(own)

    return check


def text(limit: int, *kinds: str) -> Check:
    shape: Shape = {"type": one_of(*(kinds or ("plain_text", "mrkdwn"))), "text": string(limit)}
    shape |= {"emoji": one_of(True, False), "verbatim": one_of(True, False)}
    return thing(shape, "type", "text")


def named(shape: Shape, *required: str) -> Check:
    return thing({"type": string(255), "block_id": string(255), **shape}, *required)


def section(value: Any, where: str) -> Iterator[str]:
    """A section has a text, or fields, or both."""
    shape: Shape = {"text": text(3000), "fields": items(10, text(2000)), "accessory": typed(ELEMENTS)}
    yield from named({**shape, "expand": one_of(True, False)}, *(() if "fields" in value else ("text",)))(value, where)


PLAIN = "plain_text"
CONFIRM = {"title": text(100, PLAIN), "text": text(300), "confirm": text(30, PLAIN), "deny": text(30, PLAIN)}
BUTTON: Shape = {
    "type": string(255),
    "text": text(75, PLAIN),
    "action_id": string(255),
    "value": string(2000),
    "url": string(3000),
    "style": one_of("primary", "danger"),
    "confirm": thing({**CONFIRM, "style": one_of("primary", "danger")}, *CONFIRM),
    "accessibility_label": string(75),
}
IMAGE: Shape = {"type": string(255), "image_url": string(3000), "alt_text": string(2000)}
ELEMENTS: dict[str, Check] = {"button": thing(BUTTON, "text"), "image": thing(IMAGE, "image_url", "alt_text")}
BLOCKS: dict[str, Check] = {
    "section": section,
    "header": named({"text": text(150, PLAIN)}, "text"),
    "divider": named({}),
    "actions": named({"elements": distinct("action_id", items(25, typed({"button": ELEMENTS["button"]})))}, "elements"),
    "context": named(
        {"elements": items(10, typed({PLAIN: text(3000), "mrkdwn": text(3000), "image": ELEMENTS["image"]}))}, "elements"
    ),
    "image": named({**IMAGE, "title": text(2000, PLAIN)}, "image_url", "alt_text"),
}
# An attachment without any of these shows nothing.
SEEN = {"blocks", "text", "pretext", "title", "fields", "fallback", "author_name", "image_url", "thumb_url", "footer"}
MESSAGE_BLOCKS = distinct("block_id", items(50, typed(BLOCKS)))


def attachment_problems(attachments: list[Any]) -> Iterator[str]:
    for index, attachment in enumerate(attachments):
        if not isinstance(attachment, dict):
            yield f"must provide an object [json-pointer:/attachments/{index}]"
        elif attachment.get("blocks"):
            yield from MESSAGE_BLOCKS(attachment["blocks"], f"/attachments/{index}/blocks")


def refuse_problems(error: str, problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise RefusedError(error, errors=found, response_metadata={"messages": [f"[ERROR] {problem}" for problem in found]})


def texts(value: Any) -> Iterator[str]:
    """All texts that people read in blocks."""
    for name, content in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else []):
        if name == "text" and isinstance(content, str):
            yield content
        else:
            yield from texts(content)


def escaped(value: str) -> str:
    """A text as Slack keeps it: what is escaped already, or is a link, stays."""
    parts = re.split(r"(&(?:amp|lt|gt);|<[^<>\s][^<>]*>)", value)
    parts[::2] = [part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for part in parts[::2]]
    return "".join(parts)


def listed(value: Any, error: str) -> list[Any] | None:
    """An array that came in JSON, or as a string with JSON in a form."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise RefusedError(error) from None
    if not isinstance(value, list):
        raise RefusedError(error)
    return value


@dataclass(frozen=True)
class Content:
    """What a message says; None is what a call has not given."""

    text: str | None = None
    blocks: list[Any] | None = None
    attachments: list[Any] | None = None

    @classmethod
    def of(cls, arguments: Json) -> Content:
        """The content that a call gives, if Slack takes it."""
        given = arguments.get("text")
        blocks = listed(arguments.get("blocks"), "invalid_blocks_format")
        attachments = listed(arguments.get("attachments"), "invalid_attachments")
        content = cls(None if given is None else str(given), blocks, attachments)
        content.check()
        return content

    def check(self) -> None:
        seen = [item for item in self.attachments or [] if not isinstance(item, dict) or SEEN & item.keys()]
        if not ((self.text or "").strip() or self.blocks or seen):
            raise RefusedError("no_text")
        # Slack has cut such texts rather than refuse them; a client that relies on that loses what people ought to read.
        if len(self.text or "") > TEXT_LIMIT:
            raise RefusedError("msg_too_long")
        if self.blocks:
            refuse_problems("invalid_blocks", MESSAGE_BLOCKS(self.blocks, "/blocks"))
            if sum(map(len, texts(self.blocks))) > BLOCKS_LIMIT:
                raise RefusedError("msg_blocks_too_long")
        if len(self.attachments or []) > 100:
            raise RefusedError("too_many_attachments")
        refuse_problems("invalid_attachments", attachment_problems(self.attachments or []))


@dataclass(frozen=True)
class Version:
    """What a message has said from one moment on."""

    text: str
    blocks: list[Json]
    attachments: list[Json]


@dataclass
class Message:
    """A message in a channel; `versions` has all that it has said, the present last."""

    ts: str
    channel: str
    user: str
    thread_ts: str | None
    versions: list[Version]

    @property
    def text(self) -> str:
        return self.versions[-1].text

    @property
    def blocks(self) -> list[Json]:
        return self.versions[-1].blocks

    @property
    def attachments(self) -> list[Json]:
        return self.versions[-1].attachments

    @property
    def updates(self) -> int:
        return len(self.versions) - 1


@dataclass(frozen=True)
class Ephemeral:
    """What only one person sees, until they look away."""

    channel: str
    user: str
    thread_ts: str | None
    text: str
    blocks: list[Json]
    attachments: list[Json]


@dataclass(frozen=True)
class Request:
    """A call of the Web API; without a status where it got no answer."""

    time: float
    method: str
    status: int | None
    error: str | None
    channel: str | None
    arguments: Json = field(repr=False)


@dataclass
class Press:
    """An envelope for the app, and how many seconds it took to acknowledge it: in time, or late."""

    envelope_id: str
    payload: Json
    kind: str = "interactive"
    # Whether there was a connection to send it by.
    sent: bool = False
    acknowledged: float | None = None
    late: float | None = None
    # What came with the acknowledgement.
    response: Any = None

    @property
    def failed(self) -> bool:
        """Whether Slack shows an error to the person. It does not try again: only events are sent again."""
        return self.acknowledged is None


@dataclass
class Channel:
    id: str
    name: str
    # Whether the bot is in it.
    member: bool
    messages: list[Message] = field(default_factory=list)


@dataclass
class Hook:
    """What stands behind a response URL."""

    channel: Channel
    ts: str
    user: str
    expires: float
    uses: int = 0


class Window:
    """So many calls in so many seconds."""

    def __init__(self, calls: int, seconds: float) -> None:
        self.calls, self.seconds = calls, seconds
        self.times: deque[float] = deque()

    def enter(self, now: float) -> None:
        """Count a call, or refuse it; what is refused does not count."""
        while self.times and self.times[0] <= now - self.seconds:
            self.times.popleft()
        if len(self.times) >= self.calls:
            raise RefusedError("ratelimited", 429, max(1, math.ceil(self.times[0] + self.seconds - now)))
        self.times.append(now)


@dataclass(frozen=True)
class Method:
    do: Callable[[Workspace, Json], Json]
    # The kind of token that it takes, and the scope that this must have.
    token: str
    scope: str | None = None


class Workspace:
    """What Slack knows of one team: its channels, people and messages, and what the app may do. Threads take `lock`."""

    def __init__(
        self,
        clock: Callable[[], float],
        tokens: dict[str, str],
        burst: int,
        limits: Mapping[str, tuple[int, float]],
        scopes: Collection[str],
    ) -> None:
        self.lock = threading.RLock()
        self.clock, self.tokens, self.scopes = clock, tokens, scopes
        # By which clients reach the server.
        self.address = ""
        self.channels: dict[str, Channel] = {}
        self.people: dict[str, str] = {}
        self.ephemerals: list[Ephemeral] = []
        self.hooks: dict[str, Hook] = {}
        self.tickets: dict[str, float] = {}
        self.posts: dict[str, Window] = defaultdict(lambda: Window(burst, float(burst)))
        self.calls = {method: Window(*limit) for method, limit in limits.items()}
        self.last = 0

    def call(self, name: str, token: str | None, arguments: Json) -> Json:
        """Answer a call of the Web API."""
        method = self.METHODS.get(name)
        if method is None:
            raise RefusedError("unknown_method", req_method=name)
        if not token:
            raise RefusedError("not_authed")
        if token not in self.tokens.values():
            raise RefusedError("invalid_auth")
        if token != self.tokens[method.token]:
            raise RefusedError("not_allowed_token_type")
        if method.scope and method.scope not in self.scopes:
            raise RefusedError("missing_scope", needed=method.scope, provided=",".join(self.scopes))
        if name in self.calls:
            self.calls[name].enter(self.clock())
        return {"ok": True, **method.do(self, arguments)}

    def find(self, channel: Any) -> Channel | None:
        """A channel by its id or its name."""
        name = str(channel).removeprefix("#")
        return next((found for found in self.channels.values() if found.id == channel or found.name == name), None)

    def enter(self, arguments: Json) -> Channel:
        """The channel of a call, if the bot is in it."""
        channel = self.find(arguments.get("channel", ""))
        if channel is None:
            raise RefusedError("channel_not_found")
        if not channel.member:
            raise RefusedError("not_in_channel")
        return channel

    def stamp(self) -> str:
        """A new message's name: the time, but never the same and always greater."""
        self.last = max(self.last + 1, int(self.clock() * 1_000_000))
        return f"{self.last // 1_000_000}.{self.last % 1_000_000:06}"

    def version(self, content: Content) -> Version:
        """Content as Slack keeps it: everything has a name."""

        def name(blocks: list[Json]) -> list[Json]:
            for block in blocks:
                block.setdefault("block_id", secrets.token_urlsafe(4))
                for element in [*block.get("elements", []), block.get("accessory", {})]:
                    if element.get("type") == "button":
                        element.setdefault("action_id", secrets.token_urlsafe(4))
            return blocks

        attachments: list[Json] = copy.deepcopy(content.attachments or [])
        for number, attachment in enumerate(attachments, 1):
            attachment["id"] = number
            attachment.setdefault("fallback", "[no preview available]")
            name(attachment.get("blocks") or [])
        return Version(escaped(content.text or ""), name(copy.deepcopy(content.blocks or [])), attachments)

    def post(self, channel: Channel, user: str, content: Content, thread_ts: Any = None) -> Message:
        # Where there is no such message, or not any more, Slack posts to the channel instead and says nothing: only the missing
        # `thread_ts` in its answer tells (slack-go/slack issue 1571).
        parent = next((message for message in channel.messages if message.ts == thread_ts), None)
        thread = None if parent is None else parent.thread_ts or parent.ts
        message = Message(self.stamp(), channel.id, user, thread, [self.version(content)])
        channel.messages.append(message)
        return message

    def whisper(self, channel: Channel, user: str, content: Content, thread_ts: Any = None) -> str:
        kept = self.version(content)
        self.ephemerals.append(Ephemeral(channel.id, user, thread_ts, kept.text, kept.blocks, kept.attachments))
        return self.stamp()

    @staticmethod
    def shown(message: Message) -> Json:
        """A message as Slack's answers and payloads have it."""
        shown: Json = {"type": "message", "user": message.user, "team": TEAM, "ts": message.ts, "text": message.text}
        if message.user == BOT_USER:
            shown |= {"bot_id": BOT, "app_id": APP}
        if message.thread_ts:
            shown["thread_ts"] = message.thread_ts
        more = {"blocks": message.blocks, "attachments": message.attachments, "edited": message.updates and {"user": BOT_USER}}
        return copy.deepcopy(shown | {name: content for name, content in more.items() if content})

    def auth_test(self, arguments: Json) -> Json:
        names = {"url": "https://airfield.slack.com/", "team": "Airfield", "user": "airfield", "team_id": TEAM}
        return {**names, "user_id": BOT_USER, "bot_id": BOT, "is_enterprise_install": False}

    def post_message(self, arguments: Json) -> Json:
        channel = self.enter(arguments)
        self.posts[channel.id].enter(self.clock())
        message = self.post(channel, BOT_USER, Content.of(arguments), arguments.get("thread_ts"))
        return {"channel": channel.id, "ts": message.ts, "message": self.shown(message)}

    def update(self, arguments: Json) -> Json:
        # Not by its name.
        if arguments.get("channel") not in self.channels:
            raise RefusedError("channel_not_found")
        channel = self.enter(arguments)
        message = next((message for message in channel.messages if message.ts == arguments.get("ts")), None)
        if message is None:
            raise RefusedError("message_not_found")
        if message.user != BOT_USER:
            raise RefusedError("cant_update_message")
        new = Content.of(arguments)
        if len(escaped(new.text or "").encode()) > UPDATE_LIMIT:
            raise RefusedError("msg_too_long")
        # Blocks stay only where there is no new text either; attachments stay unless they are replaced.
        blocks = message.blocks if new.blocks is None and new.text is None else new.blocks
        attachments = message.attachments if new.attachments is None else new.attachments
        kept = message.text if new.text is None else new.text
        message.versions.append(self.version(Content(kept, blocks, attachments)))
        return {"channel": channel.id, "ts": message.ts, "text": message.text, "message": self.shown(message)}

    def post_ephemeral(self, arguments: Json) -> Json:
        channel = self.enter(arguments)
        user = arguments.get("user")
        if user not in self.people:
            raise RefusedError("user_not_in_channel")
        return {"message_ts": self.whisper(channel, str(user), Content.of(arguments), arguments.get("thread_ts"))}

    def open_connection(self, arguments: Json) -> Json:
        ticket = str(uuid.uuid4())
        self.tickets[ticket] = self.clock() + TICKET_SECONDS
        return {"url": f"ws://{self.address}/link/?ticket={ticket}&app_id={APP}"}

    def admit(self, ticket: str) -> bool:
        """Whether this is a ticket for a connection; it is none from then on."""
        return self.tickets.pop(ticket, -math.inf) > self.clock()

    METHODS: ClassVar[dict[str, Method]] = {
        "auth.test": Method(auth_test, "xoxb"),
        "chat.postMessage": Method(post_message, "xoxb", "chat:write"),
        "chat.update": Method(update, "xoxb", "chat:write"),
        "chat.postEphemeral": Method(post_ephemeral, "xoxb", "chat:write"),
        "apps.connections.open": Method(open_connection, "xapp", "connections:write"),
    }

    def respond(self, secret: str, body: Json) -> None:
        """What the app says by a response URL."""
        hook = self.hooks.get(secret)
        if hook is None or hook.expires <= self.clock():
            raise RefusedError("expired_url", 404)
        if hook.uses >= RESPONSE_URL_USES:
            raise RefusedError("used_url", 404)
        message = next((message for message in hook.channel.messages if message.ts == hook.ts), None)
        if message is None and (body.get("delete_original") or body.get("replace_original")):
            raise RefusedError("message_not_found", 404)
        if message is not None and body.get("delete_original"):
            hook.channel.messages.remove(message)
        else:
            content = Content.of(body)
            if message is not None and body.get("replace_original"):
                message.versions.append(self.version(content))
            elif body.get("response_type") == "in_channel":
                self.post(hook.channel, BOT_USER, content, body.get("thread_ts"))
            else:
                self.whisper(hook.channel, hook.user, content, body.get("thread_ts"))
        hook.uses += 1

    def pressed(self, channel: Channel, ts: str, user: str, action_id: str, block_id: str | None, value: str | None) -> Json:
        """What the app gets to know of a button that a person has pressed in a message as it is now."""
        message = next((message for message in channel.messages if message.ts == ts), None)
        if message is None:
            raise ValueError(f"no message {ts} in #{channel.name}")
        found = [
            (number, block, button)
            for number, block, button in buttons(message)
            if button["action_id"] == action_id and block_id in (None, block["block_id"])
        ]
        if not found:
            raise ValueError(f"no button {action_id} in message {ts} as it is now")
        number, block, button = found[0]
        secret = secrets.token_urlsafe(18)
        self.hooks[secret] = Hook(channel, ts, user, self.clock() + RESPONSE_URL_SECONDS)
        action: Json = {name: button[name] for name in ("action_id", "text", "value", "style", "type") if name in button}
        action |= {"block_id": block["block_id"], "action_ts": self.stamp()} | ({} if value is None else {"value": value})
        container = {"type": "message", "message_ts": ts, "channel_id": channel.id, "is_ephemeral": False}
        if number is not None:
            container |= {"type": "message_attachment", "attachment_id": number, "is_app_unfurl": False}
        name = self.people[user]
        return {
            "type": "block_actions",
            "user": {"id": user, "username": name, "name": name, "team_id": TEAM},
            "api_app_id": APP,
            "token": "verification",
            "container": container,
            "trigger_id": f"{self.last}.{TEAM}.{secrets.token_hex(16)}",
            "team": {"id": TEAM, "domain": "airfield"},
            "enterprise": None,
            "is_enterprise_install": False,
            "channel": {"id": channel.id, "name": channel.name},
            "message": self.shown(message),
            "state": {"values": {}},
            "response_url": f"http://{self.address}/actions/{TEAM}/{self.last}/{secret}",
            "actions": [action],
        }


def buttons(message: Message) -> Iterator[tuple[int | None, Json, Json]]:
    """All buttons of a message, with their blocks and the numbers of the attachments that these are in."""
    places: list[tuple[int | None, list[Json]]] = [(None, message.blocks)]
    places += [(attachment["id"], attachment.get("blocks") or []) for attachment in message.attachments]
    for number, blocks in places:
        for block in blocks:
            for element in [*block.get("elements", []), block.get("accessory", {})]:
                if element.get("type") == "button":
                    yield number, block, element


@dataclass
class Link:
    """A connection by Socket Mode."""

    socket: web.WebSocketResponse
    request: web.Request
    # Whether its client was asked to take another one.
    leaving: bool = False


class Fault:
    """Something that goes wrong, from now until it is healed or the end of its `with`."""

    def __init__(self, cloud: SlackCloud, kind: str, seconds: float, retry_after: int) -> None:
        self.cloud, self.kind, self.seconds, self.retry_after = cloud, kind, seconds, retry_after
        self.over = asyncio.Event()

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cloud.heal()

    async def wait(self, seconds: float | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    @property
    def dead(self) -> bool:
        """Whether nothing at all comes from the server."""
        return self.kind in ("refuse", "hang")


class SlackCloud:
    """The server, from `with` on. `name` is by what clients reach it, where that is not the address it listens on."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str = "",
        bot_token: str = "",
        app_token: str = "",
        channels: Iterable[str] = ("data-alerts",),
        users: Iterable[str] = ("alice",),
        burst: int = 1,
        limits: Mapping[str, tuple[int, float]] | None = None,
        scopes: Collection[str] = SCOPES,
        ack_seconds: float = 3,
        ping_seconds: float = 10,
        leave_seconds: float = 10,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.bot_token = bot_token or f"xoxb-1-1-{secrets.token_hex(12)}"
        self.app_token = app_token or f"xapp-1-{APP}-1-{secrets.token_hex(32)}"
        self.ack_seconds, self.ping_seconds, self.leave_seconds, self.clock = ack_seconds, ping_seconds, leave_seconds, clock
        # Bound, but never listening: nobody else gets the port while connections are refused.
        self.holder = bound(host, port)
        self.host, self.port = host, int(self.holder.getsockname()[1])
        tokens = {"xoxb": self.bot_token, "xapp": self.app_token}
        self.workspace = Workspace(clock, tokens, burst, {**LIMITS, **(limits or {})}, scopes)
        self.workspace.address = f"{name or host}:{self.port}"
        self.url = f"http://{self.workspace.address}/api/"
        for channel in channels:
            self.add_channel(channel)
        for user in users:
            self.add_user(user)
        self.presses: list[Press] = []
        self.late_acks: list[Press] = []
        # Everything that clients have sent by Socket Mode.
        self.received: list[Any] = []
        self.log: list[Request] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="slack-cloud", daemon=True)
        self.links: list[Link] = []
        # Whether a client is expected that was asked to connect anew.
        self.expected = False
        # Envelopes whose acknowledgement is in time if it comes now, with when they were sent.
        self.waiting: dict[str, asyncio.Event] = {}
        self.sent: dict[str, tuple[Press, float]] = {}
        self.broken: Fault | None = None

    def __enter__(self) -> SlackCloud:
        self.thread.start()
        self.run(self._start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.holder.close()

    def run(self, task: Coroutine[Any, Any, T]) -> T:
        """Have something done by the server's thread."""
        return asyncio.run_coroutine_threadsafe(task, self.loop).result()

    # What a test arranges and sees.

    def add_channel(self, name: str, member: bool = True) -> str:
        """A channel with the bot in it, or not; returns its id."""
        with self.workspace.lock:
            channel = Channel(f"C{len(self.workspace.channels) + 1:010}", name.removeprefix("#"), member)
            self.workspace.channels[channel.id] = channel
            return channel.id

    def add_user(self, name: str) -> str:
        """A person, who is in all channels; returns their id."""
        with self.workspace.lock:
            user = f"U{len(self.workspace.people) + 1001:010}"
            self.workspace.people[user] = name
            return user

    def channel(self, channel: str) -> Channel:
        with self.workspace.lock:
            found = self.workspace.find(channel)
        if found is None:
            raise ValueError(f"no channel {channel}")
        return found

    def user(self, user: str) -> str:
        """A person's id, by this or by their name."""
        with self.workspace.lock:
            for number, name in self.workspace.people.items():
                if user in (number, name):
                    return number
        raise ValueError(f"no user {user}")

    def say(self, channel: str, text: str, user: str = "", thread_ts: str | None = None) -> str:
        """Post something that is not the app's: a person's, or another bot's; returns its ts."""
        author = self.user(user) if user else OTHER_BOT
        with self.workspace.lock:
            return self.workspace.post(self.channel(channel), author, Content(text), thread_ts).ts

    def delete(self, channel: str, ts: str) -> None:
        """Take a message away, as its author or an administrator can."""
        with self.workspace.lock:
            messages = self.channel(channel).messages
            messages[:] = [message for message in messages if message.ts != ts]

    def messages(self, channel: str) -> list[Message]:
        """What is in a channel now, with all threads, in the order in which it was posted."""
        with self.workspace.lock:
            return copy.deepcopy(self.channel(channel).messages)

    @property
    def ephemerals(self) -> list[Ephemeral]:
        with self.workspace.lock:
            return copy.deepcopy(self.workspace.ephemerals)

    @property
    def requests(self) -> list[Request]:
        """All calls of the Web API so far."""
        return list(self.log)

    @property
    def connections(self) -> int:
        """How many clients could be told of a button."""
        return sum(not link.leaving for link in list(self.links))

    def press(
        self, ts: str, channel: str, action_id: str, user: str, value: str | None = None, block_id: str | None = None
    ) -> Press:
        """Press a button, and wait as long as Slack does; with a `value` that is not the button's, forge it."""
        with self.workspace.lock:
            payload = self.workspace.pressed(self.channel(channel), ts, self.user(user), action_id, block_id, value)
        return self.send(payload)

    def send(self, payload: Json, envelope_id: str = "", kind: str = "interactive") -> Press:
        """Send any payload, and wait as long as Slack does; with the id of an envelope that was sent before, replay it."""
        press = Press(envelope_id or str(uuid.uuid4()), payload, kind)
        self.run(self._send(press))
        return press

    def refresh(self) -> None:
        """Ask all clients to connect anew, as Slack does every few hours; they are cut off if they stay."""
        self.run(self._refresh())

    def fault(self, kind: str, seconds: float = 60, retry_after: int = 30) -> Fault:
        """Let something go wrong, until `heal` or the end of the fault's `with`:

        - refuse: connections are refused, and those that there are break.
        - hang: connections are made, but nothing is answered. At its end, they break.
        - slow: everything is done at once, but answered only after `seconds`.
        - error: HTTP 500.
        - ratelimit: HTTP 429 with `retry_after`.
        """
        if kind not in FAULTS:
            raise ValueError(f"no fault {kind}: {', '.join(FAULTS)}")
        fault = Fault(self, kind, seconds, retry_after)
        self.run(self._break(fault))
        return fault

    def heal(self) -> None:
        """Let everything go well again."""
        self.run(self._heal())

    # What the server does, in its own thread.

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._failing], client_max_size=16 * 1024**2)
        app.router.add_post("/api/{method}", self._api)
        app.router.add_get("/link/", self._link)
        app.router.add_post("/actions/{team}/{id}/{secret}", self._respond)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        self.changed = asyncio.Event()
        await self._listen()

    async def _listen(self) -> None:
        server = self.runner.server
        assert server is not None
        self.server = await self.loop.create_server(server, sock=bound(self.host, self.port), backlog=128)

    def _drop(self) -> None:
        """Break all connections."""
        for transport in self._transports():
            transport.abort()

    def _transports(self) -> list[asyncio.Transport]:
        server = self.runner.server
        assert server is not None
        return [connection.transport for connection in server.connections if connection.transport is not None]

    async def _stop(self) -> None:
        self.server.close()
        self._drop()
        await self.runner.cleanup()

    async def _break(self, fault: Fault) -> None:
        await self._heal()
        self.broken = fault
        if fault.kind == "refuse":
            self.server.close()
            self._drop()
        elif fault.kind == "hang":
            # Not even pings get an answer.
            for transport in self._transports():
                transport.pause_reading()

    async def _heal(self) -> None:
        fault, self.broken = self.broken, None
        if fault is None:
            return
        if fault.kind == "refuse":
            await self._listen()
        elif fault.kind == "hang":
            self._drop()
        fault.over.set()

    @web.middleware
    async def _failing(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = self.broken
        # A connection's first bytes may be here before its fault is.
        if fault is None or fault.kind == "refuse":
            return await handler(request)
        if fault.kind == "slow":
            return await self._slow(fault, request, handler)
        refusal = {
            "hang": RefusedError("hang", 0),
            "error": RefusedError("internal_error", 500),
            "ratelimit": RefusedError("ratelimited", 429, fault.retry_after),
        }[fault.kind]
        if "method" in request.match_info:
            arguments: Json = {}
            with contextlib.suppress(RefusedError):
                _, arguments = await self._arguments(request)
            self._note(request, arguments, refusal.status or None, refusal.error)
        if fault.kind == "hang":
            await fault.wait()
        return refusal.answer() if refusal.status else web.Response()

    @staticmethod
    async def _slow(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/link/"):
            await fault.wait(fault.seconds)
            return await handler(request)
        answer = await handler(request)
        await fault.wait(fault.seconds)
        return answer

    def _note(self, request: web.Request, arguments: Json, status: int | None, error: str | None) -> None:
        with self.workspace.lock:
            channel = self.workspace.find(arguments.get("channel"))
        name = channel.id if channel else arguments.get("channel")
        self.log.append(Request(self.clock(), request.match_info["method"], status, error, name, arguments))

    @staticmethod
    async def _arguments(request: web.Request) -> tuple[str | None, Json]:
        """A call's token and its arguments. In JSON a token is no argument: it is a header there."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        header = token if scheme.lower() == "bearer" else None
        if request.content_type == "application/json":
            try:
                # Slack's own client has sent none of it, up to 3.44, for a method without arguments.
                body = json.loads(await request.text() or "{}")
            except ValueError:
                raise RefusedError("invalid_json") from None
            if not isinstance(body, dict):
                raise RefusedError("json_not_object")
            body.pop("token", None)
            return header, body
        form = dict(await request.post())
        own = form.pop("token", None)
        return header or (str(own) if own else None), form

    async def _api(self, request: web.Request) -> web.Response:
        arguments: Json = {}
        try:
            token, arguments = await self._arguments(request)
            with self.workspace.lock:
                answer = self.workspace.call(request.match_info["method"], token, arguments)
        except RefusedError as refusal:
            self._note(request, arguments, refusal.status, refusal.error)
            return refusal.answer()
        self._note(request, arguments, 200, None)
        return web.json_response(answer)

    async def _respond(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise RefusedError("invalid_payload", 400)
            with self.workspace.lock:
                self.workspace.respond(request.match_info["secret"], body)
        except RefusedError as refusal:
            # Unlike the Web API, a response URL says by its status that something is wrong.
            refusal.status = 400 if refusal.status == 200 else refusal.status
            return refusal.answer()
        except ValueError:
            return RefusedError("invalid_payload", 400).answer()
        return web.Response(text="ok")

    async def _link(self, request: web.Request) -> web.StreamResponse:
        with self.workspace.lock:
            admitted = self.workspace.admit(request.query.get("ticket", ""))
        if not admitted:
            return web.Response(status=401, text="invalid ticket")
        # It pings, and gives up a client that does not answer.
        link = Link(web.WebSocketResponse(heartbeat=self.ping_seconds), request)
        await link.socket.prepare(request)
        debug = {"host": "applink-1", "build_number": 1, "approximate_connection_time": 18060}
        number = self.connections + 1
        hello = {"type": "hello", "num_connections": number, "connection_info": {"app_id": APP}, "debug_info": debug}
        await link.socket.send_json(hello)
        self.links.append(link)
        self.expected = False
        self.changed.set()
        try:
            async for message in link.socket:
                if message.type == WSMsgType.TEXT:
                    self._receive(message.data)
        finally:
            self.links.remove(link)
        return link.socket

    def _receive(self, data: str) -> None:
        try:
            message = json.loads(data)
        except ValueError:
            message = data
        self.received.append(message)
        envelope = message.get("envelope_id") if isinstance(message, dict) else None
        if envelope not in self.sent:
            return
        press, since = self.sent[envelope]
        if envelope in self.waiting:
            press.acknowledged, press.response = time.monotonic() - since, message.get("payload")
            self.waiting[envelope].set()
        elif press.failed and press.late is None:
            press.late = time.monotonic() - since
            self.late_acks.append(press)

    async def _pick(self) -> Link | None:
        """The newest connection; where a client was asked for another one, that."""
        while self.expected and not (self.broken and self.broken.dead):
            self.changed.clear()
            await self.changed.wait()
        links = [link for link in self.links if not link.leaving]
        return links[-1] if links and not (self.broken and self.broken.dead) else None

    async def _send(self, press: Press) -> None:
        self.presses.append(press)
        try:
            link = await asyncio.wait_for(self._pick(), self.ack_seconds)
            if link is None:
                return
            self.waiting[press.envelope_id] = asyncio.Event()
            self.sent[press.envelope_id] = (press, time.monotonic())
            envelope = {"envelope_id": press.envelope_id, "payload": press.payload, "type": press.kind}
            await link.socket.send_json({**envelope, "accepts_response_payload": False})
            press.sent = True
            await asyncio.wait_for(self.waiting[press.envelope_id].wait(), self.ack_seconds)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self.waiting.pop(press.envelope_id, None)

    async def _refresh(self) -> None:
        for link in [link for link in self.links if not link.leaving]:
            link.leaving = self.expected = True
            debug = {"host": "applink-1"}
            with contextlib.suppress(ConnectionError):
                await link.socket.send_json({"type": "disconnect", "reason": "refresh_requested", "debug_info": debug})
            transport = link.request.transport
            if transport is not None:
                self.loop.call_later(self.leave_seconds, transport.abort)


def bound(host: str, port: int) -> socket.socket:
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind((host, port))
    return taken
