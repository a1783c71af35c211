from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import inventory


def template(value: Any) -> Any:
    if value == "{{ ti }}":
        raise AnsibleError("'ti' is undefined")
    return value


def test_documented_variables_are_read_and_what_cannot_be_is_told() -> None:
    variables = {"airflow_a": 1, "airflow_b": "{{ ti }}", "other": 2}
    specs: dict[str, Any] = {"airflow_a": {}, "airflow_b": {}, "airflow_c": {}}
    values, (problem,) = inventory.read(variables, variables, SimpleNamespace(template=template), specs)
    assert values == {"airflow_a": 1}
    assert problem.startswith("variable airflow_b cannot be evaluated: 'ti' is undefined. Remedy: ")


@pytest.mark.parametrize(("groups", "names"), [(["mysql"], ["airflow_a", "mysql_port"]), (["airflow"], ["airflow_a"])])
def test_names_of_mysql_are_ours_where_our_server_is(groups: list[str], names: list[str]) -> None:
    specs: dict[str, Any] = {"airflow_a": {}, "mysql_port": {}}
    assert list(inventory.documented(specs, groups)) == names
    assert inventory.ours(specs, groups) == names
