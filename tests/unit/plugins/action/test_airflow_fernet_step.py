from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible_collections.airfield.metal.plugins.action import airflow_fernet_step
from ansible_collections.airfield.metal.plugins.plugin_utils import secrets

OLD = base64.urlsafe_b64encode(b"0123456789abcdefghijklmnopqrstuv").decode()
NEW = base64.urlsafe_b64encode(b"vutsrqponmlkjihgfedcba9876543210").decode()
FILE = "---\n# mine\nairflow_fernet_key: {}  # the key\nairflow_jwt_secret: 'x'\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets.yml"


@pytest.fixture
def run(make_action: Callable[..., Any], path: Path) -> Callable[..., dict[str, Any]]:
    """Run the action on a file with this value."""

    def run(value: str, begin: bool = False, check: bool = False, text: str = FILE, **rest: Any) -> dict[str, Any]:
        path.write_text(text.format(value))
        arguments = {"path": str(path), "value": value, "begin": begin}
        result: dict[str, Any] = make_action(airflow_fernet_step, arguments, check, **rest).run(task_vars={})
        return result

    return run


def test_rotation_goes_from_step_to_step_until_the_old_key_has_gone(run: Callable[..., Any], path: Path) -> None:
    values, steps, value, begin = [OLD], [], OLD, True
    while True:
        result = run(value, begin)
        steps.append(result["step"])
        if not result["changed"]:
            break
        value, begin = result["value"], False
        assert path.read_text() == FILE.format(f"'{value}'")
        assert path.stat().st_mode & 0o7777 == 0o600
        values.append(value)
    assert steps == ["announce", "use", "drop", ""]
    new = values[-1]
    # Of two neighbours each decrypts what the other encrypts: the first one is that which does.
    assert values == [OLD, f"{OLD},{new},{OLD}", f"{new},{OLD}", new]
    assert new != OLD
    assert secrets.problem("fernet", new) == ""


@pytest.mark.parametrize(
    ("keys", "begin", "step"),
    [
        (["a"], True, "announce"),
        (["a"], False, ""),
        (["a", "b", "a"], True, "use"),
        (["a", "b", "a"], False, "use"),
        (["b", "a"], True, "drop"),
        (["c", "b", "a"], False, "drop"),
        (["a", "a"], False, "use"),
    ],
)
def test_keys_say_which_step_is_next(keys: list[str], begin: bool, step: str) -> None:
    assert airflow_fernet_step.next_step(keys, begin) == step


@pytest.mark.parametrize(("value", "after"), [(f"{OLD} , {NEW},{OLD}", f"{NEW},{OLD}"), (f"{NEW}, {OLD}", NEW)])
def test_spaces_between_keys_do_not_count(run: Callable[..., Any], value: str, after: str) -> None:
    assert run(value)["value"] == after


@pytest.mark.parametrize("value", [OLD, f"{OLD},{NEW},{OLD}", f"{NEW},{OLD}"])
def test_check_mode_returns_the_next_value_and_writes_nothing(run: Callable[..., Any], path: Path, value: str) -> None:
    told = run(value, begin=True, check=True)
    assert path.read_text() == FILE.format(value)
    assert told["changed"]
    done = run(value, begin=True)
    assert told["step"] == done["step"]
    assert len(told["value"]) == len(done["value"])


def test_check_mode_goes_on_though_the_file_stays_as_it_was(make_action: Callable[..., Any], path: Path) -> None:
    path.write_text(FILE.format(OLD))
    for value, after in ((f"{OLD},{NEW},{OLD}", f"{NEW},{OLD}"), (f"{NEW},{OLD}", NEW)):
        result = make_action(airflow_fernet_step, {"path": str(path), "value": value}, check=True).run(task_vars={})
        assert (result["changed"], result["value"], result["by_hand"]) == (True, after, "")


def test_encrypted_file_stays_encrypted(run: Callable[..., Any], path: Path) -> None:
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(b"open sesame"))])
    value = run(OLD, begin=True, loader=loader)["value"]
    assert path.read_text().startswith("$ANSIBLE_VAULT;")
    assert loader.load_from_file(str(path), cache="none") == {"airflow_fernet_key": value, "airflow_jwt_secret": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "airflow_jwt_secret: 'x'\n",
        "airflow_fernet_key: " + NEW + "\n",  # another value has the last word
        "airflow_fernet_key: &x {0}\nairflow_other: *x\n",
        "airflow_fernet_key: |-\n  {0}\n",
    ],
)
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (OLD, 'Set it to "OLD,NEW,OLD": your present key, a new one, and your present one again. Then run this playbook'),
        (f"{OLD},{NEW},{OLD}", 'Set it to "NEW,OLD": remove the first of its keys. Then run this playbook again.'),
        (f"{NEW},{OLD}", 'Set it to "NEW": remove all keys but the first. Then run this playbook again.'),
    ],
)
def test_key_in_a_place_of_the_operators_is_for_the_operator_to_change(
    run: Callable[..., Any], path: Path, text: str, value: str, says: str
) -> None:
    result = run(value, begin=True, text=text)
    assert (result["changed"], result["value"]) == (False, value)
    assert result["step"]
    assert says in result["by_hand"]
    assert OLD not in result["by_hand"]
    assert path.read_text() == text.format(value)


def test_file_that_is_not_there_is_not_made(make_action: Callable[..., Any], path: Path) -> None:
    arguments = {"path": str(path), "value": OLD, "begin": True}
    assert make_action(airflow_fernet_step, arguments).run(task_vars={})["by_hand"]
    assert not path.exists()


def test_key_of_the_command_line_is_not_looked_for_in_the_file(
    run: Callable[..., Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would win over what is written there."""
    monkeypatch.setattr(airflow_fernet_step, "load_extra_vars", lambda loader: {"airflow_fernet_key": OLD})
    assert run(OLD, begin=True)["by_hand"]
    assert path.read_text() == FILE.format(OLD)


def test_nothing_is_left_to_do_where_there_is_one_key(run: Callable[..., Any], path: Path) -> None:
    result = run(OLD)
    assert (result["changed"], result["step"], result["by_hand"], result["value"]) == (False, "", "", OLD)
    assert path.read_text() == FILE.format(OLD)
