from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.airfield.metal.plugins.module_utils import systemd
from ansible_collections.airfield.metal.plugins.modules import airflow_worker

RunModule = Callable[..., dict[str, Any]]
Tree = Callable[[Path], Any]
URL = "redis://:hunter2@redis1:6379/0"
NODE = "celery@worker1"
CANARY = "canary.worker1"
QUEUES = ["canary.worker1", "default", "worker1"]
FILED = 'AIRFIELD_WORKER_QUEUES="canary.worker1,default,worker1"\n'
FENCED = 'AIRFIELD_WORKER_QUEUES="canary.worker1"\n'
GROUP = "/system.slice/airflow-worker.service"
NEVER = math.inf


class Cluster:
    """The workers as they are reached through Celery, and systemd on the host of the first of them, NODE."""

    def __init__(self, root: Path, clock: SimpleNamespace, commands: Any) -> None:
        self.file = root / "worker-queues.env"
        self.clock = clock
        self.commands = commands
        self.queues: dict[str, list[str]] = {NODE: list(QUEUES)}
        # When each of NODE's tasks is no longer in this state.
        self.tasks: dict[str, list[float]] = {"active": [], "reserved": []}
        self.answers_from = 0.0
        self.broker_from = 0.0
        self.broker_error = ConnectionError("refused")
        self.obeys = True
        self.asked: list[tuple[str, list[str] | None]] = []
        self.told: list[tuple[str, str]] = []
        self.app: SimpleNamespace | None = None
        self.state = "active"
        self.titles: list[str] = []
        self.journal = ""
        commands.answer = self.answer

    # Celery

    def __call__(self, broker: str) -> SimpleNamespace:
        control = SimpleNamespace(
            inspect=self.inspect,
            add_consumer=partial(self.tell, "add"),
            cancel_consumer=partial(self.tell, "cancel"),
        )
        self.app = SimpleNamespace(url=broker, conf=SimpleNamespace(), control=control)
        return self.app

    def inspect(self, destination: list[str] | None, timeout: float) -> SimpleNamespace:
        questions = ("active_queues", "active", "reserved", "ping")
        return SimpleNamespace(**{name: partial(self.reply, name, destination, timeout) for name in questions})

    def reply(self, question: str, destination: list[str] | None, timeout: float) -> dict[str, Any] | None:
        self.asked.append((question, destination))
        self.connect()
        nodes = [node for node in self.queues if destination in (None, [node]) and (node != NODE or self.answers())]
        if not nodes:
            self.clock.sleep(timeout)
            return None
        return {node: self.word(question, node) for node in nodes}

    def word(self, question: str, node: str) -> Any:
        if question == "active_queues":
            return [{"name": name} for name in self.queues[node]]
        if question == "ping":
            return {"ok": "pong"}
        return [{"id": "x"} for end in self.tasks[question] if end > self.clock.now]

    def tell(self, verb: str, queue: str, destination: list[str], reply: bool, timeout: float) -> None:
        self.connect()
        assert destination == [NODE]
        self.told.append((verb, queue))
        if self.obeys and self.answers():
            others = [name for name in self.queues[NODE] if name != queue]
            self.queues[NODE] = [*others, queue] if verb == "add" else others

    def connect(self) -> None:
        if self.clock.now < self.broker_from:
            raise self.broker_error

    def answers(self) -> bool:
        return bool(self.clock.now >= self.answers_from)

    # systemd

    def answer(self, words: list[str]) -> str:
        if words[0] == "journalctl":
            return self.journal
        return f"ActiveState={self.state}\nControlGroup={GROUP}\n" if words[1] == "show" else ""

    def process_titles(self, group: str) -> list[str]:
        assert group == GROUP
        return self.titles

    def kills(self) -> list[str]:
        return [line for line in self.commands.lines if line.startswith("systemctl kill")]


