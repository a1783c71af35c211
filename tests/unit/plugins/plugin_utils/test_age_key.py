from __future__ import annotations

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils import age_key

# From a run of age-keygen 1.1.1.
PRIVATE = "AGE-SECRET-KEY-1EMNDQMLA5LAHFYWTPYA6W00KF54QEQ0Z34SX3F0YU696SQ2XZWDSVA5PGN"
PUBLIC = "age1dqyunyyuzynte0xtdp0l24nhxky9u6lywqx5dm4f0q8d8gtxd44sd8f2t2"


def test_public_key_is_the_one_that_age_has() -> None:
    assert age_key.recipient(PRIVATE) == PUBLIC


def test_new_keys_differ_and_have_public_ones() -> None:
    first, second = age_key.random_identity(), age_key.random_identity()
    assert first != second
    assert first.startswith("AGE-SECRET-KEY-1")
    assert len(first) == len(PRIVATE)
    assert age_key.recipient(first) != age_key.recipient(second)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AGE-SECRET-KEY-1",
        PUBLIC,
        PRIVATE[:-1],
        PRIVATE[:-1] + ("Q" if PRIVATE[-1] != "Q" else "P"),
        PRIVATE.replace("AGE", "age"),
        PRIVATE[:-1] + "b",
        age_key.encode(age_key.PRIVATE, b"too short").upper(),
    ],
)
def test_anything_else_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="not a private key of age's"):
        age_key.recipient(text)


def test_bech32_of_its_specification() -> None:
    # BIP 173: a valid text without data, in either case.
    assert age_key.decode("a", "A12UEL5L") == b""
    assert age_key.encode("a", b"") == "a12uel5l"
