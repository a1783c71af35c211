"""The first thing to try: three greetings, one after the other. Change them, then run playbooks/deploy_dags.yml."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None, tags=["demo"], doc_md=__doc__)
def hello() -> None:
    @task
    def greet(name: str) -> str:
        import socket

        print(f"Hello {name}, this is {socket.gethostname()}")
        return socket.gethostname()

    greet("world") >> greet("worker") >> greet("team")


hello()
