from __future__ import annotations

import importlib.util
import json
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[5] / "roles/airflow_worker/files/airflow_worker_watchdog.py"
URL = "redis://:hunter2@redis1:6379/0"
NODE = "celery@worker1"
MAIN = 100


class ChannelError(Exception):
    """Kombu's, of a queue that is not there."""


@dataclass
class World:
    """A worker with four slots, as systemd, the kernel and the broker show it; a step of a story changes some of it."""

    pause: float = 30
    unit: str = "active"
    main: int = MAIN
    queues: str = "canary.worker1,default,worker1"
    waiting: dict[str, int] = field(default_factory=lambda: {"default": 3})
    # Processes of the pool, by number, and those of them that run a task, with the task's process.
    pool: tuple[int, ...] = (201, 202, 203, 204)
    tasks: dict[int, int] = field(default_factory=dict)
    # What the worker answers; None: nothing.
    total: int | None = 7
    active: int = 0
    broker: Exception | None = None
    state: str | None = None
    consumes: list[str] | None = field(default_factory=lambda: ["worker1", "default"])
    # What its file says by now, where that is another than at the script's start.
    filed: str = ""

    now: float = 5000.0
    restarts: list[str] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    # systemd and the kernel

    def run(self, command: list[str], **options: Any) -> SimpleNamespace:
        assert options["check"]
        if command[1] == "show":
            return SimpleNamespace(stdout=f"MainPID={self.main}\nActiveState={self.unit}\n")
        self.restarts.append(" ".join(command))
        return SimpleNamespace()

    def process_iter(self, attributes: list[str]) -> list[SimpleNamespace]:
        table = [
            (1, 0, ["/sbin/init"]),
            (self.main, 1, [f"[celeryd: {NODE}:MainProcess]", "-active-"]),
            (150, self.main, ["airflow serve-logs"]),
            (151, 150, ["git", "gc"]),
            (152, 1, ["airflow supervisor: of another worker"]),
            (153, 152, ["airflow worker -- of another worker"]),
        ]
        # One that has not worked yet is named after Celery; the others keep the name of their last task.
        table += [(pid, self.main, ["airflow supervisor: a task"] if pid % 2 else ["[celeryd: x]"]) for pid in self.pool]
        table += [(task, pid, ["airflow worker -- a task"]) for pid, task in self.tasks.items()]
        # A task may run programs of its own.
        table += [(task + 1000, task, ["sleep", "60"]) for task in self.tasks.values()]
        assert set(attributes) == {"ppid", "cmdline"}
        return [SimpleNamespace(pid=pid, info={"ppid": ppid, "cmdline": words}) for pid, ppid, words in table]

    # The broker

    def __enter__(self) -> World:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def connect(self, url: str, transport_options: dict[str, Any]) -> World:
        assert url == URL
        self.options.append(transport_options)
        return self

    def channel(self) -> World:
        if self.broker:
            raise self.broker
        return self

    def queue_declare(self, queue: str, passive: bool) -> SimpleNamespace:
        assert passive
        if queue not in self.waiting:
            raise ChannelError
        return SimpleNamespace(message_count=self.waiting[queue])

    def celery(self, broker: str) -> SimpleNamespace:
        assert broker == URL
        return SimpleNamespace(conf=SimpleNamespace(), control=self)

    def add_consumer(self, queue: str, destination: list[str], reply: bool, timeout: float) -> None:
        assert destination == [NODE]
        self.given.append(queue)

    def inspect(self, destination: list[str], timeout: float) -> SimpleNamespace:
        assert destination == [NODE]
        answers: dict[str, Any] = {
            "stats": {"total": {} if self.total == 0 else {"execute_workload": self.total}},
            "active": [{}] * self.active,
            "active_queues": None if self.consumes is None else [{"name": name} for name in self.consumes],
        }
        return SimpleNamespace(
            **{
                question: lambda answer=answer: None if self.total is None else {NODE: answer}
                for question, answer in answers.items()
            }
        )


