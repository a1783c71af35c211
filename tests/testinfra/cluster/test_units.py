"""Every component is a systemd unit of the right shape, on the hosts where the inventory has it and on no other."""

from __future__ import annotations

import pytest
import topology
from testinfra.host import Host

testinfra_hosts = topology.backends("airflow")

PLACES = {
    f"airflow-{topology.this_series().web}": "airflow_webserver",
    "airflow-scheduler": "airflow_scheduler",
    "airflow-dag-processor": "airflow_scheduler",
    "airflow-triggerer": "airflow_scheduler",
    "airflow-worker": "airflow_worker",
    "airflow-flower": "airflow_flower",
}
# systemd-analyze security: the most exposure that a unit may have (its score; reference: 9.2 for upstream's worker unit).
SCORES = {"airflow-worker": 2.0, "airflow-dag-processor": 1.6, "airflow-triggerer": 1.6, "airflow-slack": 1.6}


def units(host: Host) -> list[str]:
    name = host.check_output("hostname")
    return [unit for unit, group in PLACES.items() if name in topology.members(group)]


def units_for_alerts(host: Host) -> list[str]:
    service = topology.members("airflow_slack")
    return (["airflow-alerts"] if service else []) + (["airflow-slack"] if host.check_output("hostname") in service else [])


def units_of_timers(host: Host) -> list[str]:
    first = topology.members("airflow_webserver")[0]
    return ["airflow-logs"] + (["airflow-log-retention"] if host.check_output("hostname") == first else [])


def properties(host: Host, unit: str) -> dict[str, str]:
    text = host.check_output(f"systemctl show {unit}")
    return dict(line.partition("=")[::2] for line in text.splitlines())


def test_exactly_the_units_of_the_inventory_are_there(host: Host) -> None:
    installed = host.check_output("systemctl list-unit-files --no-legend 'airflow-*.service'")
    # That of a migration is in /run, until the host starts again.
    names = {line.split()[0].removesuffix(".service") for line in installed.splitlines()} - {"airflow-migration"}
    assert names == {*units(host), *units_for_alerts(host), *units_of_timers(host)}


def test_units_are_active_enabled_and_grouped(host: Host) -> None:
    assert host.check_output("systemctl is-enabled airflow.target") == "enabled"
    for unit in units(host) + units_for_alerts(host):
        service = host.service(unit)
        assert service.is_running, host.check_output(f"journalctl -u {unit} -n 50 --no-pager")
        assert service.is_enabled
        assert "airflow.target" in properties(host, unit)["PartOf"]


def test_units_have_the_shape_that_keeps_tasks_alive(host: Host) -> None:
    for unit in units(host):
        shown = properties(host, unit)
        assert shown["Type"] == "exec"
        assert shown["User"] == topology.variable("airflow_user", "airflow")
        assert shown["KillMode"] == "mixed"
        assert shown["StartLimitIntervalUSec"] == "0"
        assert "PIDFile" not in shown
        assert "-D" not in shown["ExecStart"].split()
        assert "/opt/airflow/current/bin/airflow" in shown["ExecStart"]
        assert shown["UMask"] == ("0002" if unit == "airflow-worker" else "0027")
        assert shown["Restart"] == "always"


def test_worker_unit(host: Host) -> None:
    if "airflow-worker" not in units(host):
        return
    shown = properties(host, "airflow-worker")
    assert shown["OOMPolicy"] == "continue"
    assert shown["TimeoutStopUSec"] == "11min"
    limit = topology.variable("airflow_worker_memory_max", "")
    assert shown["MemoryMax"] == (str(int(limit.removesuffix("G")) * 2**30) if limit else "infinity")
    process = host.file(f"/proc/{shown['MainPID']}/status").content_string
    assert "Umask:\t0002" in process


def test_sandbox_is_closed_and_in_force(host: Host) -> None:
    for unit in units(host) + units_for_alerts(host):
        score = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1").split(":")[1].split()[0]
        assert float(score) <= SCORES.get(unit, 1.5)
        pid = properties(host, unit)["MainPID"]
        status = dict(line.split(":\t", 1) for line in host.file(f"/proc/{pid}/status").content_string.splitlines())
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert int(status["CapBnd"], 16) == 0
        assert host.run(f"nsenter --target {pid} --mount touch /usr/x").rc != 0


def test_timers_run_and_their_units_end_well(host: Host) -> None:
    for unit in units_of_timers(host):
        timer = host.service(f"{unit}.timer")
        assert timer.is_running
        assert timer.is_enabled
        host.check_output(f"systemctl start {unit}")
        score = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1").split(":")[1].split()[0]
        assert float(score) <= 1.5


