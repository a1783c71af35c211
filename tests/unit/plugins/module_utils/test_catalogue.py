from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import catalogue

CATALOGUE: dict[str, Any] = {
    "airflow": "3.3.2",
    "free_sections": ["celery_broker_transport_options"],
    "heads": {},
    "moved": {"core.dag_concurrency": "core.max_active_tasks_per_dag", "core.check_slas": None},
    "options": {
        "core": {
            "executor": {"type": "str"},
            "fernet_key": {"type": "str", "sensitive": True},
            "load_examples": {"type": "bool"},
            "max_active_tasks_per_dag": {"type": "int"},
        },
        "metrics": {"statsd_rate": {"type": "float"}},
    },
}


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("core", "executor", "CeleryExecutor"),
        ("core", "load_examples", False),
        ("core", "load_examples", "t"),
        ("core", "max_active_tasks_per_dag", "16"),
        ("metrics", "statsd_rate", 1),
        ("celery_broker_transport_options", "anything", "x"),
    ],
)
def test_option_of_the_release_is_accepted(section: str, option: str, value: Any) -> None:
    assert catalogue.find_problems({section: {option: value}}, CATALOGUE) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"core": {"max_active_tasks_per_dag": "many"}},
            "[core] max_active_tasks_per_dag must be of type int, it is 'many'.",
        ),
        ({"core": {"max_active_tasks_per_dag": True}}, "must be of type int, it is 'True'."),
        ({"core": {"load_examples": "maybe"}}, "must be of type bool, it is 'maybe'."),
        ({"metrics": {"statsd_rate": "fast"}}, "must be of type float, it is 'fast'."),
        ({"core": {"exekutor": "x"}}, 'not an option of Airflow 3.3.2. Did you mean "core.executor"?'),
        ({"core": {"zzz": 1}}, "[core] zzz is not an option of Airflow 3.3.2."),
        ({"unknown": {"zzz": 1}}, "[unknown] zzz is not an option of Airflow 3.3.2."),
        ({"core": {"dag_concurrency": 1}}, "it is now [core] max_active_tasks_per_dag."),
        ({"core": {"check_slas": True}}, "it was removed and has no successor."),
        ({"core": "x"}, "[core] must be a mapping of options, it is 'x'."),
        ({"core": None}, "[core] must be a mapping of options, it is None."),
    ],
)
def test_option_that_airflow_would_not_understand_is_named(options: dict[str, Any], message: str) -> None:
    (problem,) = catalogue.find_problems(options, CATALOGUE)
    assert problem.endswith(message)


def test_section_of_an_unknown_package_is_accepted_on_demand() -> None:
    options = {"mine": {"a": 1}, "core": {"b": 1}}
    (problem,) = catalogue.find_problems(options, CATALOGUE, unknown_sections=True)
    assert problem.startswith("[core] b ")


def test_secrets_part_from_plain_options() -> None:
    options = {"core": {"fernet_key": "k", "load_examples": False}}
    assert catalogue.split_sensitive(options, CATALOGUE) == (
        {"core": {"load_examples": False}},
        {"AIRFLOW__CORE__FERNET_KEY": "k"},
    )


def test_variable_of_a_section_with_a_dot_has_an_underscore() -> None:
    assert catalogue.variable_name("aws.x", "key_id") == "AIRFLOW__AWS_X__KEY_ID"


def read_back(options: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The options as Airflow's parser reads them."""
    parser = configparser.ConfigParser(interpolation=configparser.BasicInterpolation())
    parser.read_string(catalogue.render(options))
    return {section: dict(parser[section]) for section in parser.sections()}


@pytest.mark.parametrize(
    "value",
    ["", "a", "100%", "%(home)s", "%%", "%Y-%m-%d", "a = b : c", "$HOME", '"quoted"', "a # b ; c", "a\nb", "a\n\nb", "é"],
)
def test_text_is_read_back_unchanged(value: str) -> None:
    assert read_back({"core": {"option": value}}) == {"core": {"option": value}}


@pytest.mark.parametrize(("value", "text"), [(True, "True"), (False, "False"), (5, "5"), (0.5, "0.5")])
def test_yaml_value_is_read_back_as_python_writes_it(value: Any, text: str) -> None:
    assert read_back({"core": {"option": value}}) == {"core": {"option": text}}


@pytest.mark.parametrize("value", [[], {}, ["a", 1], {"b": "100%", "a": ["x\ny"]}])
def test_list_or_mapping_is_read_back_as_json(value: Any) -> None:
    assert json.loads(read_back({"core": {"option": value}})["core"]["option"]) == value


def test_text_does_not_depend_on_the_order_of_options() -> None:
    ordered: dict[str, Any] = {"a": {"x": {"k": 1, "l": 2}, "y": 2}, "b": {"z": 3}}
    shuffled: dict[str, Any] = {"b": {"z": 3}, "a": {"y": 2, "x": {"l": 2, "k": 1}}}
    assert catalogue.render(ordered) == catalogue.render(shuffled)


def test_release_that_cannot_say_what_it_is_is_damaged(tmp_path: Path, spoilt: bytes) -> None:
    assert catalogue.read(str(tmp_path), ["heads"]) == ({}, "")
    (tmp_path / "airfield.json").write_bytes(spoilt)
    found, problem = catalogue.read(str(tmp_path), ["heads"])
    assert (found, problem) == (
        {},
        f"{tmp_path}/airfield.json is broken. Remedy: the release is damaged; remove {tmp_path} on this host and run site.yml, "
        "which brings it anew.",
    )