@dataclass
class Setting:
    """The script with a world around it."""

    world: World
    script: Any
    state: Path
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> None:
        file = self.state.with_name("queues.env")
        file.write_text(f'AIRFIELD_WORKER_QUEUES="{self.world.filed or self.world.queues}"\n')
        defaults = ["--concurrency", "4", "--state", str(self.state), "--transport-options", '{"visibility_timeout": 86400}']
        defaults += ["--queues", str(file)]
        self.monkeypatch.setattr(sys, "argv", ["watchdog", *defaults, *arguments])
        self.monkeypatch.setenv("AIRFIELD_WORKER_QUEUES", self.world.queues)
        self.script.main()

    def tell(self, steps: list[dict[str, Any]], *arguments: str) -> list[int]:
        """Run once after each step; returns the steps after which the worker was restarted."""
        restarted = []
        for number, step in enumerate(steps):
            vars(self.world).update({"pause": 30, "state": None} | step)
            self.world.now += self.world.pause
            if self.world.state is not None:
                self.state.write_text(self.world.state)
            before = len(self.world.restarts)
            self.run(*arguments)
            restarted += [number] * (len(self.world.restarts) - before)
        return restarted


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Setting:
    world = World()
    modules: dict[str, dict[str, Any]] = {
        "psutil": {"process_iter": world.process_iter},
        "kombu": {"Connection": world.connect},
        "kombu.exceptions": {"ChannelError": ChannelError},
        "celery": {"Celery": world.celery},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(socket, "gethostname", lambda: "worker1")
    monkeypatch.setenv("AIRFLOW__CELERY__BROKER_URL", URL)
    monkeypatch.delenv("AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__SENTINEL_KWARGS", raising=False)
    spec = importlib.util.spec_from_file_location("airflow_worker_watchdog", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, "airflow_worker_watchdog", script)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "subprocess", SimpleNamespace(run=world.run))
    monkeypatch.setattr(script, "time", SimpleNamespace(monotonic=lambda: world.now))
    return Setting(world, script, tmp_path / "state.json", monkeypatch)


@pytest.mark.parametrize(
    ("consumes", "filed", "given"),
    [
        (["worker1", "default"], "", []),
        (["worker1"], "", ["default"]),
        ([], "", ["default", "worker1"]),
        # Drained since this run began.
        ([], "canary.worker1", []),
    ],
)
def test_worker_that_has_forgotten_a_queue_is_told(setting: Setting, consumes: list[str], filed: str, given: list[str]) -> None:
    setting.world.consumes, setting.world.filed = consumes, filed
    setting.world.waiting = {"default": 5}
    setting.run()
    assert setting.world.given == given


def test_worker_that_does_not_say_what_it_consumes_is_told_nothing(setting: Setting) -> None:
    setting.world.consumes, setting.world.waiting = None, {"default": 5}
    setting.run()
    assert setting.world.given == []


BUSY = {201: 301, 202: 302, 203: 303, 204: 304}
SAME: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("steps", "restarted"),
    [
        pytest.param([SAME] * 4, [3], id="deaf: it answers and takes nothing"),
        pytest.param([{"total": None}, SAME, SAME, SAME], [3], id="hung"),
        pytest.param([{"total": 0}, SAME, SAME, SAME], [3], id="deaf since its start"),
        pytest.param([{"tasks": {201: 301}, "active": 1}, SAME, SAME, SAME], [3], id="one long task and free slots"),
        pytest.param([{"tasks": {201: 301}, "total": None}, SAME, SAME, SAME], [3], id="hung with one long task"),
        pytest.param([{"tasks": {201: 301, 203: 303}}, {"tasks": {203: 303}}, {"tasks": {}}, SAME], [3], id="its tasks end"),
        pytest.param([{"waiting": {"default": 90 - n}} for n in range(4)], [3], id="other workers take from its queue"),
        pytest.param([{"waiting": {"default": 90 + n}} for n in range(4)], [3], id="its queue grows"),
        pytest.param([{"waiting": {"worker1": 1}}, SAME, SAME, SAME], [3], id="only its own queue waits"),
        pytest.param([SAME, {"total": None}, {"total": 7}, {"total": None}], [3], id="it answers now and then"),
        pytest.param(
            [{"waiting": {}}, {"waiting": {"default": 1}}, SAME, SAME, SAME], [4], id="patience begins with the message"
        ),
        pytest.param([{"pool": ()}, SAME, SAME, SAME], [3], id="it answers, so it has started, whatever its pool"),
        pytest.param([SAME, {"pause": 60}, SAME], [2], id="one run that did not happen"),
        pytest.param([SAME, {"pause": -4000}, SAME, SAME, SAME], [4], id="the clock began anew"),
        pytest.param([SAME] * 8, [3, 7], id="the restart did not help"),
    ],
)
def test_worker_that_takes_nothing_is_restarted(setting: Setting, steps: list[dict[str, Any]], restarted: list[int]) -> None:
    assert setting.tell(steps) == restarted


