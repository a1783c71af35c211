from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.plugin_utils import precheck
from ansible_collections.airfield.metal.plugins.plugin_utils.plan import values

ROLES = Path(__file__).parents[5] / "roles"
SPECS = precheck.read_argument_specs(ROLES)
AGE = "age1" + "q" * 58


def told(name: str, value: Any) -> tuple[list[str], bool]:
    """All that is said of a value, as the precheck says it, and whether nothing else can be known."""
    problems = values.find({name: value}, SPECS)
    said = [*values.texts(problems), *precheck.mistyped_variables({name: value}, SPECS)]
    return said, any(problem.blocks for problem in problems)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("airflow_timezone", "Asia/Kolkatta"),
        ("airflow_timezone", "KST"),
        ("airflow_timezone", "+09:00"),
        ("airflow_user", "root"),
        ("airflow_user", "tom cat"),
        ("airflow_user", "Airflow"),
        ("airflow_group", "root"),
        ("airflow_uid", 0),
        ("airflow_uid", "-5"),
        ("airflow_uid", 65534),
        ("airflow_gid", -5),
        ("airflow_gid", 2**32),
        ("airflow_groups", ["docker", "my group"]),
        ("airflow_groups", [""]),
        ("airflow_webserver_port", 99999),
        ("airflow_webserver_port", 0),
        ("postgresql_port", 65536),
        ("airflow_worker_concurrency", 0),
        ("airflow_worker_concurrency", "-1"),
        ("airflow_log_retention_days", -1),
        ("airflow_database_retention_days", -1),
        ("airflow_backup_keep", 0),
        ("airflow_worker_minimum_percent", 101),
        ("airflow_visibility_timeout", 0),
        ("airflow_worker_queues", ["a,b"]),
        ("airflow_worker_queues", ["spark, park"]),
        ("airflow_worker_queues", ["two words"]),
        ("airflow_worker_queues", ["canary.worker1"]),
        ("airflow_worker_writable_paths", ["relative/path"]),
        ("airflow_worker_writable_paths", ["~/x"]),
        ("airflow_base_url", "airflow.example.org"),
        ("airflow_base_url", "https://"),
        ("airflow_base_url", "http://host:99999"),
        ("airflow_proxy", "proxy.example.org:3128"),
        ("airflow_backup_public_key", "nokey"),
        ("airflow_backup_directory", "backups"),
        ("airflow_ca_file", "ca.pem"),
        ("airflow_worker_memory_max", "48 gigs"),
        ("airflow_worker_memory_max", "48GB"),
        ("airflow_worker_memory_max", "64 GB"),
        ("airflow_worker_cpu_quota", "2"),
        ("airflow_worker_cpu_quota", "two"),
        ("airflow_admin_email", "nomail"),
        ("airflow_worker_autoscale", {"min": 5, "max": 2}),
        ("airflow_worker_autoscale", {"min": 0, "max": 0}),
        ("airflow_worker_environment", {"1A": "x"}),
        ("airflow_worker_environment", {"A": None}),
        ("airflow_worker_unit", {"nice": 5}),
        ("airflow_worker_unit", {"Nice": None}),
        ("airflow_extras", ["celery amazon"]),
        ("redis_maxmemory", "half"),
        ("seaweedfs_minimum_free_percent", 100),
    ],
)
def test_value_that_cannot_work_is_named_with_what_is_expected(name: str, value: Any) -> None:
    (problem,), blocks = told(name, value)
    assert problem.startswith(f"variable {name} is ")
    assert ", expected " in problem
    assert "Remedy: " in problem
    assert not blocks


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("airflow_broker", "redis.example.org"),
        ("airflow_database", ["x"]),
        ("airflow_database", {"port": "abc"}),
        ("airflow_extras", "celery,amazon"),
        ("airflow_groups", "jenkins"),
        ("airflow_groups", [{"a": 1}]),
        ("airflow_groups", [True]),
        ("airflow_worker_queues", "default"),
        ("airflow_worker_queues", None),
        ("airflow_version", 3.3),
        ("airflow_version", None),
        ("airflow_timezone", {"zone": "UTC"}),
        ("airflow_database_url", ["x"]),
        ("airflow_config", ["core"]),
        ("airflow_config", {"core": None}),
        ("airflow_config", {"core": "x"}),
        ("airflow_config", {"core": {"load_examples": None}}),
        ("airflow_connections", "slack"),
        ("airflow_logs", {"bucket": "My_Bucket"}),
        ("airflow_logs", {"endpoint_url": "store1:8333"}),
        ("airflow_backup_s3", {"bucket": "b"}),
        ("airflow_host", "fd00:50::41"),
        ("airflow_host", "http://web1"),
        ("airflow_host", "web1:8080"),
        ("airflow_flower_host", "::1"),
        ("airflow_broker", {"host": "redis.example.org:6379"}),
        ("airflow_broker", {"port": 0}),
        ("airflow_database", {"host": "a,b"}),
        ("airflow_catalogue_file", "/no/such"),
        ("airflow_lock_file", "/no/such"),
        ("airflow_database_url", "postgresql://u:p@db1:5432,db2:5432/airflow"),
        ("airflow_broker_url", "redis.example.org"),
    ],
)
def test_value_that_templates_fail_with_is_told_before_all_else(name: str, value: Any) -> None:
    problems, blocks = told(name, value)
    assert blocks
    assert any(f"variable {name}" in problem and "Remedy: " in problem for problem in problems)


