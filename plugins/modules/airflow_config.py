#!/usr/bin/python
# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: airflow_config
short_description: Validate and install airflow.cfg and the files beside it
version_added: "0.1.0"
description:
  - Checks every option against what the installed release declares, then writes the file sorted, in one step. Unknown,
    moved or mistyped options fail the task and leave the old file in place.
  - Options that Airflow treats as secrets are refused; they belong in an environment file.
  - Lays down all other files of a host in the same module run, since a run of a module costs more than its work.
options:
  options:
    description: Section, then option, then value. Booleans and numbers may be YAML's own; lists and mappings become JSON.
    type: dict
    required: true
  path:
    description: The file.
    type: path
    default: /etc/airflow/airflow.cfg
  release:
    description: Directory of the release whose C(airfield.json) says which options there are.
    type: path
    default: /opt/airflow/current
  group:
    description: Group that may read the file, by name or number.
    type: str
    required: true
  files:
    description: Further files, with their whole content. No secrets.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file. Folders above it are made.
        type: path
        required: true
      content:
        description: Its content.
        type: str
        required: true
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, in octal digits.
        type: str
        default: "0644"
  folders:
    description: Folders to make, 0755 root:root.
    type: list
    elements: path
    default: []
  record:
    description: File for the hashes of all that is written, by which M(airfield.metal.airflow_info) finds what was changed.
    type: path
    default: /var/lib/airfield/airflow-config.written.json
  environment_file:
    description: File for O(environment), written 0600 root:root in the form of C(EnvironmentFile=).
    type: path
  environment:
    description: Variables of the environment file. Every value is treated as a secret.
    type: dict
attributes:
  check_mode:
    support: full
    description: Reports whether the file would change. Without a release on the host there is nothing to check against.
  diff_mode:
    support: full
    description: Shows airflow.cfg and the other files, which hold no secret; of the environment only what names change.
author:
  - The Airfield developers (@airfield)
"""

EXAMPLES = r"""
- name: Install airflow.cfg
  airfield.metal.airflow_config:
    group: airflow
    options:
      core:
        executor: CeleryExecutor
        load_examples: false
    folders: [/opt/airflow/dags]
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import catalogue, environment_file, written
from ansible_collections.airfield.metal.plugins.module_utils.files import (
    FILE_OPTIONS,
    ensure_file,
    ensure_folder,
    read_text,
    text_diff,
)


class DamagedReleaseError(Exception):
    """What is wrong with a release, and the remedy."""


def find_problems(options: dict[str, Any], release: str, path: str) -> list[str]:
    """What the installed release would not accept in airflow.cfg; nothing where there is no release yet.

    :raises DamagedReleaseError: where it cannot be asked.
    """
    declared, problem = catalogue.read(release, ("free_sections", "moved", "options"))
    if problem:
        raise DamagedReleaseError(problem)
    if not declared:
        return []
    problems = catalogue.find_problems(options, declared)
    dummy, secrets = catalogue.split_sensitive(
        {section: body for section, body in options.items() if isinstance(body, dict)}, declared
    )
    return problems + [f"{name} holds a secret and must not stand in {path}." for name in sorted(secrets)]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "options": {"type": "dict", "required": True},
            "path": {"type": "path", "default": "/etc/airflow/airflow.cfg"},
            "release": {"type": "path", "default": "/opt/airflow/current"},
            "group": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "dict", "default": [], "options": FILE_OPTIONS},
            "folders": {"type": "list", "elements": "path", "default": []},
            "record": {"type": "path", "default": written.path_of("airflow-config")},
            "environment_file": {"type": "path"},
            "environment": {"type": "dict", "no_log": True},
        },
        required_together=[("environment_file", "environment")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        problems = find_problems(params["options"], params["release"], params["path"])
    except DamagedReleaseError as error:
        module.fail_json(msg=f"airflow.cfg was not changed: {error}")
    if problems:
        module.fail_json(
            msg="airflow.cfg was not changed: {} Remedy: correct airflow_config in the inventory.".format(" ".join(problems))
        )
    files = [{"path": params["path"], "content": catalogue.render(params["options"]), "mode": "0640"}] + params["files"]
    files[0]["group"] = params["group"]
    diff = [entry for file in files for entry in text_diff(file["path"], read_text(file["path"]), file["content"])]
    changed = [ensure_folder(module, path) for path in params["folders"]]
    if params["environment_file"]:
        path = params["environment_file"]
        diff += environment_file.names_diff(path, read_text(path), params["environment"])
        files.append({"path": path, "content": environment_file.render(params["environment"]), "mode": "0600"})
    changed += [ensure_file(module, **file) for file in [*files, written.record(params["record"], files)]]
    module.exit_json(changed=any(changed), path=params["path"], diff=diff)


if __name__ == "__main__":
    main()
