"""Mail: of a failure, by Airflow's function, and by the provider's hook."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

TO = "team@example.org"

with DAG(dag_id="airfield_mail", schedule=None, tags=["slack:off"]):

    @task(email=TO, email_on_failure=True)
    def fail() -> None:
        raise ValueError("write home")

    @task
    def by_function() -> None:
        from airflow.utils.email import send_email

        send_email(TO, "by function", "<p>Hello</p>")

    @task
    def by_hook() -> None:
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        with SmtpHook() as hook:
            hook.send_email_smtp(to=TO, subject="by hook", html_content="<p>Hello</p>")

    fail()
    by_function()
    by_hook()
