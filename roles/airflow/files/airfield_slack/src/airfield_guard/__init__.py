"""What keeps the code of DAGs away from the secrets of Airflow's processes, and what a task writes from being run elsewhere."""
