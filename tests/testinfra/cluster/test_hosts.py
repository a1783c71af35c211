"""Account, release and files of every Airflow host."""

from __future__ import annotations

import configparser

import pytest
import topology
from testinfra.host import Host

testinfra_hosts = topology.backends("airflow")

USER = topology.variable("airflow_user", "airflow")
UID = topology.variable("airflow_uid", 50000)
GID = topology.variable("airflow_gid", 50000)
CONFIGURATION = "/etc/airflow/airflow.cfg"


def test_account_has_the_pinned_numbers_and_groups(host: Host) -> None:
    user = host.user(USER)
    assert (user.uid, user.gid) == (UID, GID)
    assert set(topology.variable("airflow_groups", [])) <= set(user.groups)
    assert user.shell == "/usr/sbin/nologin"


def test_all_hosts_run_one_release(host: Host, connect: topology.Connect) -> None:
    releases = {connect(name).file("/opt/airflow/current").linked_to for name in topology.members("airflow")}
    assert len(releases) == 1
    assert host.file(f"{releases.pop()}/.complete").exists


def test_all_hosts_have_the_same_packages(host: Host, connect: topology.Connect) -> None:
    listing = "find -L /opt/airflow/current/lib -type f ! -path '*/__pycache__/*' | sort | xargs sha256sum | sha256sum"
    first = connect(topology.members("airflow")[0])
    assert host.check_output(listing) == first.check_output(listing)


def test_release_holds_the_extra_packages(host: Host) -> None:
    installed = host.file("/opt/airflow/current/requirements.txt").content_string.splitlines()
    for requirement in topology.variable("airflow_packages", []):
        assert [line for line in installed if line == requirement or line.startswith(f"{requirement}==")]
    for package in topology.variable("airflow_system_packages", []):
        assert host.package(package).is_installed


def test_release_is_compiled_and_closed_to_its_user(host: Host) -> None:
    release = host.file("/opt/airflow/current").linked_to
    assert host.check_output(f"find {release} ! -user root -o -perm /022 ! -type l | head") == ""
    package = host.check_output(f"ls -d {release}/lib/python3*/site-packages/airflow")
    assert host.file(f"{package}/__pycache__").is_directory
    assert host.run(f"runuser -u {USER} -- touch {release}/x").rc != 0


@pytest.mark.parametrize(
    ("path", "mode", "user", "group"),
    [
        ("/etc/airflow", 0o755, "root", "root"),
        (CONFIGURATION, 0o640, "root", "airflow"),
        ("/etc/systemd/system/airflow.target", 0o644, "root", "root"),
        ("/opt/airflow", 0o755, "root", "root"),
        ("/opt/airflow/dags", 0o755, "root", "root"),
        ("/opt/airflow/releases", 0o755, "root", "root"),
        ("/var/lib/airflow", 0o750, "airflow", "airflow"),
        ("/var/log/airflow", 0o750, "airflow", "airflow"),
        ("/var/lib/airfield", 0o755, "root", "root"),
    ],
)
def test_modes_and_owners(host: Host, path: str, mode: int, user: str, group: str) -> None:
    file = host.file(path)
    assert (file.mode, file.user, file.group) == (mode, user, group)


@pytest.mark.parametrize("kind", ["dags", "resources"])
def test_delivered_files_are_root_s_and_readable_for_airflow_alone(host: Host, kind: str) -> None:
    link = host.file(f"/opt/airflow/{kind}/current")
    needed = host.check_output("hostname") in topology.members("airflow_scheduler", "airflow_worker")
    assert link.is_symlink == (needed and bool(topology.variable(f"airflow_{kind}_source")))
    if link.is_symlink:
        tree = f"$(readlink -f {link.path})"
        assert host.check_output(f"find {tree} ! -user root -o ! -group airflow -o ! -type l -perm /027 | head") == ""
        assert host.run(f"runuser -u {USER} -- find {tree} ! -readable | grep .").rc == 1
        assert host.file(f"{link.linked_to}.complete").exists


def test_environment_files_are_for_root_alone(host: Host) -> None:
    for path in host.check_output("ls /etc/airflow/*.env").splitlines():
        file = host.file(path)
        assert (file.mode, file.user, file.group) == (0o600, "root", "root")
        assert host.run(f"runuser -u {USER} -- cat {path}").rc != 0


def test_nothing_is_left_where_it_does_not_belong(host: Host) -> None:
    names = r"\( -name '*.pid' -o -name airflow.db -o -name airflow.cfg \)"
    assert (
        host.check_output(f"find /var/lib/airflow /opt/airflow/dags /run/airflow -maxdepth 2 {names} 2>/dev/null; true") == ""
    )
    assert host.check_output("find /var/cache /tmp /root -maxdepth 1 -name '*airfield*'") == ""


def test_configuration_says_what_the_inventory_says(host: Host) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(host.file(CONFIGURATION).content_string)
    web, series = topology.members("airflow_webserver")[0], topology.this_series()
    section, option = series.refresh
    expected = {
        ("core", "executor"): "CeleryExecutor:airfield_executor.CeleryExecutor",
        ("core", "default_timezone"): topology.variable("airflow_timezone"),
        ("core", "load_examples"): "False",
        ("core", "parallelism"): "32",
        ("celery", "worker_umask"): topology.variable("airflow_umask", "0002"),
        ("celery", "worker_concurrency"): str(topology.variable("airflow_worker_concurrency")),
        ("celery_broker_transport_options", "visibility_timeout"): "86400",
        ("celery_broker_transport_options", "socket_timeout"): "10",
        ("celery_broker_transport_options", "socket_keepalive"): "True",
        ("scheduler", "task_queued_timeout"): "86400",
        ("logging", "remote_logging"): "True",
        ("logging", "remote_log_conn_id"): "airflow_logs",
        ("logging", "delete_local_logs"): "False",
        series.refresh: str(topology.variable("airflow_config", {}).get(section, {}).get(option, 30)),
        **{key: value.format(web=web) for key, value in series.options.items()},
    }
    assert {key: parser.get(*key) for key in expected} == expected
    prefix = topology.variable("airflow_logs", {}).get("prefix", "")
    assert parser.get("logging", "remote_base_log_folder") == f"s3://airflow-logs/{prefix}".rstrip("/")
    assert not parser.has_section("database"), "nothing about the database is needed here"


def test_host_clock_has_the_time_zone_when_asked(host: Host) -> None:
    wanted = topology.variable("airflow_timezone") if topology.variable("airflow_host_timezone") else "Etc/UTC"
    assert host.file("/etc/localtime").linked_to == f"/usr/share/zoneinfo/{wanted}"
