"""DAGs that nobody here wrote: some of Airflow's own examples, as they lie in the release."""

from __future__ import annotations

from airflow.example_dags import example_task_group, example_time_delta_sensor_async, example_xcom

try:
    from airflow.example_dags import example_bash_operator
except ImportError:  # Airflow 3
    from airflow.providers.standard.example_dags import example_bash_operator

bash_operator = example_bash_operator.dag
task_group = example_task_group.dag
deferrable = example_time_delta_sensor_async.dag
xcom = example_xcom.dag
