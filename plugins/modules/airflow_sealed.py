#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_sealed
short_description: Keep secrets on a host that the host itself cannot read
version_added: "0.1.0"
description:
  - Encrypts secrets with age for public keys, and keeps what comes of it in a file. Who has none of the private keys, as the
    host, can only hand it on, into a backup for example.
  - age encrypts the same anew each time, so a file beside it has a hash of what is in it. Among O(secrets) must be one that
    nobody can guess, or the others could be guessed by that hash.
options:
  path:
    description: The file. It gets mode 0600 and belongs to root.
    type: path
    required: true
  recipients:
    description: Public keys.
    type: list
    elements: str
    required: true
  secrets:
    description: Names and values, which become a JSON object.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Says whether something else would be in the file, also where age is not installed yet.
  diff_mode:
    support: none
    description: Has nothing to show but secrets.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Let backups have the inventory's secrets
  airfield.metal.airflow_sealed:
    path: /var/lib/airfield/backup-secrets.age
    recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
    secrets:
      airflow_fernet_key: "{{ airflow_fernet_key }}"
"""

RETURN = r"""
names:
  description: Names of the secrets in the file.
  returned: always
  type: list
  elements: str
"""

import hashlib
import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils.files import ensure_file, make_folders, put_in_place, read_text

# How a file of age's begins.
HEADER = b"age-encryption.org/v1\n"


def is_sealed(path: str) -> bool:
    """Whether there is something that age has encrypted."""
    try:
        with open(path, "rb") as stream:
            return stream.read(len(HEADER)) == HEADER
    except OSError:
        return False


def seal(module: AnsibleModule, path: str, recipients: list[str], text: str) -> None:
    """Put the encrypted text in place in one step."""
    make_folders(os.path.dirname(path))
    temporary = path + ".new"
    command = ["age", "--encrypt", *("--recipient=" + recipient for recipient in recipients), "--output=" + temporary]
    mask = os.umask(0o077)
    try:
        rc, stdout, stderr = module.run_command(command, data=text)
    finally:
        os.umask(mask)
    if rc:
        module.fail_json(msg=f"age could not encrypt {path}: {stderr.strip()} Remedy: correct airflow_backup_public_key.")
    put_in_place(temporary, path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "recipients": {"type": "list", "elements": "str", "required": True},
            "secrets": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    path, recipients = params["path"], params["recipients"]
    text = json.dumps(params["secrets"], sort_keys=True)
    mark = hashlib.sha256(json.dumps([sorted(recipients), text]).encode()).hexdigest() + "\n"
    changed = not is_sealed(path) or read_text(path + ".sha256") != mark
    if changed and not module.check_mode:
        seal(module, path, recipients, text)
    # After what it stands for.
    changed |= ensure_file(module, path + ".sha256", mark, "0600")
    module.exit_json(changed=changed, names=sorted(params["secrets"]))


if __name__ == "__main__":
    main()