def around(*between: dict[str, Any]) -> list[dict[str, Any]]:
    """Steps of which the fourth would end in a restart, were it not for those between."""
    return [SAME, SAME, *between, SAME, SAME]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([{"total": 7 + n} for n in range(9)], id="it begins tasks by its own word"),
        pytest.param(around({"total": 8}), id="it has begun one"),
        pytest.param([{"tasks": {201: 301 + n}, "total": None} for n in range(9)], id="it begins tasks without answering"),
        pytest.param(around({"tasks": {201: 301}}), id="a task is new"),
        pytest.param(around({"main": 101}), id="it was restarted by others"),
        pytest.param([{"total": None}, SAME, SAME, {"total": 7}, SAME, SAME], id="it answers again"),
        pytest.param(around({"waiting": {}}, {"waiting": {"default": 3}}), id="nothing waited for a moment"),
        pytest.param([{"waiting": {"canary.worker1": 1}}] * 9, id="only a canary waits"),
        pytest.param([{"queues": "canary.worker1"}] * 9, id="it is drained or not yet proven"),
        pytest.param([{"queues": ""}] * 9, id="it was never given queues"),
        pytest.param([{"tasks": BUSY, "active": 4}] * 9, id="all slots have long tasks"),
        pytest.param([{"tasks": BUSY, "total": None}] * 9, id="all slots have long tasks and it does not answer"),
        pytest.param([{"active": 4}] * 9, id="all slots bring logs away"),
        pytest.param([{"tasks": {201: 301}, "active": 4}] * 9, id="all slots have a task or bring its log away"),
        pytest.param(around({"tasks": BUSY}, {"tasks": {}}), id="it was busy for a moment"),
        pytest.param([{"total": None, "pool": ()}] * 9, id="it is still starting"),
        pytest.param([{"broker": ConnectionError()}] * 9, id="the broker is away"),
        pytest.param(around({"broker": ConnectionError()}, {"broker": None}), id="the broker was away"),
        pytest.param([{"unit": "activating"}] * 9, id="it starts"),
        pytest.param([{"unit": "deactivating"}] * 9, id="it stops"),
        pytest.param([{"unit": "inactive", "main": 0}] * 9, id="it is down"),
        pytest.param(around({"unit": "deactivating"}, {"unit": "active"}), id="it was stopped in between"),
        pytest.param(around({"pause": 300}), id="the timer was stopped"),
        pytest.param(around({"state": ""}), id="state lost"),
        pytest.param(around({"state": "{"}), id="state cut off"),
        pytest.param(around({"state": "[1]"}), id="state of another kind"),
        pytest.param(around({"state": "null"}), id="state of no kind"),
        pytest.param(
            around({"state": '{"since": "x", "seen": 0, "main": 1, "tasks": [], "total": 0}'}), id="state of other types"
        ),
        pytest.param(
            around({"state": '{"since": 0, "seen": 0, "main": 1, "tasks": null, "total": 0}'}), id="state without tasks"
        ),
        pytest.param(around({"state": '{"since": 0, "seen": 0}'}), id="state of another version"),
    ],
)
def test_worker_that_works_or_need_not_is_left_alone(setting: Setting, steps: list[dict[str, Any]]) -> None:
    assert setting.tell(steps) == []


