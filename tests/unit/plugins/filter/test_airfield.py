from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ansible_collections.airfield.metal.plugins.filter import airfield

FILTERS = airfield.FilterModule().filters()
NASTY = ["", "plain", "a b", "p@ss/word:?#[]", "100%", "~/x", "a+b&c=d", "'\"\\`$", "ä€", "a\nb", "_.-"]


@pytest.mark.parametrize("text", NASTY)
def test_quoted_text_survives_a_url(text: str) -> None:
    quoted = FILTERS["url_quote"](text)
    assert unquote(quoted) == text
    assert unquote(urlsplit(f"postgresql://user:{quoted}@host:5432/db").password or "") == text


def test_tilde_is_quoted_since_airflow_would_expand_it() -> None:
    assert FILTERS["url_quote"]("~a") == "%7Ea"


@pytest.mark.parametrize("value", [*NASTY, 5, True, None, ["a", {"b": False}], {"a" * 80: "b" * 80, "c": ["d" * 80]}])
def test_python_reads_a_literal_back(value: Any) -> None:
    assert ast.literal_eval(FILTERS["python_literal"](value)) == value


def test_number_is_quoted_as_its_text() -> None:
    assert FILTERS["url_quote"](5432) == "5432"


def read_back(assignment: str) -> str:
    """What systemd makes of a word of Environment= (systemd.syntax(7), systemd.unit(5))."""
    assert re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', assignment)
    unescaped = re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), assignment[1:-1])
    assert "%" not in unescaped.replace("%%", "")
    return unescaped.replace("%%", "%")


@pytest.mark.parametrize("value", [*NASTY, 5, "ends in \\", r"\n is no line break", "%n %% %", '"quoted"', "  spaces  "])
def test_unit_gives_the_process_the_value_unchanged(value: Any) -> None:
    (assignment,) = FILTERS["unit_environment"]({"NAME": value})
    assert read_back(assignment) == f"NAME={value}"


def test_assignments_are_sorted_so_that_the_unit_stays_the_same() -> None:
    assert FILTERS["unit_environment"]({"B": 1, "A": 2}) == ['"A=2"', '"B=1"']


def test_options_are_parted_by_the_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps({"options": {"core": {"fernet_key": {"type": "str", "sensitive": True}}}}))
    options = {"core": {"fernet_key": "k", "executor": "E"}}
    assert FILTERS["plain_options"](options, str(path)) == {"core": {"executor": "E"}}
    assert FILTERS["secret_options"](options, str(path)) == {"AIRFLOW__CORE__FERNET_KEY": "k"}


@pytest.mark.parametrize("name", ["plain_options", "secret_options"])
def test_no_options_need_no_catalogue(name: str) -> None:
    assert FILTERS[name]({}, "/nonexistent") == {}


def test_problem_of_several_hosts_is_reported_once() -> None:
    assert FILTERS["problem_report"]({"a": ["x", "y"], "b": ["x"], "c": []}) == "a, b: x\na: y"


def test_source_of_dags_is_looked_at() -> None:
    assert FILTERS["source_problems"]("/srv/dags", "airflow_dags_source") == []
    (problem,) = FILTERS["source_problems"](5, "airflow_resources_source")
    assert problem.startswith("variable airflow_resources_source is neither")


def workers(**queues: str) -> dict[str, list[str]]:
    """Workers with their queues, one letter each, and the one queue that is each worker's own."""
    return {name: [*letters, name] for name, letters in queues.items()}


THREE = workers(w1="a", w2="a", w3="a")
MIXED = workers(w1="ab", w2="ab", w3="a", w4="a")


@pytest.mark.parametrize(
    ("queues", "percent", "needed"),
    [
        (workers(w1="a"), 50, {"a": 0, "w1": 0}),
        (workers(w1="a", w2="a"), 50, {"a": 1, "w1": 0}),
        (workers(w1="a", w2="b"), 50, {"a": 0, "w1": 0}),
        (THREE, 0, {"a": 0, "w1": 0}),
        (THREE, 1, {"a": 1, "w1": 0}),
        (THREE, 50, {"a": 2, "w1": 0}),
        (THREE, "50", {"a": 2, "w1": 0}),
        (THREE, 100, {"a": 2, "w1": 0}),
        (MIXED, 50, {"a": 2, "b": 1, "w1": 0}),
        (MIXED, 75, {"a": 3, "b": 1, "w1": 0}),
    ],
)
def test_worker_may_leave_a_queue_when_enough_others_have_it(
    queues: dict[str, list[str]], percent: int | str, needed: dict[str, int]
) -> None:
    assert FILTERS["workers_needed"](queues, "w1", percent) == needed


TEN = workers(**{f"w{number}": "a" for number in range(10)})


@pytest.mark.parametrize(
    ("queues", "batch", "percent", "size"),
    [
        (TEN, 1, 50, 1),
        (TEN, 3, 50, 3),
        (TEN, "3", "50", 3),
        (TEN, 10, 50, 5),
        (TEN, 10, 75, 2),
        (TEN, 10, 0, 10),
        (TEN, 10, 100, 1),
        (THREE, 3, 50, 1),
        (MIXED, 4, 50, 1),
        (MIXED, 4, 0, 2),
        (workers(w1="a", w2="b", w3="c"), 3, 50, 3),
        (workers(w1="a"), 5, 50, 5),
        (TEN, 0, 50, 1),
        ({}, 3, 50, 3),
    ],
)
def test_as_many_workers_are_out_at_a_time_as_each_queue_can_spare(
    queues: dict[str, list[str]], batch: int | str, percent: int | str, size: int
) -> None:
    assert FILTERS["worker_batch"](queues, batch, percent) == size
