"""Read and write the files that systemd reads by ``EnvironmentFile=``."""

# Copyright: (c) 2026, The Airfield developers
# MIT License (see LICENSE)

from __future__ import annotations

import re


def render(variables):
    """The text of an environment file; systemd reads every value back unchanged.

    >>> render({"B": 'a"$b', "A": 1})
    'A="1"\\nB="a\\\\"\\\\$b"\\n'
    """
    rows = sorted((name, re.sub(r'([\\"`$])', r"\\\1", str(value))) for name, value in variables.items())
    return "".join('%s="%s"\n' % row for row in rows)


def parse(text):
    """The variables in a text that `render` made."""
    rows = re.findall(r'^(\w+)="((?:[^"\\]|\\.)*)"$', text or "", re.MULTILINE)
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in rows}
