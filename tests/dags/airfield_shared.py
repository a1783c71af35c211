"""What several of a team's files import."""

from __future__ import annotations

EDITION = "first"


def shout(text: str) -> str:
    return text.strip().upper() + "!"