@pytest.mark.parametrize(("patience", "restarted"), [("0", [0, 1, 2, 3, 4, 5]), ("60", [2, 5]), ("91", [4]), ("200", [])])
def test_patience_is_the_operators(setting: Setting, patience: str, restarted: list[int]) -> None:
    assert setting.tell([SAME] * 6, "--patience", patience) == restarted


def test_free_slots_are_counted_against_the_most_that_it_may_run(setting: Setting) -> None:
    assert setting.tell([{"tasks": BUSY, "active": 4}] * 4, "--concurrency", "16") == [3]


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (
            {"waiting": {"worker1": 1, "default": 3}, "tasks": {201: 301}, "active": 2},
            f"Restarting {NODE}: for 90 s it has begun no task, although tasks wait (default: 3, worker1: 1) and it runs 2 "
            "of 4. It answers that it consumes default, worker1 and has begun 7 tasks.\n",
        ),
        (
            {"tasks": {201: 301}, "active": 0},
            f"Restarting {NODE}: for 90 s it has begun no task, although tasks wait (default: 3) and it runs 1 of 4. "
            "It answers that it consumes default, worker1 and has begun 7 tasks.\n",
        ),
        (
            {"total": None},
            f"Restarting {NODE}: for 90 s it has begun no task, although tasks wait (default: 3) and it runs 0 of 4. "
            "It does not answer.\n",
        ),
    ],
)
def test_restart_is_explained_and_touches_no_unit_that_was_stopped_meanwhile(
    setting: Setting, capsys: pytest.CaptureFixture[str], step: dict[str, Any], line: str
) -> None:
    setting.tell([step] * 4)
    assert setting.world.restarts == ["systemctl try-restart --no-block airflow-worker.service"]
    assert capsys.readouterr().out == line


def test_failed_restart_is_an_error(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.tell([SAME] * 3)

    def refuse(command: list[str], **options: Any) -> SimpleNamespace:
        if command[1] != "show":
            raise OSError("no systemd")
        return setting.world.run(command, **options)

    monkeypatch.setattr(setting.script, "subprocess", SimpleNamespace(run=refuse))
    with pytest.raises(OSError, match="no systemd"):
        setting.tell([SAME])


@pytest.mark.parametrize("error", [ConnectionError(f"cannot reach {URL}"), ValueError(f"no port in {URL}")])
def test_broker_error_is_named_without_its_text(setting: Setting, capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    setting.tell([{"broker": error}])
    output = capsys.readouterr()
    assert output.out == f"Nothing is known of {NODE}: asking the broker ended in {type(error).__name__}.\n"
    assert "hunter2" not in output.out + output.err
    assert not setting.state.exists()


def test_broker_is_reached_as_the_worker_does_but_not_waited_for(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = {"password": "hunter3"}
    monkeypatch.setenv("AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__SENTINEL_KWARGS", json.dumps(kwargs))
    setting.run("--transport-options", '{"visibility_timeout": 60, "master_name": "m", "socket_timeout": 3600}')
    timeouts = {"socket_connect_timeout": 5, "socket_timeout": 5}
    assert setting.world.options == [{"visibility_timeout": 60, "master_name": "m", "sentinel_kwargs": kwargs, **timeouts}]


@pytest.mark.parametrize(
    "step",
    [{"tasks": BUSY}, {"queues": "canary.worker1"}, {"queues": ""}, {"unit": "inactive"}],
    ids=lambda step: next(iter(step)),
)
def test_worker_that_need_not_take_a_task_costs_no_question_to_the_broker(setting: Setting, step: dict[str, Any]) -> None:
    setting.tell([step])
    assert setting.world.options == []


@pytest.mark.parametrize("missing", ["--concurrency", "--transport-options"])
def test_bad_arguments_are_an_error(setting: Setting, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    given = {"--concurrency": "4", "--transport-options": "{}"}
    monkeypatch.setattr(sys, "argv", ["watchdog", *(word for name in given if name != missing for word in (name, given[name]))])
    with pytest.raises(SystemExit) as stop:
        setting.script.main()
    assert stop.value.code == 2
