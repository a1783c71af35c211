"""The file in which an inventory keeps its generated secrets, encrypted where a vault password is configured."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.vault import VaultLib, match_encrypt_secret


def read(loader: Any, path: Path) -> str:
    """The text of the file, decrypted; empty where there is none."""
    text: str = loader.get_text_file_contents(str(path)) if path.exists() else ""
    return text


def write(loader: Any, path: Path, text: str) -> None:
    """Put the file in place in one step, encrypted where there is a vault password."""
    vault_secrets = loader._vault.secrets
    if vault_secrets:
        vault_id, secret = match_encrypt_secret(vault_secrets)
        text = VaultLib(vault_secrets).encrypt(text, secret, vault_id).decode() + "\n"
    write_private(path, text)


def write_private(path: Path, content: str) -> None:
    """Put a file in place in one step, readable by its owner alone, and on the disk when this returns."""
    # A link stays one.
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".airfield-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            # What a key has encrypted outlives a power cut; so must the key.
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_value(text: str, name: str, value: str) -> str:
    """The file's text with another value for one variable; all else is kept to the letter.

    :raises ValueError: where the variable is not there as a plain text of one place (an alias, an encrypted value, a mapping).
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    places = [(key, node) for key, node in pairs if key.value == name]
    if len(places) != 1:
        raise ValueError(f"{name} stands {len(places)} times")
    key, node = places[0]
    plain = isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str" and node.style in (None, "'", '"')
    # An alias has its text elsewhere, and an anchor is what others refer to.
    between = text[key.end_mark.index : node.start_mark.index].strip()
    if not plain or between != ":" or text[node.start_mark.index] == "&":
        raise ValueError(f"{name} is not a plain text")
    return text[: node.start_mark.index] + "'" + value.replace("'", "''") + "'" + text[node.end_mark.index :]
