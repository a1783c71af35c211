from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import systemd

Make = Callable[..., Any]


def test_properties_of_a_unit_are_read(make_module: Make, commands: Any) -> None:
    commands.answer = lambda words: "ActiveState=active\nExecStart={ path=/bin/a ; argv[]=/bin/a --b=c }\nResult=\n"
    assert systemd.show(make_module(), "a.service") == {
        "ActiveState": "active",
        "ExecStart": "{ path=/bin/a ; argv[]=/bin/a --b=c }",
        "Result": "",
    }
    assert commands.lines[0].startswith("systemctl show a.service --property LoadState,")


def test_failing_systemctl_fails_the_module_with_its_message(
    make_module: Make, commands: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.answer = lambda words: (1, "", "Unit a.service is masked.")
    with pytest.raises(SystemExit):
        systemd.systemctl(make_module(), "enable", "a.service")
    assert "Unit a.service is masked." in capsys.readouterr().out
    assert commands.lines == ["systemctl enable a.service"]


def test_journal_shows_no_secret(make_module: Make, commands: Any) -> None:
    commands.answer = lambda words: "url redis://:hunter2@h\npassword hunter2, done\n"
    tail = systemd.journal_tail(make_module(), "a.service", secrets=["hunter2", "", "redis://:hunter2@h"])
    assert tail == "url ********\npassword ********, done\n"
    assert "--unit a.service --lines 30 " in commands.lines[0]
