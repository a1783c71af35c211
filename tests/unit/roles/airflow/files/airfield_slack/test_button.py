"""Nobody but the service can make a button."""

from __future__ import annotations

import json
import random

import pytest
from airfield_slack import button
from airfield_slack.button import ForgedError, Try, encode, mac, sign, verify

KEY = "key of the cluster"
WHAT = Try("sales", "scheduled__2026-11-25T00:00:00+00:00", "group.load", 3, 2)
NOW, EXPIRES = 1000.0, 2000.0
VALUE = sign(KEY, WHAT, EXPIRES)
DATA, MAC = VALUE.split(".")


def test_button_stands_for_what_was_signed() -> None:
    assert verify(KEY, VALUE, NOW) == WHAT
    assert verify(KEY, VALUE, EXPIRES) == WHAT


def forged(*fields: object) -> str:
    """Data of a forger's choice with the MAC of a real button."""
    return encode(json.dumps(fields, separators=(",", ":")).encode()) + "." + MAC


OTHER = [
    ("other", WHAT.run, WHAT.task, 3, 2, 2000),
    (WHAT.dag, "other", WHAT.task, 3, 2, 2000),
    (WHAT.dag, WHAT.run, "other", 3, 2, 2000),
    (WHAT.dag, WHAT.run, WHAT.task, 4, 2, 2000),
    (WHAT.dag, WHAT.run, WHAT.task, 3, 3, 2000),
    (WHAT.dag, WHAT.run, WHAT.task, 3, 2, 9999999999),
]


@pytest.mark.parametrize(
    "value",
    [
        *(forged(*fields) for fields in OTHER),
        "",
        None,
        5,
        ["x"],
        ".",
        DATA,
        f"{DATA}.",
        f".{MAC}",
        f"{DATA}.{MAC}x",
        f"{DATA}.{MAC[:-1]}",
        f"{DATA}=.{MAC}",
        f"{DATA}.{MAC}.{MAC}",
        f" {VALUE}",
        f"{DATA}.\u00e9\ud800",
        f"{DATA}.{mac('another key', DATA)}",
        f"{DATA}.{mac('', DATA)}",
        sign("another key", WHAT, EXPIRES),
    ],
)
def test_forged_button_is_refused(value: object) -> None:
    with pytest.raises(ForgedError, match="not made here"):
        verify(KEY, value, NOW)


def test_thousand_changes_of_one_character_are_refused() -> None:
    chooser = random.Random(1)  # noqa: S311 - the same ones each time
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    for _ in range(1000):
        place = chooser.randrange(len(VALUE))
        changed = VALUE[:place] + chooser.choice(letters.replace(VALUE[place], "")) + VALUE[place + 1 :]
        with pytest.raises(ForgedError):
            verify(KEY, changed, NOW)


def test_old_button_is_refused() -> None:
    with pytest.raises(ForgedError, match="too old"):
        verify(KEY, VALUE, EXPIRES + 1)


def test_longest_names_of_airflow_fit_into_a_button() -> None:
    assert len(sign(KEY, Try("d" * 250, "r" * 250, "t" * 250, 99999, 999), 1e10)) <= button.LONGEST


def test_value_that_slack_would_not_take_is_not_made() -> None:
    with pytest.raises(ValueError, match="too long"):
        sign(KEY, Try("d" * 1500, "r", "t", -1, 1), EXPIRES)


@pytest.mark.parametrize(("index", "text"), [(-1, "sales.load"), (3, "sales.load[3]")])
def test_try_has_a_name_for_people(index: int, text: str) -> None:
    assert str(Try("sales", "r", "load", index, 1)) == text
