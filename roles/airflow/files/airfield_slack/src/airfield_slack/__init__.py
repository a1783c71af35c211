"""Alerts of Airflow's tasks in Slack. A DAG's author needs `SlackAlert` and nothing else of this package.

On every host a callback writes an alert into a folder and is done; `forward` brings the folder's content to Redis; `service`,
on one host, sends it to Slack and runs a task again when somebody presses *Retry* there.
"""

from airfield_slack.alert import SlackAlert

__all__ = ["SlackAlert"]
