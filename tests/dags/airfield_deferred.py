"""Waits for a file in the triggerer, deferred by the scheduler (which encrypts the trigger's arguments) and by a worker."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, BaseHook, BaseOperator, Variable
from airflow.providers.standard.triggers.file import FileTrigger
from airflow.triggers.base import StartTriggerArgs

FILE = "/var/lib/airflow/airfield_deferred"


class Deferred(BaseOperator):
    """Does its work after the trigger has fired: reads what the test has put into the database."""

    def execute(self, context):
        self.defer(trigger=FileTrigger(filepath=FILE, poke_interval=1), method_name="finish")

    def finish(self, context, event=None):
        return [Variable.get("airfield_fernet_old"), BaseHook.get_connection("airfield_fernet_old").password]


class DeferredByScheduler(Deferred):
    start_from_trigger = True
    start_trigger_args = StartTriggerArgs(
        trigger_cls="airflow.providers.standard.triggers.file.FileTrigger",
        trigger_kwargs={"filepath": FILE, "poke_interval": 1},
        next_method="finish",
    )


with DAG(dag_id="airfield_deferred", schedule=None):
    Deferred(task_id="by_worker")
    DeferredByScheduler(task_id="by_scheduler")