def test_logs_and_disks_have_limits(host: Host) -> None:
    command = properties(host, "airflow-logs")["ExecStart"]
    for option, variable, usual in (
        ("--days", "airflow_local_log_days", 7),
        ("--max-mb", "airflow_local_log_max_mb", 2048),
        ("--disk-percent", "airflow_disk_alert_percent", 85),
    ):
        assert f"{option} {topology.variable(variable, usual)} " in command
    writers = topology.members("airflow_worker", "airflow_triggerer") + topology.members("airflow_scheduler")
    assert ("--upload" in command) is (host.check_output("hostname") in writers)
    limit = topology.variable("airflow_journal_max_mb", 1024)
    assert host.file("/etc/systemd/journald.conf.d/airfield.conf").contains(f"^SystemMaxUse={limit}M$")


def test_old_logs_go_and_young_ones_stay(host: Host) -> None:
    folder = "/var/log/airflow/dag_processor/a_test"
    limit = topology.variable("airflow_local_log_days", 7)
    host.check_output(
        f"install -d -o airflow -g airflow {folder} {folder}/empty; cd {folder}; touch -d '2 hours ago' empty;"
        f" runuser -u airflow -- touch -d '{limit + 1} days ago' old.log; runuser -u airflow -- touch young.log;"
        " echo x >young.log; systemctl start airflow-logs"
    )
    assert host.file(folder).listdir() == ["young.log"]
    host.check_output(f"rm -r {folder}")


@pytest.mark.parametrize(("unit", "score"), [("airfield-backup", 2.0), ("airfield-database-clean", 1.6)])
def test_timers_of_housekeeping_run_on_the_first_scheduler_alone(host: Host, unit: str, score: float) -> None:
    installed = host.run(f"systemctl list-unit-files --no-legend '{unit}.*'").stdout.split()
    if host.check_output("hostname") not in topology.members("airflow_scheduler")[:1]:
        assert installed == []
        assert not host.file("/etc/airflow/backup.json").exists
        return
    assert host.check_output(f"systemctl is-active {unit}.timer") == "active"
    assert host.check_output(f"systemctl is-enabled {unit}.timer") == "enabled"
    # A day that the host was down for is made up for.
    assert properties(host, f"{unit}.timer")["Persistent"] == "yes"
    shown = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1").split(":")[1].split()[0]
    assert float(shown) <= score
    for path in ("/etc/airflow/backup.json", "/var/lib/airfield/backup-secrets.age"):
        assert (host.file(path).mode, host.file(path).user) == (0o600, "root")


@pytest.mark.parametrize("command", ["airflow version", "airflow db check"])
def test_command_line_works_on_control_hosts(host: Host, command: str) -> None:
    if host.check_output("hostname") in topology.members("airflow_scheduler", "airflow_webserver"):
        assert host.run(f"/usr/local/bin/{command}").rc == 0
    else:
        assert not host.file("/usr/local/bin/airflow").exists


def test_command_line_leaves_arguments_alone(host: Host) -> None:
    if host.check_output("hostname") in topology.members("airflow_scheduler"):
        key = "airfield_'\"$HOME %n\\ x"
        quoted = "'" + key.replace("'", "'\\''") + "'"
        host.check_output(f"/usr/local/bin/airflow variables set {quoted} {quoted}")
        assert host.run(f"/usr/local/bin/airflow variables get {quoted}").stdout.splitlines()[-1] == key
        host.check_output(f"/usr/local/bin/airflow variables delete {quoted}")


@pytest.mark.parametrize("path", ["/root", "/home", "/run/user", "/dev/shm"])  # noqa: S108 - looked at, not written to
def test_memory_that_a_task_may_write_is_bounded(host: Host, path: str) -> None:
    if "airflow-worker" not in units(host):
        return
    inside = f"nsenter --target {properties(host, 'airflow-worker')['MainPID']} --mount"
    user = topology.variable("airflow_user", "airflow")
    written = host.run(f"{inside} runuser -u {user} -- sh -c 'touch {path}/airfield-probe && rm {path}/airfield-probe'")
    if path != "/dev/shm":  # noqa: S108
        # There to look at, and empty.
        assert host.check_output(f"{inside} ls -A {path}") == ""
        assert "Read-only file system" in written.stderr
        return
    assert written.rc == 0
    size, total = (
        int(word)
        for word in host.check_output(f"{inside} df --output=size {path} | tail -1; free -k | awk 'NR==2 {{print $2}}'").split()
    )
    assert size <= total // 4 + 1024
