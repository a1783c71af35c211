"""What a *Retry* button stands for, so that nobody else can make one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import astuple, dataclass

# Slack's limit for the value of a button, in characters.
LONGEST = 2000


@dataclass(frozen=True)
class Try:
    """One try of one task instance."""

    dag: str
    run: str
    task: str
    map_index: int
    number: int

    def __str__(self) -> str:
        return f"{self.dag}.{self.task}" + (f"[{self.map_index}]" if self.map_index >= 0 else "")


class ForgedError(Exception):
    """A value that this service has not made, or not for now."""


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def mac(key: str, data: str) -> str:
    return encode(hmac.digest(key.encode(), b"airfield retry\0" + data.encode(), hashlib.sha256))


def sign(key: str, what: Try, expires: float) -> str:
    """The value of a button: what it stands for, until when (seconds since 1970), and a MAC of both.

    :raises ValueError: where Slack would not take it.
    """
    data = encode(json.dumps([*astuple(what), int(expires)], separators=(",", ":")).encode())
    value = f"{data}.{mac(key, data)}"
    if len(value) > LONGEST:
        raise ValueError(f"the names of {what} are too long for a button")
    return value


def verify(key: str, value: object, now: float) -> Try:
    """What a button stands for.

    :raises ForgedError: where the value is not one of `sign`, or its time is over.
    """
    # One form for one thing: base64 has several for the same bytes, of which the MAC covers the text.
    data, dot, given = value.partition(".") if isinstance(value, str) else ("", "", "")
    if not dot or not hmac.compare_digest(mac(key, data).encode(), given.encode(errors="replace")):
        raise ForgedError("it was not made here")
    try:
        *fields, expires = json.loads(decode(data))
    except (ValueError, binascii.Error) as error:  # no one has the key to make these
        raise ForgedError("it is damaged") from error
    if now > expires:
        raise ForgedError("it is too old")
    return Try(*fields)
