"""Run a function as a service's account with its secrets in the environment, as its service would."""

# Copyright: (c) 2026, The Airfield developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import os
import pwd
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.airfield.metal.plugins.module_utils import environment_file
from ansible_collections.airfield.metal.plugins.module_utils.files import read_text

# What a module takes for `call_airflow`; documented by doc_fragments/service_account.py.
ARGUMENTS = {
    "account": {"type": "str", "default": "airflow"},
    "config": {"type": "path", "default": "/etc/airflow/airflow.cfg"},
    "environment_file": {"type": "path", "default": "/etc/airflow/cli.env"},
}


def call_airflow(module: AnsibleModule, extra: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function that imports Airflow, by the module's options of `ARGUMENTS`.

    :arg extra: environment variables for what the file does not set.
    :raises RuntimeError: as `call_as` does; what the file holds is then masked in all that the module says.
    """
    params = module.params
    secrets = environment_file.parse(read_text(params["environment_file"]))
    environment = {**extra, **secrets, "AIRFLOW_CONFIG": params["config"], "AIRFLOW_HOME": "/var/lib/airflow"}
    try:
        return call_as(params["account"], environment, function, *arguments)
    except RuntimeError:
        # Airflow's messages may hold what it was given.
        module.no_log_values.update(filter(None, secrets.values()))
        raise


def call_as(account: str, environment: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, which must be one for JSON, in a process of its own.

    What the function prints is not seen by the caller: Airflow logs to standard output, where a module's result belongs.

    :raises RuntimeError: with the last lines of what the process said, where the function raised or the process died.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answered:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                become(account)
                os.environ.update(environment)
                answered.write(json.dumps(function(*arguments)).encode())
                answered.flush()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                # Not sys.exit: what the caller wants done at its end is not for the child to do.
                os._exit(status)
        dummy, status = os.waitpid(child, 0)
        if status:
            said.seek(0)
            last = said.read().decode(errors="replace").splitlines()[-20:]
            raise RuntimeError("\n".join([*last, f"(wait status {status})"]))
        answered.seek(0)
        return json.loads(answered.read())


def become(account: str) -> None:
    """Give up root for good; without effect for a process that is not root's."""
    user = pwd.getpwnam(account)
    if os.geteuid() == 0:
        os.initgroups(account, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    os.environ.update(HOME=user.pw_dir, USER=account, LOGNAME=account)
    os.chdir("/")
