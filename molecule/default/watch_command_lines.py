"""Write every command line seen on this machine, its containers' included, to FOLDER/command_lines, while FOLDER exists."""

from __future__ import annotations

import sys
import time
from pathlib import Path

INTERVAL = 0.05  # seconds


def command_lines() -> set[str]:
    """The command lines of all processes at this moment."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace").replace("\n", " "))
        except OSError:
            continue  # it has ended
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    seen: set[str] = set()
    while folder.is_dir():
        new = command_lines() - seen
        if new:
            seen |= new
            with (folder / "command_lines").open("a", encoding="utf-8") as stream:
                stream.writelines(line + "\n" for line in new)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
