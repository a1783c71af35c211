"""What a press of *Retry* does: one task instance runs again, once, if whoever pressed it may do that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airfield_slack import button
from airfield_slack.airflow_client import Airflow, AirflowError
from airfield_slack.button import ForgedError, Try
from airfield_slack.delivery import Delivery
from airfield_slack.message import moment
from airfield_slack.store import Store

# States in which a task instance has ended.
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}
# Seconds between looks at tasks that run again.
PAUSE = 3.0

log = logging.getLogger(__name__)


def already(person: str) -> str:
    return f"<@{person}> has had this try run again already. Nothing was changed."


@dataclass
class Retry:
    """Answers presses, each in a thread of its own, and follows what came of them, in one thread that calls `step`.

    :param people: Slack's id of a user -> name of the Airflow user.
    """

    store: Store
    airflow: Airflow
    delivery: Delivery
    key: str
    people: Mapping[str, str]
    clock: Callable[[], float] = time.time
    next_look: float = field(default=0.0)

    def recover(self) -> None:
        """After a start: a press that the process before had not finished may be made again, as each compares the try."""
        for press in self.store.presses("claimed"):
            self.store.release(press[0])

    def press(self, value: object, person: str, name: str) -> str:
        """Do what a button says; returns what to tell that person alone, empty where the message says it to all.

        :arg person: Slack's id of who has pressed it, from Slack itself.
        :arg name: how Slack calls them.
        """
        try:
            what = button.verify(self.key, value, self.clock())
        except ForgedError as error:
            log.warning("A button of %s (%s) was refused: %s", person, name, error)
            return f"This button does not work: {error}. Nothing was changed."
        username = self.people.get(person)
        if username is None:
            log.warning("%s (%s) is no user of Airflow here and was refused %s", person, name, what)
            return f"Airflow does not know you ({person}). Ask its operators to add you to airflow_slack_users."
        first = self.store.person(what)
        if first is not None:
            return already(first)
        try:
            if not self.airflow.may_edit(username, what.dag):
                log.warning("%s (%s, Airflow's %s) may not edit DAG %s", person, name, username, what.dag)
                return f"Airflow's user {username} may not edit DAG {what.dag}. Nothing was changed."
            return self.run_again(what, person, name, username)
        except AirflowError as error:
            log.warning("%s could not be run again: %s", what, error)
            return f"{error} Nothing was changed: try again."

    def run_again(self, what: Try, person: str, name: str, username: str) -> str:
        """Clear the task instance, unless somebody has, or it has run again since."""
        if not self.store.claim(what, person, self.clock()):
            return already(self.store.person(what) or person)
        try:
            found = self.airflow.task_instance(what)
            if found is None:
                outcome = f"Airflow has no {what} in this run any more."
            elif (found["state"], found["try_number"]) != ("failed", what.number):
                outcome = f"{what} is past this try: it is now {found['state'] or 'waiting'}, try {found['try_number']}."
            else:
                note = f"Retried from Slack by {name} ({person}), Airflow user {username}"
                cleared = self.airflow.clear(what, note)
                outcome = "" if cleared == 1 else f"Airflow found nothing to run again of {what}."
        except BaseException:
            # Cleared or not, the next press finds out: it compares the try.
            self.store.release(what)
            raise
        if outcome:
            self.store.release(what)
            return f"{outcome} Nothing was changed."
        log.info("%s, try %d, runs again for %s (%s, Airflow's %s)", what, what.number, person, name, username)
        self.store.set_press(what, "cleared")
        self.next_look = 0.0
        return ""

    def now(self) -> str:
        return moment(self.clock(), self.delivery.zone)

    def tell(self, what: Try, note: str) -> bool:
        """Change all messages of a try; returns False where one must be changed later."""
        told = [self.delivery.update(alert, [note]) for alert in self.store.messages_of(what)]
        return all(told)

    def step(self) -> None:
        """Follow what runs again until it has ended, and say so in its message."""
        if self.clock() < self.next_look:
            return
        self.next_look = self.clock() + PAUSE
        for what, person in self.store.presses("cleared"):
            if self.tell(what, f":arrows_counterclockwise: <@{person}> has had it run again at {self.now()}"):
                self.store.set_press(what, "running")
        for what, person in self.store.presses("running"):
            try:
                found = self.airflow.task_instance(what)
            except AirflowError as error:
                log.warning("What became of %s is not known yet: %s", what, error)
                return
            state = found["state"] if found else "removed"
            if state not in ENDED:
                continue
            words = ":white_check_mark: It succeeded" if state == "success" else f":x: It ended again as {state}"
            if state == "success":
                # What fails next is another story.
                self.delivery.end_threads(what)
            if self.tell(what, f"{words} at {self.now()}, run again by <@{person}>"):
                self.store.set_press(what, "ended")

    def handle(self, body: Mapping[str, Any]) -> str:
        """A press as Slack describes it (block_actions)."""
        user = body["user"]
        values = [action.get("value") for action in body["actions"]]
        return self.press(values[0] if len(values) == 1 else None, user["id"], user.get("username") or user.get("name") or "")
