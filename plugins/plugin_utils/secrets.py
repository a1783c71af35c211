"""Secrets of a cluster: how each kind is generated, and what makes one unfit."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import base64
import binascii
import re
import secrets
import string
from collections.abc import Callable

from ansible_collections.airfield.metal.plugins.plugin_utils import age_key

# Values that stand in public documentation, images and roles for Airflow; in lower case.
PUBLIC_VALUES = frozenset(
    {
        "7t512uxssmbokpwimfhivb8jk6lfmsavx4mo6arehnc=",  # the community Helm chart's fernet key
        "46bkjoqylppoexq0ohdznilnepkff87wfwlbfzqdho=",
        "46bkjoqylppoexq0ohdznilnepkff87wfwlbfzqddho=",  # puckel's and Bitnami's images
        "this is unsafe!",
        "temporary_key",
        "cryptography_not_found_storing_passwords_in_plain_text",
        "a_secret_key",
        "secret_key",
        "airflow",
        "admin",
        "admin123",
        "changeme",
        "change_me",
        "default",
        "password",
        "passw0rd",
        "postgres",
        "redis",
        "secret",
        "123456",
    }
)
URL_SAFE = string.ascii_letters + string.digits


def random_text(length: int) -> str:
    """Letters and digits, about 6 bits each: they need no quoting anywhere."""
    return "".join(secrets.choice(URL_SAFE) for dummy in range(length))


def random_fernet_key() -> str:
    """32 bytes in URL-safe base64, as cryptography's Fernet.generate_key makes them."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def fernet_problem(value: str) -> str:
    """Why a list of Fernet keys is unfit; rotation has it as "new,old"."""
    for key in value.split(","):
        try:
            fits = len(base64.urlsafe_b64decode(key.strip())) == 32
        except (binascii.Error, ValueError):
            fits = False
        if not fits:
            return "is not a Fernet key (32 bytes in URL-safe base64)"
    return ""


def age_problem(value: str) -> str:
    """Why a private key for backups is unfit."""
    try:
        age_key.recipient(value)
    except ValueError:
        return "is not a private key of age's (AGE-SECRET-KEY-1..., one line of what age-keygen writes)"
    return ""


def name_problem(value: str) -> str:
    """Why a name of a cluster is unfit."""
    fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value)
    return "" if fits else "is not a name of letters, digits, . _ and -, of at most 63 characters"


def length_problem(minimum: int) -> Callable[[str], str]:
    """A check that a value has this many characters and is not one character over and over."""

    def check(value: str) -> str:
        if len(value) < minimum:
            return f"has {len(value)} characters, at least {minimum} are needed"
        if len(set(value)) < min(5, minimum):
            return f"consists of only {len(set(value))} different characters"
        return ""

    return check


# kind -> (how to make one, what is wrong with a given one).
# Lengths: a JWT is signed with HS512, whose key should have 64 bytes (RFC 7518, 3.2); 12 is NIST SP 800-63B's least for
# a password that nobody has to remember.
KINDS: dict[str, tuple[Callable[[], str], Callable[[str], str]]] = {
    "age": (age_key.random_identity, age_problem),
    "fernet": (random_fernet_key, fernet_problem),
    "jwt": (lambda: random_text(64), length_problem(64)),
    "key": (lambda: random_text(48), length_problem(32)),
    "password": (lambda: random_text(32), length_problem(12)),
    # No secret, but as little to be guessed or mistaken for another.
    "cluster": (lambda: f"airflow-{random_text(8).lower()}", name_problem),
    "access_key": (lambda: random_text(20), length_problem(3)),
}


def problem(kind: str, value: object) -> str:
    """Why a secret of this kind must not be used, as the rest of a sentence; empty where it may.

    The sentence never holds the value.
    """
    if not isinstance(value, str):
        return "is not a string (quote it in YAML)"
    if not value:
        return "is empty"
    if kind != "cluster" and any(part.strip().lower() in PUBLIC_VALUES for part in value.split(",")):
        return "is publicly known: it stands in documentation or in another project's defaults"
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        return "holds a control character, such as a line break"
    return KINDS[kind][1](value)
