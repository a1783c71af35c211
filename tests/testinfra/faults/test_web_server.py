"""What one person does to the web server costs others nothing: a log of any size, connections without a word, an absence."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import topology
from testinfra.host import Host

# Megabytes of a log: enough to hold everybody up for ten seconds where all of it is read.
LOG_MB = 80
# Seconds that the calls of others may take meanwhile, on hosts that share a few busy CPUs.
MOST_SECONDS = 2.0
CONNECTIONS = 1100
WEB = f"airflow-{topology.this_series().web}"


@pytest.fixture(scope="module")
def web(connect: topology.Connect) -> Host:
    return connect(topology.members("airflow_webserver")[0])


class Others:
    """Calls the API all the time, and remembers how long the longest call took."""

    def __init__(self, api: topology.Api) -> None:
        self.api, self.longest, self.over = api, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.call)

    def call(self) -> None:
        while not self.over.wait(0.2):
            # A new connection each time, so that every process has its turn.
            headers = {**self.api.session.headers, "Connection": "close"}
            began = time.monotonic()
            requests.get(f"{self.api.url}{self.api.root}/version", headers=headers, timeout=60).raise_for_status()
            self.longest = max(self.longest, time.monotonic() - began)

    def __enter__(self) -> Others:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def peak_mb(host: Host) -> int:
    """The most memory that the web server has had since it was last reset."""
    path = f"/sys/fs/cgroup/memory$(systemctl show -P ControlGroup {WEB})/memory.max_usage_in_bytes"
    return int(host.check_output(f"cat {path}")) // 2**20


@pytest.fixture(scope="module")
def big_log(api: topology.Api, dags: None) -> dict[str, Any]:
    """A run with a task that has a big log, and others that start runs of another DAG."""
    run = api.trigger("airfield_big_log", mb=LOG_MB, seconds=20, times=3)
    return {"run": run}


def page(api: topology.Api, run: str) -> str:
    """The log of the task; empty while Airflow has no task yet."""
    path = f"{api.root}/dags/airfield_big_log/dagRuns/{run}/taskInstances/talk/logs/1"
    answer = api.session.get(api.url + path, params={"map_index": -1, "full_content": True}, timeout=120)
    assert answer.status_code in (200, 404), answer.text[:500]
    return answer.text if answer.status_code == 200 else ""


def check(text: str, source: str) -> None:
    notice = re.search(r"Airfield: this page shows the last [\d.]+ MB of ([\d.]+) MB. All of it is in ([^, ]+)", text)
    assert notice, text[:1000]
    assert abs(float(notice[1]) - LOG_MB) < 2
    assert notice[2].startswith(source)
    assert "the last line" in text
    assert len(text) < 3 * topology.variable("airflow_webserver_log_mb", 2) * 2**20


def test_big_log_of_a_running_task_is_a_page_like_others(api: topology.Api, big_log: dict[str, Any], web: Host) -> None:
    def shown() -> str | None:
        text = page(api, big_log["run"])
        return text if "the last line" in text else None

    with Others(api) as others:
        text = topology.wait_for("the log of a running task", shown, 120)
    print(f"the longest call of others took {others.longest:.2f} s, the web server had {peak_mb(web)} MB")
    check(text, "http://" if "/log/" in text.partition("endgroup")[0] else "/var/log")
    assert others.longest < MOST_SECONDS


def test_big_log_of_a_finished_task_is_a_page_like_others(api: topology.Api, big_log: dict[str, Any], web: Host) -> None:
    # None of those that started others has failed, although they asked the same web server.
    api.finish("airfield_big_log", big_log["run"])
    topology.wait_for("the log in the bucket", lambda: "s3://" in page(api, big_log["run"])[:2000], 120)
    web.run(f"echo 0 >/sys/fs/cgroup/memory$(systemctl show -P ControlGroup {WEB})/memory.max_usage_in_bytes")
    before = peak_mb(web)
    readers = [threading.Thread(target=page, args=[api, big_log["run"]]) for _ in range(3)]
    with Others(api) as others:
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    grown = peak_mb(web) - before
    print(f"the longest call of others took {others.longest:.2f} s, the web server grew by {grown} MB")
    check(page(api, big_log["run"]), "s3://")
    assert others.longest < MOST_SECONDS
    assert grown < 500


def test_connections_without_a_word_leave_room_for_others(api: topology.Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        # Each of them has been taken, by one process or another.
        for _ in range(10):
            answer = requests.get(f"{api.url}{api.root}/version", headers={"Connection": "close"}, timeout=10)
            assert answer.status_code == 200
