"""What every Airflow process loads at its start: entry point `airflow.policy` of this package. It decides nothing about tasks.

Each guard changes one module of Airflow, when and where that is imported: a process that has no use for it pays nothing.
"""

from __future__ import annotations

import sys

from wrapt import register_post_import_hook

from airfield_guard import environment, log_server, triggers

GUARDS = {
    # Of Airflow 2; that of Airflow 3 has nothing that is looked for.
    "airflow.cli.commands.task_command": environment.guard_raw_task,
    "airflow.jobs.triggerer_job_runner": triggers.guard_runner,
    "airflow.sdk.execution_time.supervisor": environment.guard_children,
    "airflow.serialization.serialized_objects": triggers.guard_serialization,
    "airflow.utils.serve_logs.log_server": log_server.guard_app,
}
# Beside these runs the code of DAGs, as the same user. Not the others: with ProtectProc=invisible their supervisors would no
# longer see the processes that they fork.
SECRETIVE = (["celery", "worker"], ["scheduler"])

for module, guard in GUARDS.items():
    register_post_import_hook(guard, module)
if any(sys.argv[1 : 1 + len(words)] == words for words in SECRETIVE):
    environment.hide_memory()
