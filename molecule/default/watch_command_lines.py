"""Write every command line seen on this machine, its containers' included, to FOLDER/command_lines, while FOLDER exists."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

INTERVAL = 0.05  # seconds
# Every so many intervals all processes count: one may have become another program long after its start.
EVERYTHING = 20


def processes() -> set[str]:
    """The numbers of all processes at this moment."""
    return {name for name in os.listdir("/proc") if name.isdecimal()}


def command_lines(numbers: Iterable[str]) -> set[str]:
    """The command lines of processes."""
    found = set()
    for number in numbers:
        try:
            found.add(Path("/proc", number, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended
    return {line.replace("\n", " ") for line in found}


def main() -> None:
    folder = Path(sys.argv[1])
    seen: set[str] = set()
    before: set[str] = set()
    young: set[str] = set()
    for turn in itertools.count():
        if not folder.is_dir():
            return
        now = processes()
        # A process has its parent's command line before it has its own.
        young, before = (now - before) | (young & now if turn % EVERYTHING else set()), now
        new = command_lines(young if turn % EVERYTHING else now) - seen
        if new:
            seen |= new
            with (folder / "command_lines").open("a", encoding="utf-8") as stream:
                stream.writelines(line + "\n" for line in new)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