@pytest.fixture
def cluster(tmp_path: Path, clock: SimpleNamespace, commands: Any, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A worker that works, with its file."""
    fake = Cluster(tmp_path, clock, commands)
    fake.file.write_text(FILED)
    monkeypatch.setattr(airflow_worker, "Celery", fake, raising=False)
    monkeypatch.setattr(airflow_worker, "CELERY_ERROR", "")
    monkeypatch.setattr(airflow_worker, "time", clock)
    monkeypatch.setattr(systemd, "process_titles", fake.process_titles)
    monkeypatch.setattr(socket, "gethostname", lambda: "worker1")
    monkeypatch.setattr(socket, "getfqdn", lambda: "worker1.example.org")
    return fake


@pytest.fixture
def run(run_module: RunModule, cluster: Cluster) -> RunModule:
    def run(state: str, check: bool = False, **params: Any) -> dict[str, Any]:
        """Run a usual task; a parameter that is None is omitted."""
        arguments: dict[str, Any] = {
            "broker_url": URL,
            "canary_queue": CANARY,
            "queues": ["default", "worker1"],
            "path": str(cluster.file),
            "timeout": 10,
            **params,
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        return run_module(airflow_worker, check=check, state=state, **given)

    return run


# Consuming -------------------------------------------------------------------------------------------------------------


def test_worker_that_consumes_its_queues_is_taken_at_once(run: RunModule, cluster: Cluster) -> None:
    result = run("consuming", transport_options={"visibility_timeout": 60})
    assert (result["changed"], result["node"], result["queues"]) == (False, NODE, QUEUES)
    assert (cluster.asked, cluster.told) == ([("active_queues", [NODE])], [])
    assert cluster.app is not None
    assert cluster.app.url == URL
    assert cluster.app.conf.broker_transport_options == {"visibility_timeout": 60}


def test_running_worker_takes_up_and_leaves_queues(run: RunModule, cluster: Cluster) -> None:
    cluster.queues[NODE] = ["old", CANARY, "default"]
    result = run("consuming")
    assert (result["changed"], result["queues"]) == (True, QUEUES)
    assert cluster.told == [("add", "worker1"), ("cancel", "old")]


def test_queues_are_filed_for_the_next_start(run: RunModule, cluster: Cluster) -> None:
    cluster.file.write_text(FENCED)
    result = run("consuming")
    assert result["changed"]
    assert (result["diff"][0]["before"], result["diff"][0]["after"]) == (FENCED, FILED)
    assert cluster.file.read_text() == FILED
    assert cluster.file.stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize("late", ["answers_from", "broker_from"])
def test_worker_that_is_not_ready_is_waited_for(run: RunModule, cluster: Cluster, late: str) -> None:
    cluster.queues[NODE] = [CANARY]
    setattr(cluster, late, 1005.0)
    assert run("consuming")["queues"] == QUEUES
    assert 1005 <= cluster.clock.now < 1010


@pytest.mark.parametrize(
    ("queues", "trouble", "reason"),
    [
        (QUEUES, {"answers_from": NEVER}, f"{', '.join(QUEUES)} after 10 s (no answer from celery@worker1)"),
        (QUEUES, {"broker_from": NEVER}, f"{', '.join(QUEUES)} after 10 s (the broker: refused)"),
        ([], {"obeys": False}, f"{', '.join(QUEUES)} after 10 s (it consumes nothing)"),
        (["x", CANARY, "default"], {"obeys": False}, "worker1 after 10 s (it consumes canary.worker1, default, x)"),
        ([*QUEUES, "x"], {"obeys": False}, f"only {', '.join(QUEUES)} after 10 s (it consumes {', '.join(QUEUES)}, x)"),
    ],
)
def test_deaf_worker_fails_with_the_reason_and_its_journal(
    run: RunModule, cluster: Cluster, queues: list[str], trouble: dict[str, Any], reason: str
) -> None:
    cluster.queues[NODE] = queues
    vars(cluster).update(trouble)
    cluster.journal = f"Connected to {URL}\nboom\n"
    result = run("consuming")
    assert result["failed"]
    assert result["msg"] == f"The worker {NODE} does not consume {reason}. Remedy: read its journal below."
    assert result["journal"] == ["Connected to ********", "boom"]
    assert "hunter2" not in json.dumps(result)
    assert 1010 < cluster.clock.now < 1014


def test_broker_that_goes_away_between_question_and_order_is_waited_for(
    run: RunModule, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(*args: Any, **kwargs: Any) -> None:
        if cluster.clock.now < 1005:
            raise ConnectionError
        Cluster.tell(cluster, *args, **kwargs)

    cluster.queues[NODE] = [CANARY]
    monkeypatch.setattr(cluster, "tell", tell)
    assert run("consuming")["queues"] == QUEUES


def test_broker_error_shows_no_secret(run: RunModule, cluster: Cluster) -> None:
    cluster.broker_from, cluster.broker_error = NEVER, ConnectionError(f"cannot connect to {URL}")
    result = run("consuming")
    assert "the broker: cannot connect to ****" in result["msg"]
    assert "hunter2" not in json.dumps(result)


# Fenced ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, "", 'AIRFIELD_WORKER_QUEUES=""\n'])
def test_worker_that_was_never_started_gets_its_private_queue_alone(
    run: RunModule, cluster: Cluster, before: str | None
) -> None:
    cluster.file.unlink() if before is None else cluster.file.write_text(before)
    result = run("fenced")
    assert (result["changed"], result["diff"][0]["after"]) == (True, FENCED)
    assert cluster.file.read_text() == FENCED


@pytest.mark.parametrize("filed", [FILED, FENCED])
def test_worker_that_was_started_before_keeps_its_queues(run: RunModule, cluster: Cluster, tree: Tree, filed: str) -> None:
    cluster.file.write_text(filed)
    before = tree(cluster.file.parent)
    assert not run("fenced")["changed"]
    assert tree(cluster.file.parent) == before


def test_fencing_needs_neither_broker_nor_celery(run: RunModule, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_worker, "CELERY_ERROR", "ImportError")
    cluster.file.unlink()
    assert run("fenced", broker_url=None)["changed"]
    assert cluster.app is None


# Drained ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filed", [FILED, FENCED], ids=["working", "drain interrupted"])
@pytest.mark.parametrize("kind", ["active", "reserved"])
def test_worker_leaves_its_queues_and_its_tasks_are_waited_for(run: RunModule, cluster: Cluster, filed: str, kind: str) -> None:
    cluster.file.write_text(filed)
    cluster.tasks[kind] = [1002, 1007]
    result = run("drained", kill=True)
    assert (result["changed"], result["queues"], result["killed"]) == (filed == FILED, [CANARY], False)
    assert cluster.told == [("cancel", "default"), ("cancel", "worker1")]
    assert cluster.file.read_text() == FENCED
    assert cluster.kills() == []
    assert 1007 <= cluster.clock.now < 1010


def test_idle_worker_is_not_drained_before_it_has_left_its_queues(run: RunModule, cluster: Cluster) -> None:
    cluster.obeys = False
    result = run("drained")
    assert result["failed"]
    assert "(0 running, 0 reserved)" in result["msg"]


def test_task_that_comes_after_the_first_look_is_waited_for(
    run: RunModule, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(question: str, node: str) -> Any:
        word = Cluster.word(cluster, question, node)
        if question == "active":
            cluster.tasks["active"] = [1005]
        return word

    monkeypatch.setattr(cluster, "word", answer)
    assert not run("drained").get("failed")
    assert cluster.clock.now >= 1005


def test_worker_with_tasks_gets_its_queues_back_when_the_time_is_over(run: RunModule, cluster: Cluster) -> None:
    cluster.tasks = {"active": [NEVER, NEVER], "reserved": [NEVER]}
    result = run("drained")
    assert result["failed"]
    assert result["msg"].startswith(f"The worker {NODE} still has tasks after 10 s (2 running, 1 reserved). It has its queues ")
    assert "airflow_worker_drain_timeout" in result["msg"]
    assert sorted(cluster.queues[NODE]) == QUEUES
    assert cluster.file.read_text() == FILED
    assert (result["killed"], cluster.kills()) == (False, [])


def test_worker_is_killed_with_its_tasks_when_that_is_wanted(run: RunModule, cluster: Cluster) -> None:
    cluster.tasks["active"] = [NEVER]
    result = run("drained", kill=True)
    assert (result["changed"], result["killed"]) == (True, True)
    assert cluster.kills() == ["systemctl kill --signal=KILL airflow-worker.service"]
    assert cluster.file.read_text() == FENCED
    assert cluster.clock.now > 1010


IDLE = ["[celeryd: celery@worker1:MainProcess]", "airflow supervisor: an ended task", "airflow serve-logs"]
BUSY = [*IDLE, "airflow worker -- 019a"]


@pytest.mark.parametrize("trouble", ["answers_from", "broker_from"])
def test_worker_that_does_not_answer_is_idle_when_it_has_no_process_of_a_task(
    run: RunModule, cluster: Cluster, trouble: str
) -> None:
    setattr(cluster, trouble, NEVER)
    cluster.titles = IDLE
    result = run("drained")
    assert (result["changed"], result["queues"], result["killed"]) == (True, [], False)
    assert cluster.file.read_text() == FENCED


@pytest.mark.parametrize(
    ("trouble", "reason"), [("answers_from", f"no answer from {NODE}"), ("broker_from", "the broker: refused")]
)
def test_worker_that_does_not_answer_has_tasks_as_long_as_their_processes(
    run: RunModule, cluster: Cluster, trouble: str, reason: str
) -> None:
    setattr(cluster, trouble, NEVER)
    cluster.titles = BUSY
    result = run("drained")
    assert result["failed"]
    assert f"still has tasks after 10 s ({reason})" in result["msg"]
    assert cluster.file.read_text() == FILED


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_stopped_worker_is_only_fenced(run: RunModule, cluster: Cluster, state: str) -> None:
    cluster.state = state
    cluster.titles = BUSY
    cluster.answers_from = NEVER
    result = run("drained")
    assert (result["changed"], result["queues"], result["killed"]) == (True, [], False)
    assert cluster.file.read_text() == FENCED
    assert cluster.told == []


@pytest.mark.parametrize(
    ("others", "needed", "who"),
    [
        ({}, 1, "nobody would consume the queue default, 1 must"),
        ({"worker2": ["x"]}, 1, "nobody would consume the queue default, 1 must"),
        ({"worker2": ["default"]}, 2, "celery@worker2 would consume the queue default, 2 must"),
        (
            {"worker3": ["default"], "worker2": ["default"]},
            3,
            "celery@worker2 and celery@worker3 would consume the queue default, 3 must",
        ),
    ],
)
def test_worker_that_others_could_not_replace_keeps_its_queues(
    run: RunModule, cluster: Cluster, tree: Tree, others: dict[str, list[str]], needed: int, who: str
) -> None:
    cluster.queues.update({f"celery@{name}": queues for name, queues in others.items()})
    before = tree(cluster.file.parent)
    result = run("drained", others={"default": needed, "worker1": 0})
    assert result["failed"]
    assert result["msg"].startswith(f"The worker {NODE} was not drained: without it {who} (airflow_worker_minimum_percent)")
    assert tree(cluster.file.parent) == before
    assert cluster.told == []


def test_worker_that_has_left_its_queues_before_needs_nobody_to_replace_it(run: RunModule, cluster: Cluster) -> None:
    cluster.queues[NODE] = [CANARY]
    assert run("drained", others={"default": 1})["queues"] == [CANARY]


def test_worker_is_not_drained_while_nobody_can_say_who_else_works(run: RunModule, cluster: Cluster) -> None:
    cluster.broker_from = NEVER
    result = run("drained", others={"default": 1})
    assert result["failed"]
    assert "nobody can say who else works (the broker: refused). Remedy: bring the broker back." in result["msg"]
    assert cluster.file.read_text() == FILED


def test_worker_that_is_slow_to_answer_is_asked_again(run: RunModule, cluster: Cluster) -> None:
    cluster.answers_from = 1003
    result = run("drained")
    assert result["queues"] == [CANARY]
    assert cluster.told[-2:] == [("cancel", "default"), ("cancel", "worker1")]


def test_worker_that_is_stopping_is_waited_for(run: RunModule, cluster: Cluster) -> None:
    cluster.state = "deactivating"
    cluster.answers_from = NEVER
    cluster.titles = BUSY
    assert "still has tasks" in run("drained")["msg"]


def test_worker_whose_drain_was_interrupted_before_gets_its_queues_back(run: RunModule, cluster: Cluster) -> None:
    cluster.file.write_text(FENCED)
    cluster.queues[NODE] = [CANARY]
    cluster.tasks["active"] = [NEVER]
    assert run("drained")["failed"]
    assert cluster.file.read_text() == FILED
    assert sorted(cluster.queues[NODE]) == QUEUES


def test_worker_that_others_can_replace_is_drained(run: RunModule, cluster: Cluster) -> None:
    cluster.queues["celery@worker2"] = ["x", "default"]
    assert run("drained", others={"default": "1", "worker1": 0})["queues"] == [CANARY]


# Gone -------------------------------------------------------------------------------------------------------------------


def test_worker_that_answers_is_not_gone(run: RunModule, cluster: Cluster) -> None:
    cluster.queues["celery@worker9"] = []
    result = run("gone", node="celery@worker9")
    assert result["failed"]
    assert "celery@worker9 answers through the broker" in result["msg"]
    assert cluster.asked == [("ping", ["celery@worker9"])]


def test_worker_that_does_not_answer_is_gone(run: RunModule) -> None:
    result = run("gone", node="celery@worker9", queues=["worker9"], canary_queue="canary.worker9")
    assert "failed" not in result
    assert (result["changed"], result["node"]) == (False, "celery@worker9")


@pytest.mark.parametrize("queue", ["worker9", "canary.worker9"])
def test_worker_that_calls_itself_otherwise_is_not_gone(run: RunModule, cluster: Cluster, queue: str) -> None:
    cluster.queues["celery@ip-10-0-0-9"] = ["default", queue]
    result = run("gone", node="celery@worker9", queues=["worker9"], canary_queue="canary.worker9")
    assert result["failed"]
    assert "celery@worker9 is not gone: as celery@ip-10-0-0-9 it consumes its own queue. Remedy: " in result["msg"]


def test_others_with_the_same_ordinary_queues_do_not_make_it_live(run: RunModule, cluster: Cluster) -> None:
    cluster.queues["celery@worker1"] = ["default", "worker1", "canary.worker1"]
    assert "failed" not in run("gone", node="celery@worker9", queues=["worker9"], canary_queue="canary.worker9")


def test_nobody_is_gone_because_the_broker_is(run: RunModule, cluster: Cluster) -> None:
    cluster.broker_from = NEVER
    result = run("gone", node="celery@worker9")
    assert result["failed"]
    assert "celery@worker9 is gone (the broker: refused)" in result["msg"]


# Modes and arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filed", [FILED, FENCED, None])
@pytest.mark.parametrize("state", ["consuming", "fenced", "drained"])
def test_check_mode_compares_the_file_and_asks_nobody(
    run: RunModule, cluster: Cluster, tree: Tree, state: str, filed: str | None
) -> None:
    cluster.file.unlink() if filed is None else cluster.file.write_text(filed)
    before = tree(cluster.file.parent)
    told = run(state, check=True, others={"default": 5})
    assert tree(cluster.file.parent) == before
    assert (cluster.asked, cluster.told, cluster.commands.lines) == ([], [], [])
    done = run(state)
    assert (told["changed"], told.get("diff")) == (done["changed"], done.get("diff"))


def test_missing_celery_is_named(run: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_worker, "CELERY_ERROR", "ImportError")
    assert "celery" in run("consuming")["msg"]


@pytest.mark.parametrize(
    ("state", "missing"),
    [
        ("consuming", "broker_url"),
        ("consuming", "canary_queue"),
        ("fenced", "canary_queue"),
        ("drained", "broker_url"),
        ("drained", "canary_queue"),
        ("gone", "broker_url"),
        ("gone", "node"),
    ],
)
def test_arguments_that_a_state_needs_are_named(run: RunModule, cluster: Cluster, state: str, missing: str) -> None:
    result = run(state, **{"node": NODE, missing: None})
    assert result["msg"].endswith(f"state is {state} but all of the following are missing: {missing}")
