"""Key pairs of age, as age-keygen makes them: X25519 keys in Bech32 (age-encryption.org/v1, BIP 173)."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import secrets
from collections.abc import Iterable

PRIVATE, PUBLIC = "age-secret-key-", "age"
CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def polymod(values: Iterable[int]) -> int:
    """The checksum's remainder; 1 for a text that has its checksum at the end."""
    remainder = 1
    for value in values:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for place, factor in enumerate(GENERATOR):
            remainder ^= factor if top >> place & 1 else 0
    return remainder


def expand(prefix: str) -> list[int]:
    return [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]


def encode(prefix: str, data: bytes) -> str:
    """32 bytes as Bech32, in lower case."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[place : place + 5], 2) for place in range(0, len(bits), 5)]
    remainder = polymod([*expand(prefix), *values, *[0] * 6]) ^ 1
    values += [remainder >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{prefix}1" + "".join(CHARACTERS[value] for value in values)


def decode(prefix: str, text: str) -> bytes:
    """The bytes of such a text.

    :raises ValueError: where it is not one.
    """
    if text not in (text.lower(), text.upper()) or not text.lower().startswith(f"{prefix}1"):
        raise ValueError("the beginning or the case is wrong")
    values = [CHARACTERS.index(character) for character in text.lower()[len(prefix) + 1 :]]
    if polymod([*expand(prefix), *values]) != 1:
        raise ValueError("the checksum is wrong")
    bits = "".join(f"{value:05b}" for value in values[:-6])
    return bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits) // 8 * 8, 8))


def random_identity() -> str:
    """A new private key."""
    return encode(PRIVATE, secrets.token_bytes(32)).upper()


def recipient(identity: str) -> str:
    """The public key of a private one.

    :raises ValueError: where it is no private key; the message holds nothing of it.
    """
    # Ansible's sanity tests import every plugin without it.
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    try:
        private = X25519PrivateKey.from_private_bytes(decode(PRIVATE, identity))
        return encode(PUBLIC, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    except ValueError:
        raise ValueError("not a private key of age's") from None
