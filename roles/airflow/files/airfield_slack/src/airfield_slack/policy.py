"""Alerts for every DAG, by Airflow's cluster policies: entry point `airflow.policy` of this package.

In force where the environment has AIRFIELD_SLACK_DEFAULT_CHANNEL. A task that has a failure callback of its own has that one
alone. A DAG may say otherwise (`airfield_slack.channel`).
"""

from __future__ import annotations

import os
from typing import Any

from airflow.policies import hookimpl

from airfield_slack.alert import SlackAlert
from airfield_slack.channel import channel_of


@hookimpl
def task_policy(task: Any) -> None:
    """Give a task the alert of its DAG's channel, where it has no failure callback of its own."""
    default = os.environ.get("AIRFIELD_SLACK_DEFAULT_CHANNEL", "")
    if not default or task.on_failure_callback:
        return
    channel = channel_of(task.dag.tags or (), task.dag.params or {}, default)
    if channel:
        task.on_failure_callback = [SlackAlert(channel).failure]
