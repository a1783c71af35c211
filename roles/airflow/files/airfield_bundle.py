"""The bundle of the DAGs that Airfield delivers: whoever has begun with a revision of them goes on with it."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle


class CurrentDagBundle(LocalDagBundle):
    """A folder that is a symbolic link to a revision, which is what the path is from the bundle's initialization on.

    A task so keeps the code that it started with when the link moves on; the DAG processor follows it when it refreshes.
    The revision is locked meanwhile, by which the module airflow_dags knows that it must not be removed.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._link = self._path
        self._release: weakref.finalize[Any, Any] | None = None

    def initialize(self) -> None:
        self.refresh()
        super().initialize()

    def refresh(self) -> None:
        """Follow the link, and hold on to where it leads."""
        while True:
            path = Path(os.path.realpath(self._link))
            if self._release and path == self._path:
                return
            try:
                handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                if Path(os.path.realpath(self._link)) != path:
                    continue  # it has moved on
                self._path = path
                return
            fcntl.flock(handle, fcntl.LOCK_SH)
            if path.exists():
                break
            os.close(handle)  # it was removed before it was locked
        if self._release:
            self._release()
        self._path, self._release = path, weakref.finalize(self, os.close, handle)
