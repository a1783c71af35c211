"""Read and write the files that systemd reads by ``EnvironmentFile=``."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.airfield.metal.plugins.module_utils.files import text_diff


def render(variables: Mapping[str, Any]) -> str:
    """The text of an environment file; systemd reads every value back unchanged.

    >>> render({"B": 'a"$b', "A": 1})
    'A="1"\\nB="a\\\\"\\\\$b"\\n'
    """
    rows = sorted((name, re.sub(r'([\\"`$])', r"\\\1", str(value))) for name, value in variables.items())
    return "".join('{}="{}"\n'.format(*row) for row in rows)


def parse(text: str | None) -> dict[str, str]:
    """The variables in a text that `render` made."""
    rows = re.findall(r'^(\w+)="((?:[^"\\]|\\.)*)"$', text or "", re.MULTILINE)
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in rows}


def names_diff(path: str, text: str | None, after: Mapping[str, Any]) -> list[dict[str, str]]:
    """An entry of a module's diff that shows the names whose values change, and no value."""
    before = parse(text)
    after = {name: str(value) for name, value in after.items()}
    names = sorted(name for name in set(before) | set(after) if before.get(name) != after.get(name))
    return text_diff(
        path,
        "".join(f"{name}=<before>\n" for name in names if name in before),
        "".join(f"{name}=<after>\n" for name in names if name in after),
    )