@pytest.mark.parametrize(
    ("name", "value"),
    [("airflow_uid", "abc"), ("airflow_uid", True), ("airflow_worker_concurrency", None), ("airflow_memory_check", "perhaps")],
)
def test_number_that_is_none_is_told_with_all_else(name: str, value: Any) -> None:
    problems, blocks = told(name, value)
    assert problems
    assert not blocks


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("airflow_timezone", "Asia/Seoul"),
        ("airflow_timezone", "UTC"),
        ("airflow_user", "etl_2"),
        ("airflow_uid", "50000"),
        ("airflow_groups", []),
        ("airflow_webserver_port", "8080"),
        ("airflow_log_retention_days", 0),
        ("airflow_parallelism", 0),
        ("airflow_worker_queues", ["default", "gpu-1", "x.y"]),
        ("airflow_worker_queues", []),
        ("airflow_worker_writable_paths", ["/srv/data", "-/mnt/x"]),
        ("airflow_base_url", "https://airflow.example.org/team/airflow"),
        ("airflow_proxy", "http://proxy.example.org:3128"),
        ("airflow_proxy", ""),
        ("airflow_backup_public_key", AGE),
        ("airflow_worker_memory_max", "48G"),
        ("airflow_worker_memory_max", "75%"),
        ("airflow_worker_memory_max", "infinity"),
        ("airflow_worker_memory_max", 1073741824),
        ("airflow_worker_cpu_quota", "200%"),
        ("airflow_logs", {"bucket": "example-airflow-logs", "region": "ap-northeast-2"}),
        ("airflow_logs", {"endpoint_url": "http://10.0.0.1:9000", "prefix": "a/b"}),
        ("airflow_logs_access_key", "AKIAIOSFODNN7EXAMPLE"),
        ("airflow_worker_autoscale", {"min": 2, "max": 16}),
        ("airflow_host", "10.0.0.1"),
        ("airflow_host", "web1.example.org"),
        ("airflow_broker", {"host": "redis.example.org", "user": ""}),
        ("airflow_worker_environment", {"A": "x", "B": 2}),
        ("airflow_worker_unit", {"Nice": 5, "Environment": ["A=b"], "PrivateTmp": False}),
        ("airflow_config", {"core": {"parallelism": 8}}),
        ("airflow_database_url", "postgresql+psycopg2://u:p@db.example.org/airflow?sslmode=require"),
        ("airflow_broker_url", "redis://:p@redis:6379/0"),
        ("airflow_dags_source", "/srv/dags"),
        ("airflow_resources_source", {"repository": "x"}),
    ],
)
def test_value_that_works_passes(name: str, value: Any) -> None:
    assert told(name, value) == ([], False)


def test_zone_that_was_meant_is_suggested() -> None:
    (problem,), _ = told("airflow_timezone", "Asia/Kolkatta")
    assert 'such as Asia/Seoul. Did you mean "Asia/Kolkata"? Remedy: ' in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("airflow_logs_access_key", "logs+user/1"),
        ("airflow_database_url", "postgresql://u:hunter2@a:1,b:2/x"),
        ("airflow_index_url", "hunter2.example.org/simple"),
        ("airflow_broker_password", ["hunter2"]),
        ("airflow_connections", "hunter2"),
    ],
)
def test_value_of_a_secret_is_shown_to_nobody(name: str, value: Any) -> None:
    (problem, *_), _ = told(name, value)
    assert f"variable {name} has a value" in problem
    assert "hunter2" not in problem
    assert "logs+user" not in problem


def test_every_rule_is_of_a_documented_variable() -> None:
    assert set(values.RULES) - set(SPECS) == set()
    assert set(values.OF_THE_CLUSTER) - set(SPECS) == set()


def test_defaults_of_the_roles_fit() -> None:
    defaults = {name: spec["default"] for name, spec in SPECS.items() if "default" in spec}
    assert values.find(defaults, SPECS) == []


@pytest.mark.parametrize(
    ("mine", "theirs", "number"),
    [
        ({"airflow_uid": 1234}, {}, 1),
        ({}, {"airflow_timezone": "Asia/Seoul"}, 1),
        ({"airflow_uid": "50000"}, {}, 0),
        ({"airflow_logs": {"bucket": "a"}}, {"airflow_logs": {"bucket": "b"}}, 1),
        ({"airflow_worker_concurrency": 4}, {}, 0),
        # Its default is a template.
        ({"airflow_base_url": "http://x"}, {}, 0),
    ],
)
def test_variables_of_the_cluster_are_equal_on_all_hosts(mine: dict[str, Any], theirs: dict[str, Any], number: int) -> None:
    problems = values.unequal(mine, theirs, SPECS, "scheduler1")
    assert len(problems) == number
    assert all("for scheduler1. Remedy: define it once for all hosts" in problem for problem in problems)


def test_template_of_airflows_has_a_way_out() -> None:
    problem = values.evaluation_problem("airflow_config", "'ti' is\nundefined")
    assert "variable airflow_config cannot be evaluated: 'ti' is undefined. Remedy: " in problem
    assert 'log_filename_template: !unsafe "{{ ti.dag_id }}.log"' in problem
