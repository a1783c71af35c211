"""Mail from tasks, and of their failures, arrives at a real server, encrypted and with a password."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import topology
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

SETTINGS = topology.variable("airflow_smtp", {})


class Mailbox:
    """What has come, and who is let in."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        assert session.ssl is not None
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    @staticmethod
    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object) -> AuthResult:
        assert isinstance(given, LoginPassword)
        expected = (SETTINGS["user"], topology.variable("airflow_smtp_password"))
        return AuthResult(success=(given.login.decode(), given.password.decode()) == expected)


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=mail.example.org"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    mailbox = Mailbox()
    controller = Controller(
        mailbox,
        hostname=SETTINGS["host"],
        port=SETTINGS["port"],
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=mailbox.check,
    )
    controller.start()
    yield mailbox
    controller.stop()


def test_mail_arrives(mailbox: Mailbox, api: topology.Api, dags: None) -> None:
    run = api.trigger("airfield_mail")
    topology.wait_for("the run to end", lambda: api.state("airfield_mail", run) in ("success", "failed"), 120)
    assert {task["task_id"]: task["state"] for task in api.tasks("airfield_mail", run)} == {
        "by_function": "success",
        "by_hook": "success",
        "fail": "failed",
    }
    found = topology.wait_for("three mails", lambda: mailbox.mails if len(mailbox.mails) >= 3 else None, 30)
    assert {mail["From"] for mail in found} == {SETTINGS["from_email"]}
    assert {mail["To"] for mail in found} == {"team@example.org"}
    subjects = sorted(mail["Subject"] for mail in found)
    assert subjects[0].startswith("Airflow alert: ")
    assert "task_id='fail' dag_id='airfield_mail'" in subjects[0]
    assert subjects[1:] == ["by function", "by hook"]
