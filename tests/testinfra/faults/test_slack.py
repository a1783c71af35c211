"""Alerts in Slack, here its stand-in on this machine: what is said, and what a press of *Retry* does."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import topology
from slack_cloud import Message, Press, SlackCloud

WEB = topology.members("airflow_webserver")[0]
SCHEDULER = topology.members("airflow_scheduler")[0]
WORKER = topology.members("airflow_worker")[0]
SHARED = topology.variable("airflow_worker_writable_paths", ["/var/lib/airflow"])[0]
DATA = "data-alerts"
OPS = topology.variable("airflow_slack_default_channel", "").removeprefix("#")
RETRY, LOG = "airfield_retry", "airfield_log"
# Where a token could have come to lie.
PLACES = "/etc /opt/airflow/plugins /opt/airflow/airfield /usr/local /var/lib /var/log /run /tmp"
# Longer than Slack is down before its tests, in seconds.
OUTAGE = 600
VIEWER = {
    "username": "viewer",
    "email": "viewer@example.org",
    "first_name": "V",
    "last_name": "V",
    "password": "of a viewer 61f0",
}

Alerts = Callable[[], list[Message]]


@pytest.fixture(scope="module")
def cloud(failure_while_slack_is_down: dict[str, str], api: topology.Api) -> Iterator[SlackCloud]:
    """Slack, which was away since the cluster is there."""

    def long_ago() -> bool:
        ends = [api.tasks(dag, run)[0]["end_date"] for dag, run in failure_while_slack_is_down.items()]
        return all(end and time.time() - datetime.fromisoformat(end).timestamp() > OUTAGE for end in ends)

    topology.wait_for("the failures to be ten minutes old", long_ago, 2 * OUTAGE, pause=5)
    (connection,) = topology.variable("airflow_connections")
    address = urlsplit(connection["extra"]["base_url"])
    with SlackCloud(
        host="0.0.0.0",  # noqa: S104 - the network is between the test's own hosts
        port=address.port,
        name=address.hostname,
        bot_token=connection["password"],
        app_token=topology.variable("airflow_slack_app_token"),
        channels=(DATA, OPS),
        users=("alice", "viewer", "stranger"),
    ) as cloud:
        assert [cloud.user(name) for name in ("alice", "viewer")] == list(topology.variable("airflow_slack_users"))
        # Its client waits longer from time to time, a minute at most.
        topology.wait_for("the service to connect", lambda: cloud.connections, 90)
        yield cloud


@pytest.fixture(scope="module")
def slack(cloud: SlackCloud, dags: None, api: topology.Api) -> Iterator[None]:
    """Slack and two people: one of whom may edit every DAG, and one may none."""
    users = f"{api.url}/auth/fab/v1/users"
    assert api.session.post(users, json={**VIEWER, "roles": [{"name": "Viewer"}]}, timeout=30).ok
    yield
    assert api.session.delete(f"{users}/viewer", timeout=30).ok


@pytest.fixture
def failures(slack: None, cloud: SlackCloud, api: topology.Api, connect: topology.Connect) -> Iterator[Callable[..., str]]:
    """Runs the DAG whose tasks fail; they would succeed once its file is there."""
    used: list[str] = []

    def start(tasks: int, dag: str = "airfield_alerts") -> str:
        file = f"{SHARED}/alerts-{len(used)}-{tasks}"
        used.append(file)
        return api.trigger(dag, tasks=tasks, file=file)

    yield start
    for name in topology.members("airflow_worker"):
        connect(name).check_output(f"rm -f {' '.join(used)}")


def failed(api: topology.Api, dag: str, run: str) -> None:
    topology.wait_for(f"{dag} to fail", lambda: api.state(dag, run) == "failed", 240)


def of_run(cloud: SlackCloud, run: str, channel: str = DATA) -> list[Message]:
    """The messages whose buttons lead to a run."""
    return [found for found in cloud.messages(channel) if run in unquote(json.dumps(found.attachments))]


def wait_for_alerts(cloud: SlackCloud, run: str, number: int = 1, channel: str = DATA, timeout: float = 120) -> list[Message]:
    """The messages of a run, once there are so many."""

    def enough() -> list[Message] | None:
        found = of_run(cloud, run, channel)
        return found if len(found) >= number else None

    return topology.wait_for(f"{number} alerts of {run}", enough, timeout)


def shown(found: Message) -> dict[str, str]:
    blocks = found.attachments[0]["blocks"]
    texts = [field["text"].split("*\n", 1) for block in blocks for field in block.get("fields", [])]
    return {name.removeprefix("*"): value for name, value in texts}


def buttons(found: Message) -> dict[str, dict[str, Any]]:
    blocks = found.attachments[0]["blocks"]
    return {item["action_id"]: item for block in blocks if block["type"] == "actions" for item in block["elements"]}


def press(cloud: SlackCloud, found: Message, user: str = "alice", **arguments: Any) -> Press:
    return cloud.press(found.ts, DATA, RETRY, cloud.user(user), **arguments)


def cleared(api: topology.Api, run: str) -> list[tuple[str, str]]:
    """What was cleared in a run, by the audit log, and with which note."""
    rows = api.call("GET", "/eventLogs", params={"event": "post_clear_task_instances", "limit": 100})["event_logs"]
    extras = [json.loads(row["extra"]) for row in rows if run in (row["extra"] or "")]
    return [(json.dumps(extra["task_ids"]), str(extra["note"])) for extra in extras if not extra.get("dry_run", True)]


def test_what_failed_ten_minutes_before_slack_came_is_told_once(
    slack: None, cloud: SlackCloud, failure_while_slack_is_down: dict[str, str]
) -> None:
    """Also the failures for which no callback is called: of a task whose process was killed, and whose whole worker was."""
    for dag in ("airfield_quiet", "airfield_killed", "airfield_lost"):
        wait_for_alerts(cloud, failure_while_slack_is_down[dag], channel=OPS, timeout=300)
    for dag in ("airfield_quiet", "airfield_killed", "airfield_lost"):
        (found,) = of_run(cloud, failure_while_slack_is_down[dag], channel=OPS)
        assert found.text == f":red_circle: Failed: {dag}.work"
        assert RETRY in buttons(found)


def test_failing_dag_is_told_task_by_task_and_retry_makes_it_green(
    failures: Callable[..., str], cloud: SlackCloud, api: topology.Api, connect: topology.Connect
) -> None:
    run = failures(3)
    failed(api, "airfield_alerts", run)
    messages = wait_for_alerts(cloud, run, 3)
    assert sorted(found.text for found in messages) == [
        f":red_circle: Failed: airfield_alerts.work[{number}]" for number in range(3)
    ]
    for found in messages:
        said = shown(found)
        assert (said["DAG"], said["Try"], said["Logical date"]) == ("airfield_alerts", "2 of 2", "none")
        zone = {"Asia/Seoul": "KST"}.get(topology.variable("airflow_timezone"), "UTC")
        assert said["Time"].endswith(zone)
        assert said["Host"] in topology.members("airflow_worker")
        assert f"/runs/{run}/tasks/work/mapped/" in unquote(buttons(found)[LOG]["url"])
        assert "try_number=2" in buttons(found)[LOG]["url"]
        assert found.attachments[0]["color"] == "danger"
    file = api.call("GET", f"/dags/airfield_alerts/dagRuns/{run}")["conf"]["file"]
    for name in topology.members("airflow_worker"):
        connect(name).check_output(f"touch {file}")
    for found in messages:
        assert press(cloud, found).acknowledged is not None
    # What it does for them is finished by the next process, and done once.
    connect(WEB).check_output("systemctl restart airflow-slack")
    topology.wait_for("the run to succeed", lambda: api.state("airfield_alerts", run) == "success", 120)
    assert len(cleared(api, run)) == 3
    words = f"Retried from Slack by alice ({cloud.user('alice')}), Airflow user "
    assert [note for task, note in cleared(api, run) if not note.startswith(words)] == []

    def told() -> bool:
        return all("It succeeded at " in json.dumps(found.attachments) for found in of_run(cloud, run))

    topology.wait_for("the messages to say so", told, 60)
    for found in of_run(cloud, run):
        assert f"run again by <@{cloud.user('alice')}>" in json.dumps(found.attachments)
        assert RETRY not in buttons(found)


def test_hundred_presses_clear_each_task_once_and_forged_ones_none(
    failures: Callable[..., str], cloud: SlackCloud, api: topology.Api
) -> None:
    run = failures(10)
    failed(api, "airfield_alerts", run)
    messages = wait_for_alerts(cloud, run, 10)
    found = messages[0]
    value = buttons(found)[RETRY]["value"]
    data, _, mac = value.partition(".")
    forged = [
        *("", ".", data, f"{data}.", f".{mac}", f"{data}.{mac}A", f"{data}.{mac[:-2]}", f"A{value}", value.swapcase()),
        *(f"{data}.{mac}.{mac}", value + "=", data[:-4] + "AAAA." + mac, json.dumps(["d", "r", "t", -1, 1, 9e9])),
    ]
    before = len(cloud.ephemerals)
    for wrong in forged:
        press(cloud, found, value=wrong)
    for user in ("viewer", "stranger"):
        press(cloud, found, user=user)
    topology.wait_for("an answer to each", lambda: len(cloud.ephemerals) >= before + len(forged) + 2, 60)
    texts = [answer.text for answer in cloud.ephemerals[before:]]
    assert sum("This button does not work" in text for text in texts) == len(forged)
    assert sum("may not edit DAG airfield_alerts" in text for text in texts) == 1
    assert sum("Airflow does not know you" in text for text in texts) == 1
    assert cleared(api, run) == []

    # The button as it is now: a message changes while others still press.
    values = {one.ts: buttons(one)[RETRY]["value"] for one in messages}
    with ThreadPoolExecutor(20) as pool:
        presses = list(
            pool.map(lambda one: press(cloud, one, value=values[one.ts]), [one for one in messages for _ in range(10)])
        )
    assert [one for one in presses if one.failed or one.late] == []
    # Each fails once more, and that is told in the same thread.
    again = wait_for_alerts(cloud, run, 20)[10:]
    assert sorted(task for task, note in cleared(api, run)) == sorted(json.dumps([["work", index]]) for index in range(10))
    assert {one.thread_ts for one in again} == {found.thread_ts or found.ts}
    # An old envelope changes nothing.
    cloud.send(presses[0].payload)
    topology.wait_for("an answer", lambda: "run again already" in cloud.ephemerals[-1].text, 30)
    assert len(cleared(api, run)) == 10


def test_hundred_failures_are_few_messages(failures: Callable[..., str], cloud: SlackCloud, api: topology.Api) -> None:
    before = len(cloud.requests)
    seen = len(cloud.messages(DATA))
    run = failures(100, "airfield_flood")
    failed(api, "airfield_flood", run)

    def summed() -> bool:
        new = cloud.messages(DATA)[seen:]
        own = sum(1 for found in new if found.text.startswith(":red_circle: Failed"))
        more = [int(found.text.split()[1]) for found in new if " more alerts " in found.text]
        return own + sum(more) == 100

    topology.wait_for("all of them to be told", summed, 120)
    assert len(cloud.messages(DATA)) - seen <= topology.variable("airflow_slack_flood_alerts") + 2
    assert [request.status for request in cloud.requests[before:] if request.status == 429] == []


def test_slack_that_is_down_costs_no_task_and_no_alert(
    slack: None, cloud: SlackCloud, api: topology.Api, connect: topology.Connect
) -> None:
    """By the policy, as the DAG has no callback of its own; and over a restart of the service."""
    seen = len(cloud.messages(OPS))
    with cloud.fault("refuse"):
        run = api.trigger("airfield_quiet")
        failed(api, "airfield_quiet", run)
        (task,) = api.tasks("airfield_quiet", run)
        # Its own, on a busy machine; one attempt to reach Slack would be 10 and more.
        assert task["duration"] < 10
        host = connect(WEB)
        refused = "journalctl -u airflow-slack --no-pager | grep -c 'Slack takes no message for #ops'"
        topology.wait_for("the service to have tried", lambda: int(host.run(refused).stdout or 0) > 0, 60)
        host.check_output("systemctl restart airflow-slack")
    (found,) = wait_for_alerts(cloud, run, channel=OPS, timeout=300)
    assert found.text == ":red_circle: Failed: airfield_quiet.work"
    assert len([one for one in cloud.messages(OPS)[seen:] if "airfield_quiet" in one.text]) == 1


def test_dag_that_wants_none_has_none(slack: None, cloud: SlackCloud, api: topology.Api) -> None:
    for dag in ("airfield_mute", "airfield_quiet"):
        run = api.trigger(dag)
        failed(api, dag, run)
    wait_for_alerts(cloud, run, channel=OPS)
    assert [found for found in cloud.messages(OPS) + cloud.messages(DATA) if "airfield_mute" in found.text] == []


def test_unit_that_dies_is_told(slack: None, cloud: SlackCloud, connect: topology.Connect) -> None:
    seen = len(cloud.messages(OPS))
    host = connect(SCHEDULER)
    host.check_output("systemctl kill --signal=KILL --kill-who=main airflow-triggerer")

    def told() -> list[Message]:
        return [found for found in cloud.messages(OPS)[seen:] if found.text.endswith("Unit airflow-triggerer.service")]

    (found,) = topology.wait_for("the alert", told, 60)
    assert shown(found)["Host"] == SCHEDULER
    topology.wait_for("it to run again", lambda: host.service("airflow-triggerer").is_running, 60)


def test_slack_that_hangs_for_a_minute_costs_no_task_and_doubles_no_alert(
    slack: None, cloud: SlackCloud, api: topology.Api, connect: topology.Connect
) -> None:
    seen = len(cloud.messages(OPS))
    with cloud.fault("hang"):
        began = time.time()
        first = api.trigger("airfield_quiet")
        failed(api, "airfield_quiet", first)
        assert api.tasks("airfield_quiet", first)[0]["duration"] < 10
        topology.wait_for("the service to wait for Slack", lambda: hangs(cloud), 60)
        # What else there is to see, meanwhile.
        tokens_are_nowhere_but_in_the_service_s_environment(connect)
        second = api.trigger("airfield_quiet")
        failed(api, "airfield_quiet", second)
        topology.wait_for("a minute to be over", lambda: time.time() - began > 60, 70)
    (found,) = wait_for_alerts(cloud, second, channel=OPS, timeout=300)
    # Nobody knows whether Slack has the first: it is not sent again, and named.
    topology.wait_for("a word of it", lambda: [one for one in cloud.messages(OPS)[seen:] if "may be missing" in one.text], 60)
    notice = next(one for one in cloud.messages(OPS)[seen:] if "may be missing" in one.text)
    assert notice.attachments[0]["blocks"][0]["text"]["text"] == found.text
    assert of_run(cloud, first, channel=OPS) == []
    assert len(of_run(cloud, second, channel=OPS)) == 1


def hangs(cloud: SlackCloud) -> bool:
    return any(request.error == "hang" and request.method == "chat.postMessage" for request in cloud.requests)


def tokens_are_nowhere_but_in_the_service_s_environment(connect: topology.Connect) -> None:
    """And, encrypted, in Airflow's connection."""
    (connection,) = topology.variable("airflow_connections")
    tokens = [connection["password"], topology.variable("airflow_slack_app_token")]
    holders = set()
    for name in topology.members("all"):
        found = subprocess.run(
            ["ssh", "-F", str(topology.ssh_config()), name, f"sudo grep -rslF -f - {PLACES}"],
            check=False,
            input="\n".join([*tokens, ""]),
            capture_output=True,
            text=True,
        )
        assert found.stderr == ""
        holders |= {(name, path) for path in found.stdout.split()}
    assert holders == {(WEB, "/etc/airflow/slack.env")}


def test_service_has_an_account_of_its_own(slack: None, connect: topology.Connect) -> None:
    owner = connect(WEB).check_output("ps -o user= -p $(systemctl show -P MainPID airflow-slack)")
    assert owner.strip() not in ("root", topology.variable("airflow_user", "airflow"))
