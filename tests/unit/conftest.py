"""Fixtures of the unit tests: modules run in this process, with real files and without other programs."""

from __future__ import annotations

import grp
import io
import json
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args


@pytest.fixture(autouse=True)
def _root_is_me(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a module would give to root goes to whoever runs the tests, who may not give files away."""
    users = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
    for kind, me in users.items():
        method = f"set_{kind}_if_different"
        original = getattr(AnsibleModule, method)

        def give(module: Any, path: str, name: str, *rest: Any, original: Callable[..., bool] = original, me: str = me) -> bool:
            return original(module, path, me if name == "root" else name, *rest)

        monkeypatch.setattr(AnsibleModule, method, give)


@pytest.fixture
def run_module() -> Callable[..., dict[str, Any]]:
    """Run a module as Ansible would; returns what it prints."""

    def run(module: ModuleType, check: bool = False, **params: Any) -> dict[str, Any]:
        output = io.StringIO()
        umask = os.umask(0o022)
        try:
            arguments = {**params, "_ansible_check_mode": check, "_ansible_diff": True}
            with patch_module_args(arguments), redirect_stdout(output), pytest.raises(SystemExit):
                module.main()
        finally:
            os.umask(umask)
        result: dict[str, Any] = json.loads(output.getvalue())
        return result

    return run


@pytest.fixture
def make_module() -> Iterator[Callable[..., AnsibleModule]]:
    """A module's object, for functions that take one."""
    with ExitStack() as arguments:

        def make(check: bool = False) -> AnsibleModule:
            arguments.enter_context(patch_module_args({"_ansible_check_mode": check}))
            return AnsibleModule(argument_spec={}, supports_check_mode=True)

        yield make


class Commands:
    """Stands in for the programs that a module runs: `answer` gets the words and gives the output, or (rc, out, err)."""

    def __init__(self) -> None:
        self.answer: Callable[[list[str]], str | tuple[int, str, str]] = lambda words: ""
        self.lines: list[str] = []
        self.environments: list[dict[str, str]] = []
        self.inputs: list[str | None] = []

    def run(
        self,
        module: Any,
        words: list[str],
        check_rc: bool = False,
        environ_update: dict[str, str] | None = None,
        data: str | None = None,
        cwd: str | None = None,
    ) -> tuple[int, str, str]:
        self.lines.append(" ".join(words))
        self.environments.append(environ_update or {})
        self.inputs.append(data)
        answer = self.answer(words)
        rc, stdout, stderr = (0, answer, "") if isinstance(answer, str) else answer
        if rc and check_rc:
            module.fail_json(msg=stderr, rc=rc, cmd=words)
        return rc, stdout, stderr


# What a power cut, or a hand, makes of a JSON file of ours.
SPOILT = [b"", b"{", b"[]", b"null", b"5", b'"text"', b"[" * 99_999, b"\0" * 4096, bytes(range(256)), b"{}", b'{"other": 1}']


@pytest.fixture(params=SPOILT, ids=lambda content: repr(content[:12]))
def spoilt(request: pytest.FixtureRequest) -> bytes:
    """The content of a file that has lost its own."""
    content: bytes = request.param
    return content


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """No program runs; the test gives the answers and sees what was asked for."""
    fake = Commands()

    def run_command(module: Any, words: list[str], **rest: Any) -> tuple[int, str, str]:
        return fake.run(module, words, **rest)

    monkeypatch.setattr(AnsibleModule, "run_command", run_command)
    return fake


@pytest.fixture
def clock() -> SimpleNamespace:
    """A module's `time`, in which sleeping takes none."""
    fake = SimpleNamespace(now=1000.0)

    def sleep(seconds: float) -> None:
        fake.now += seconds

    fake.monotonic, fake.sleep = lambda: fake.now, sleep
    return fake


@pytest.fixture
def tree() -> Callable[[Path], dict[str, tuple[str, int, str]]]:
    """All below a folder, with mode, time of change and content: equal only where nothing was written."""

    def describe(path: Path) -> tuple[str, int, str]:
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else ""
        if stat.S_ISREG(status.st_mode):
            content = path.read_text(errors="replace")
        return stat.filemode(status.st_mode), status.st_mtime_ns, content

    return lambda root: {str(path.relative_to(root)): describe(path) for path in sorted(root.rglob("*"))}
