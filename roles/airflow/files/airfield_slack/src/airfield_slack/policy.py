"""Alerts for every DAG, by Airflow's cluster policies: entry point `airflow.policy` of this package.

In force where the environment has AIRFIELD_SLACK_DEFAULT_CHANNEL. A task that has a failure callback of its own has that one
alone. A DAG says otherwise by a tag, `slack:#channel` or `slack:off`, or by the parameter `slack_channel`.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.policies import hookimpl

from airfield_slack.alert import SlackAlert

TAG = "slack:"
OFF = "off"
PARAMETER = "slack_channel"


@hookimpl
def task_policy(task: Any) -> None:
    """Give a task the alert of its DAG's channel, where it has no failure callback of its own."""
    default = os.environ.get("AIRFIELD_SLACK_DEFAULT_CHANNEL", "")
    if not default or task.on_failure_callback:
        return
    channel = channel_of(task.dag, default)
    if channel:
        task.on_failure_callback = [SlackAlert(channel).failure]


def channel_of(dag: Any, default: str) -> str:
    """The channel of a DAG; empty for one that wants no alerts."""
    tags = [tag.removeprefix(TAG) for tag in sorted(dag.tags or ()) if tag.startswith(TAG)]
    if OFF in tags:
        return ""
    if tags:
        return tags[0]
    # A run may have another value for it; the policy is asked when the file is read.
    given = (dag.params or {}).get(PARAMETER)
    return str(getattr(given, "value", given) or default)
