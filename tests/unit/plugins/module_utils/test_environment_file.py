from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import environment_file

NASTY = {
    "EMPTY": "",
    "PLAIN": "a",
    "SPACES": "  a b ",
    "QUOTES": """a"b'c""",
    "DOLLAR": "$HOME ${PATH} $(id)",
    "BACKTICK": "`id`",
    "BACKSLASH": r"a\b\n\\",
    "ENDS_IN_BACKSLASH": "a\\",
    "LINES": "a\nb\n",
    "LOOKS_LIKE_A_LINE": 'a\nQUOTES="other"\n',
    "BACKSLASH_BEFORE_LINE": "a\\\nb",
    "COMMENT": "#a ;b",
    "EQUALS": "a=b=",
    "PERCENT": "100%n",
    "URL": "postgresql://u:p%40ss~@h/db?sslmode=require&a=b",
    "UNICODE": "ä€",
}


@pytest.mark.parametrize("name", NASTY)
def test_value_is_read_back_unchanged(name: str) -> None:
    assert environment_file.parse(environment_file.render({name: NASTY[name]})) == {name: NASTY[name]}


def test_many_values_are_read_back_unchanged() -> None:
    assert environment_file.parse(environment_file.render(NASTY)) == NASTY


def test_shell_reads_the_same_values(tmp_path: Path) -> None:
    """systemd's quoting in these files is that of a shell."""
    path = tmp_path / "file.env"
    path.write_text(environment_file.render(NASTY), encoding="utf-8")
    command = ["sh", "-c", 'set -a; . "$0"; exec env -0', str(path)]
    output = subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"]}).stdout
    shown = dict(row.split("=", 1) for row in output.decode().split("\0") if row)
    assert {name: shown.get(name) for name in NASTY} == NASTY


@pytest.mark.parametrize("text", [None, "", "# a comment\n"])
def test_text_without_variables_has_none(text: str | None) -> None:
    assert environment_file.parse(text) == {}


def test_diff_shows_names_that_change_and_no_value() -> None:
    text = environment_file.render({"SAME": "secret1", "OTHER": "secret2", "GONE": "secret3", "NUMBER": 5})
    after = {"SAME": "secret1", "OTHER": "secret4", "NEW": "secret5", "NUMBER": 5}
    (entry,) = environment_file.names_diff("/f", text, after)
    assert entry["before"] == "GONE=<before>\nOTHER=<before>\n"
    assert entry["after"] == "NEW=<after>\nOTHER=<after>\n"
    assert "secret" not in str(entry)


def test_diff_is_empty_without_a_difference() -> None:
    assert environment_file.names_diff("/f", environment_file.render(NASTY), NASTY) == []
