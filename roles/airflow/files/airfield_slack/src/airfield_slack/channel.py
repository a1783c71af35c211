"""Which channel a DAG wants its alerts in: by a tag, `slack:#channel` or `slack:off`, or by the parameter `slack_channel`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TAG = "slack:"
OFF = "off"
PARAMETER = "slack_channel"


def channel_of(tags: Iterable[str], params: Mapping[str, Any], default: str) -> str:
    """The channel of a DAG; empty for one that wants no alerts."""
    named = [tag.removeprefix(TAG) for tag in sorted(tags) if tag.startswith(TAG)]
    if OFF in named:
        return ""
    # A run may have another value for the parameter; that of the DAG counts.
    return named[0] if named else str(params.get(PARAMETER) or default)
