"""Airflow plugin for the web server: a page of a task's log loads the log's end, and not a log of any size.

Airflow reads a whole log into memory, parses every line of it, and holds up every other call meanwhile (3.3.2, a log of
200 MB: 2.3 GB, and 8 s for calls of tasks). How much a page may load is in the environment variable of `LIMIT`, which only
the web server's unit sets; without it this does nothing.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import PosixPath
from typing import Any

from airflow.plugins_manager import AirflowPlugin

# Bytes.
LIMIT = "AIRFIELD_LOG_PAGE_BYTES"
# What each further source of a page may load when others have used up the limit: its end tells what came of it.
LEAST = 64 * 1024


class Page:
    """What one page may still load. A log has several sources: objects in the bucket, files here, files of a worker."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def grant(self, size: int) -> int:
        """How many bytes of a source of this size it may load."""
        granted = min(size, max(self.left, LEAST))
        self.left -= granted
        return granted


# The page that this thread is about to put together.
page: ContextVar[Page | None] = ContextVar("page", default=None)


def notice(source: str, size: int, shown: int) -> str:
    """The line that stands for what is left out. It has no time, so Airflow puts it first."""
    return (
        f"*** Airfield: this page shows the last {shown / 2**20:.1f} MB of {size / 2**20:.1f} MB. All of it is in {source}, "
        f"and stays there; airflow_webserver_log_mb sets how much a page loads.\n"
    )


def shorten(data: bytes, source: str, size: int) -> bytes:
    """The end of a source, from its first whole line on, below the notice; all of it where nothing is left out."""
    if len(data) >= size:
        return data
    head, newline, rest = data.partition(b"\n")
    # A last line that is longer than the page is cut.
    tail = rest if rest else data
    return notice(source, size, len(tail)).encode() + tail.decode(errors="ignore").encode()


def bound_read(read: Callable[..., Any], limit: int) -> Callable[..., Any]:
    """Airflow's reader of one try's log, for one page. What it opens late, it has opened by its end."""

    def _read(*args: Any, **kwargs: Any) -> Any:
        token = page.set(Page(limit))
        try:
            return read(*args, **kwargs)
        finally:
            page.reset(token)

    return _read


def bound_object(s3_read: Callable[..., str]) -> Callable[..., str]:
    """The reader of an object in the bucket. A worker appends to a log by the same one: without a page it reads all."""

    def _s3_read(self: Any, remote_log_location: str, return_error: bool = False) -> str:
        current = page.get()
        if current is None:
            return s3_read(self, remote_log_location, return_error)
        try:
            found = self.hook.get_key(remote_log_location)
            size = found.content_length
            granted = current.grant(size)
            # An empty object has no range.
            wanted = {"Range": f"bytes={size - granted}-"} if granted < size else {}
            data = found.get(**wanted)["Body"].read(granted)
        except Exception as error:  # as Airflow does it: what S3's client raises has no common base
            message = f"Could not read logs from {remote_log_location} with error: {error}"
            self.log.exception(message)
            return message if return_error else ""
        return shorten(data, remote_log_location, size).decode(errors="replace")

    return _s3_read


def bound_answer(get: Callable[..., Any]) -> Callable[..., Any]:
    """`requests.get`, by which Airflow asks the worker for the log of a task that runs."""

    def _get(url: str, **kwargs: Any) -> Any:
        current = page.get()
        if current is None:
            return get(url, **kwargs)
        granted = current.grant(max(current.left, LEAST))
        ranged = {**kwargs, "headers": {**kwargs.get("headers", {}), "Range": f"bytes=-{granted}"}}
        answer = get(url, **ranged)
        if answer.status_code == 416:
            return get(url, **kwargs)
        if answer.status_code == 206:
            size = int(answer.headers["Content-Range"].rpartition("/")[2])
            data = shorten(answer.content, f"{url}, and in the bucket when the task has ended", size)
            # Airflow 3 streams the raw answer, and looks at its length before; Airflow 2 takes the content.
            answer._content, answer.raw = data, io.BytesIO(data)
            answer.headers["Content-Length"] = str(len(data))
        return answer

    return _get


def end_of_file(path: str) -> bytes | None:
    """What a page may load of a file; None where that is all of it, or no page asks."""
    current = page.get()
    if current is None:
        return None
    with builtins.open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        granted = current.grant(size)
        if granted >= size:
            return None
        file.seek(size - granted)
        return shorten(file.read(granted), path, size)


def bound_open(path: Any, mode: str = "r", **kwargs: Any) -> Any:
    """`open`, as Airflow 3 has it for a log on the same host."""
    end = end_of_file(os.fspath(path)) if mode == "r" else None
    return builtins.open(path, mode, **kwargs) if end is None else io.StringIO(end.decode(errors="replace"))


class LogPath(PosixPath):
    """A path, as Airflow 2 has it for a log on the same host."""

    def read_text(self, *args: Any, **kwargs: Any) -> str:
        end = end_of_file(str(self))
        return super().read_text(*args, **kwargs) if end is None else end.decode(errors="replace")


def bound(limit: int) -> None:
    """Let every page of a log, and every answer of the API with one, load this many bytes of it at most."""
    import requests
    from airflow.providers.amazon.aws.log.s3_task_handler import S3RemoteLogIO
    from airflow.utils.log import file_task_handler

    handler = file_task_handler.FileTaskHandler
    if hasattr(handler._read, "bound"):
        return
    handler._read = bound_read(handler._read, limit)
    handler._read.bound = True
    S3RemoteLogIO.s3_read = bound_object(S3RemoteLogIO.s3_read)
    requests.get = bound_answer(requests.get)
    file_task_handler.open = bound_open
    file_task_handler.Path = LogPath


class AirfieldLogPagePlugin(AirflowPlugin):
    """Airflow's entry point."""

    name = "airfield_log_page"

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        if LIMIT in os.environ:
            bound(int(os.environ[LIMIT]))
