"""Let a task go on when there is no room for its log.

Celery imports this into the worker (`imports` in [celery] extra_celery_config). Airflow's supervisor of a task dies of a line
that it cannot write, and the task goes on without it, beside its own next try (seen with 3.3.2).
"""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import PosixPath
from typing import Any

from airflow.sdk import log

make = log.init_log_file


class Log(io.FileIO):
    """A file that takes what there is room for. It has no buffer, which would keep a line and fail with it later."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            super().write(data)
        return len(data)


class LogPath(PosixPath):
    def open(self, *args: Any, **kwargs: Any) -> Any:
        """For appending bytes, as Airflow does, which uploads no log whose name is not a str."""
        return Log(str(self), "a")


def init_log_file(local_relative_path: str) -> LogPath:
    """Airflow's own, for a log that the task does not depend on."""
    try:
        return LogPath(make(local_relative_path))
    except OSError as error:
        print(f"A task has no log: {error}", flush=True)
        return LogPath("/dev/null")


log.init_log_file = init_log_file
