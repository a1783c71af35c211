"""Let a task's call that had to be repeated end as its first attempt did.

Celery imports this into the worker (`imports` in [celery] extra_celery_config). Airflow's supervisor of a task repeats a call
whose answer does not come (a restart of the API server, a database that holds it up). Where the first attempt had arrived,
the second one is refused, and that fails the task, although all that it asked for is done: a run of a DAG "already exists",
a task that has ended "was not in the running state" (seen with 3.2.2 and 3.3.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from airflow.sdk.api import client

RUN = re.compile(r"dag-runs/[^/]+/[^/]+")
END = re.compile(r"task-instances/[^/]+/state")
# By how much clocks of two hosts may differ, in seconds: twice what the precheck allows.
SKEW = timedelta(seconds=4)


def moment(value: Any) -> datetime | None:
    """A time as JSON has it."""
    return datetime.fromisoformat(value.replace("Z", "+00:00")) if value else None


def is_ours(run: dict[str, Any], asked: dict[str, Any], began: datetime) -> bool:
    """Whether a run that is there is the one that was asked for, since the first attempt began.

    TriggerDagRunOperator asks for the present moment as logical date unless it is told another: one run alone has that.
    """
    same = all(moment(run.get(name)) == moment(asked[name]) for name in ("logical_date", "run_after") if asked.get(name))
    started = moment(run.get("start_date"))
    return same and (run.get("conf") or {}) == (asked.get("conf") or {}) and (started is None or started >= began - SKEW)


def is_done(self: Any, method: str, path: str, content: Any, began: datetime, status: int) -> bool:
    """Whether a repeated call was refused because an attempt before it had arrived."""
    if method == "PATCH" and END.fullmatch(path):
        # Whatever state the task is in by now, its supervisor has nothing to add: gone is the try that it has ended.
        return status in (404, 409, 410)
    if method == "POST" and RUN.fullmatch(path) and status == 409:
        return is_ours(self.get(path).json(), json.loads(content), began)
    return False


def guard(request: Callable[..., Any]) -> Callable[..., Any]:
    """The client's own call, which repeats what gets no answer."""

    def _request(self: Any, method: str, url: Any, **kwargs: Any) -> Any:
        began = datetime.now(UTC)
        try:
            return request(self, method, url, **kwargs)
        except httpx.HTTPStatusError as error:
            path, status = str(url).strip("/"), error.response.status_code
            # As tenacity counts them, by which Airflow repeats.
            repeated = vars(request)["statistics"].get("attempt_number", 1) > 1
            if not repeated or not is_done(self, method, path, kwargs.get("content"), began, status):
                raise
            print(f"{method} {path} was done by an attempt whose answer was lost", flush=True)
            return httpx.Response(204, request=error.request)

    return _request


client.Client.request = guard(client.Client.request)
