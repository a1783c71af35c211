-- A million task instances that ended well, in 100,000 runs of one DAG, as Airflow 3.3 keeps them.
insert into dag_run (dag_id, run_id, logical_date, run_after, start_date, end_date, state, run_type, clear_number, span_status)
select 'bench_million', 'run_' || n, day, day, day, day + interval '5 minutes', 'success', 'scheduled', 0, 'ended'
from generate_series(1, 100000) n, lateral (select now() - n * interval '1 minute' as day) t;
insert into task_instance (id, task_id, dag_id, run_id, map_index, start_date, end_date, duration, state, try_number, max_tries,
  hostname, unixname, pool, pool_slots, queue, priority_weight, operator, span_status, executor_config)
select gen_random_uuid(), 'task_' || t, 'bench_million', 'run_' || n, -1, now() - n * interval '1 minute',
  now() - n * interval '1 minute' + interval '20 seconds', 20, 'success', 1, 0, 'worker1', 'airflow', 'default_pool', 1, 'default',
  1, 'PythonOperator', 'ended', '\x80047d942e'
from generate_series(1, 100000) n, generate_series(1, 10) t;
analyze;
