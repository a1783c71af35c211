from __future__ import annotations

import base64

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils import secrets

FERNET = base64.urlsafe_b64encode(b"0123456789abcdefghijklmnopqrstuv").decode()
OTHER_FERNET = base64.urlsafe_b64encode(b"vutsrqponmlkjihgfedcba9876543210").decode()


@pytest.mark.parametrize("kind", secrets.KINDS)
def test_generated_secret_is_fit_and_new_each_time(kind: str) -> None:
    generate = secrets.KINDS[kind][0]
    values = {generate() for _ in range(20)}
    assert len(values) == 20
    assert [secrets.problem(kind, value) for value in values] == [""] * 20


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("fernet", FERNET),
        ("fernet", f"{FERNET},{OTHER_FERNET}"),
        ("jwt", "abcdefgh" * 8),
        ("key", "abcdefgh" * 4),
        ("password", "correct horse"),
        ("access_key", "abc"),
    ],
)
def test_fit_secret_has_no_problem(kind: str, value: str) -> None:
    assert secrets.problem(kind, value) == ""


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("password", 123456789012, "is not a string"),
        ("password", None, "is not a string"),
        ("password", "", "is empty"),
        ("password", "ChangeMe", "is publicly known"),
        ("password", "line one\nline two", "holds a control character"),
        ("password", "abcdefgh\x7fijkl", "holds a control character"),
        ("password", "hunter2abcd", "has 11 characters, at least 12 are needed"),
        ("password", "abababababababab", "consists of only 2 different characters"),
        ("access_key", "ab", "has 2 characters, at least 3 are needed"),
        ("access_key", "aaaaaaaa", "consists of only 1 different characters"),
        ("jwt", "abcdefg" * 9, "has 63 characters, at least 64 are needed"),
        ("key", "temporary_key", "is publicly known"),
        ("fernet", "7T512UXSSmBOkpWimFHIVb8jK6lfmSAvx4mO6Arehnc=", "is publicly known"),
        ("fernet", f"{FERNET}, 7T512UXSSmBOkpWimFHIVb8jK6lfmSAvx4mO6Arehnc=", "is publicly known"),
        ("fernet", FERNET[:-4], "is not a Fernet key"),
        ("fernet", f"{FERNET},", "is not a Fernet key"),
        ("fernet", "ünot base64", "is not a Fernet key"),
        ("age", "AGE-SECRET-KEY-1QQQQ", "is not a private key of age's"),
        ("age", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "is not a private key of age's"),
    ],
)
def test_unfit_secret_is_refused_without_being_shown(kind: str, value: object, message: str) -> None:
    problem = secrets.problem(kind, value)
    assert problem.startswith(message)
    assert not value or str(value) not in problem


def test_public_values_are_in_the_case_that_they_are_compared_in() -> None:
    assert {value.lower() for value in secrets.PUBLIC_VALUES} == secrets.PUBLIC_VALUES
