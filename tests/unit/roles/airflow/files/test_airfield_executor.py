from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/airfield_executor.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("airfield_executor", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MODULE = load()


class Key(NamedTuple):
    dag_id: str
    task_id: str
    run_id: str = "run"
    try_number: int = 1
    map_index: int = -1


class Callback(NamedTuple):
    id: str


class Timeout(BaseException):
    """Airflow's for a message that takes too long is no Exception either."""


class RefusedError(Exception):
    """What the broker says."""


class Workload:
    """As of Airflow 3."""

    def __init__(self, identity: str | None) -> None:
        self.ti = SimpleNamespace(external_executor_id=identity)

    def model_dump_json(self) -> str:
        return "{}"


class Result:
    def __init__(self, task_id: str, state: str = "PENDING") -> None:
        self.task_id, self.state = task_id, state


class App:
    """Celery, and the broker behind it."""

    def __init__(self) -> None:
        self.conf = SimpleNamespace(broker_url="redis://h/0", task_acks_late=True, task_default_queue="default")
        self.messages: list[str] = []
        self.published: list[str] = []
        self.error: BaseException | None = None
        # Whether a message arrives whose answer does not.
        self.late = False
        self.states: dict[str, str] = {}
        self.tasks = {"execute_workload": self, "execute_command": self}

    def apply_async(self, args: Any, queue: str, task_id: str, retry: bool) -> Result:
        assert not retry
        if self.error is None or self.late:
            self.messages.append(task_id)
        if self.error is not None:
            raise self.error
        self.published.append(task_id)
        return Result(task_id)

    def AsyncResult(self, task_id: str) -> Result:  # noqa: N802
        return Result(task_id, self.states.get(task_id, "PENDING"))


class Redis:
    """What is in Redis."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.held: dict[str, str] = {}
        self.named: set[str] = set()
        self.error: BaseException | None = None
        self.put: list[str] = []

    def ping(self) -> None:
        if self.error:
            raise self.error

    def find(self, wanted: Iterable[str], queues: Sequence[str]) -> Any:
        self.ping()
        held = {identity: tag for identity, tag in self.held.items() if identity in set(wanted)}
        return MODULE.Look({*self.app.messages} & set(wanted), held, set(self.named))

    def put_back(self, tag: str) -> None:
        self.put.append(tag)
        self.app.messages.extend(identity for identity in [*self.held] if self.held.pop(identity) == tag)


class Metadata:
    """The metadata database."""

    def __init__(self) -> None:
        self.rows: dict[Any, str] = {}
        self.scheduled: list[Any] = []
        self.error: Exception | None = None

    def states(self, sent: Mapping[Any, str]) -> dict[Any, str]:
        if self.error:
            raise self.error
        return {key: self.rows[key] for key in sent if key in self.rows}

    def schedule(self, key: Any) -> None:
        self.scheduled.append(key)


class Base:
    """The provider's executor, as much as ours builds on."""

    def __init__(self, app: App) -> None:
        self.celery_app = app
        self.queued_tasks: dict[Any, Any] = {}
        self.running: set[Any] = set()
        self.workloads: dict[Any, Any] = {}
        self.ended: dict[Any, str] = {}
        self.told: list[str] = []
        self.log = SimpleNamespace(warning=self.tell, exception=self.tell)

    def tell(self, text: str, *words: Any) -> None:
        self.told.append(text % words)

    def beat(self) -> None:
        items = [(key, workload, "default", None) for key, workload in self.queued_tasks.items()]
        for key, _args, result in self._send_workloads_to_celery(items) if items else []:  # type: ignore[attr-defined]
            self.queued_tasks.pop(key)
            if isinstance(result, Result):
                self.running.add(key)
                self.workloads[key] = result
            else:
                self.ended[key] = "FAILURE"
        self.sync()

    def sync(self) -> None:
        pass

    def update_task_state(self, key: Any, state: str, info: Any) -> None:
        if state in ("SUCCESS", "FAILURE"):
            self.ended[key] = state
            self.workloads.pop(key, None)
            self.running.discard(key)

    def try_adopt_task_instances(self, tis: Sequence[Any]) -> Sequence[Any]:
        return [ti for ti in tis if ti.external_executor_id is None]


class Scheduler:
    """A scheduler with our executor, and its clock."""

    def __init__(self, app: App | None = None) -> None:
        self.app = app or App()
        made = type("CeleryExecutor", (MODULE.WaitingExecutor, Base), {"bound": lambda _self: nullcontext()})
        made.broker_errors = (RefusedError, OSError, Timeout)  # type: ignore[attr-defined]
        made.failure = lambda _self, error: error  # type: ignore[attr-defined]
        self.executor: Any = made(self.app)
        self.redis = Redis(self.app)
        self.executor.redis = self.redis if self.executor.redis else None
        self.metadata = self.executor.metadata = Metadata()
        self.now = 1000.0
        self.executor.clock = lambda: self.now
        self.executor.looker = SimpleNamespace(submit=self.submit)

    def submit(self, _call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self.redis.find(*arguments[1:]))
        except Exception as error:
            future.set_exception(error)
        return future

    def queue(self, *names: str, identity: bool = True) -> list[Key]:
        keys = [Key("dag", name) for name in names]
        for key in keys:
            self.executor.queued_tasks[key] = Workload(f"id-{key.task_id}" if identity else None)
            self.metadata.rows[key] = "queued"
        return keys

    def run(self, seconds: float) -> None:
        """Loops of the scheduler, one a second."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            self.executor.beat()

    def end(self, key: Key, state: str, row: str) -> None:
        self.metadata.rows[key] = row
        self.executor.update_task_state(key, state, None)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


def test_what_the_broker_takes_is_sent_once(scheduler: Scheduler) -> None:
    keys = scheduler.queue("a", "b")
    scheduler.run(3)
    assert scheduler.app.messages == ["id-a", "id-b"]
    assert set(scheduler.executor.workloads) == set(keys)
    assert not scheduler.executor.told


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError("Connection refused"), id="stopped"),
        pytest.param(RefusedError("MISCONF"), id="no disk"),
        pytest.param(Timeout(), id="frozen"),
    ],
)
@pytest.mark.parametrize("where", ["asked", "sent"])
def test_what_the_broker_does_not_take_waits_and_is_sent_once(scheduler: Scheduler, error: BaseException, where: str) -> None:
    place: Any = scheduler.redis if where == "asked" else scheduler.app
    keys = scheduler.queue("a", "b", "c")
    place.error = error
    scheduler.run(1200)
    assert set(scheduler.executor.queued_tasks) == set(keys)
    assert not scheduler.executor.ended
    place.error = None
    scheduler.run(MODULE.TRY_AGAIN + 1)
    assert scheduler.app.messages == ["id-a", "id-b", "id-c"]
    assert not scheduler.executor.queued_tasks
    away, back = scheduler.executor.told[0], scheduler.executor.told[-1]
    assert away.endswith("3 tasks wait for it.")
    assert back.startswith("The broker takes messages again")
    assert len(scheduler.executor.told) <= 1200 / MODULE.TELL_AGAIN + 2


def test_a_broker_that_is_away_is_tried_by_one_message_now_and_then(scheduler: Scheduler) -> None:
    tries: list[float] = []
    scheduler.queue(*map(str, range(1000)))

    def ping() -> None:
        tries.append(scheduler.now)
        raise OSError

    scheduler.redis.ping = ping  # type: ignore[method-assign]
    scheduler.run(60)
    assert len(tries) == 60 / MODULE.TRY_AGAIN
    assert not scheduler.app.published


@pytest.mark.parametrize("identity", [True, False], ids=["Airflow 3", "Airflow 2"])
def test_message_that_arrived_without_an_answer_is_not_sent_again(scheduler: Scheduler, identity: bool) -> None:
    scheduler.app.error, scheduler.app.late = Timeout(), True
    (key,) = scheduler.queue("a", identity=identity)
    scheduler.run(1)
    scheduler.app.error = None
    scheduler.run(20)
    assert len(scheduler.app.messages) == 1
    assert scheduler.executor.workloads[key].task_id == scheduler.app.messages[0]


def test_message_that_arrived_and_was_taken_without_an_answer_is_not_sent_again(scheduler: Scheduler) -> None:
    scheduler.app.error, scheduler.app.late = Timeout(), True
    (key,) = scheduler.queue("a")
    scheduler.run(1)
    scheduler.app.error = None
    scheduler.app.states[scheduler.app.messages.pop()] = "SUCCESS"
    scheduler.run(20)
    assert not scheduler.app.messages
    assert key in scheduler.executor.workloads


def test_message_that_cannot_be_made_fails_its_task_and_no_other(scheduler: Scheduler) -> None:
    bad, good = scheduler.queue("bad", "good")
    scheduler.executor.queued_tasks[bad].model_dump_json = lambda: 1 / 0
    send = scheduler.app.apply_async

    def apply_async(**words: Any) -> Result:
        if words["task_id"] == "id-bad":
            raise ValueError("not JSON")
        return send(**words)

    scheduler.app.apply_async = apply_async  # type: ignore[assignment]
    scheduler.executor.queued_tasks[bad].model_dump_json = lambda: "{}"
    scheduler.run(1)
    assert scheduler.executor.ended == {bad: "FAILURE"}
    assert good in scheduler.executor.workloads


def test_waiting_in_a_queue_is_no_loss(scheduler: Scheduler) -> None:
    scheduler.queue("a")
    scheduler.run(24 * 3600)
    assert scheduler.app.published == ["id-a"]
    assert not scheduler.executor.told


def test_lost_message_is_found_within_two_minutes_and_sent_with_its_id(scheduler: Scheduler) -> None:
    (key,) = scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.run(100)
    assert scheduler.app.messages == ["id-a"]
    assert scheduler.executor.workloads[key].task_id == "id-a"
    scheduler.run(3600)
    assert scheduler.app.published == ["id-a", "id-a"]


def test_lost_message_of_airflow_2_is_sent_with_its_id(scheduler: Scheduler) -> None:
    scheduler.queue("a", identity=False)
    scheduler.run(10)
    (identity,) = scheduler.app.messages
    scheduler.app.messages.clear()
    scheduler.run(100)
    assert scheduler.app.messages == [identity]


def test_lost_message_whose_task_had_been_taken_once_is_sent(scheduler: Scheduler) -> None:
    scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.app.states["id-a"] = "STARTED"
    scheduler.run(100)
    assert scheduler.app.messages == ["id-a"]


def test_task_that_has_begun_is_asked_about_once(scheduler: Scheduler) -> None:
    (key,) = scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.metadata.rows[key] = "running"
    asked: list[Any] = []
    known = scheduler.metadata.states
    scheduler.metadata.states = lambda sent: asked.append(sent) or known(sent)  # type: ignore[method-assign,func-returns-value]
    scheduler.run(3600)
    assert len([sent for sent in asked if sent]) == 1
    assert scheduler.app.published == ["id-a"]


def test_nothing_is_lost_while_nobody_can_say_where_it_is(scheduler: Scheduler) -> None:
    scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.redis.error = OSError()
    scheduler.run(600)
    assert scheduler.app.published == ["id-a"]


def test_looks_before_and_after_an_outage_do_not_add_up(scheduler: Scheduler) -> None:
    scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    while not scheduler.executor.sent["id-a"].misses:
        scheduler.run(1)
    scheduler.queue("b")
    scheduler.redis.error = OSError()
    scheduler.run(60)
    scheduler.redis.error = None
    scheduler.run(MODULE.PATIENCE)
    assert "id-a" not in scheduler.app.messages, "a worker may be about to return it"
    scheduler.run(3 * MODULE.LOOK_AGAIN)
    assert scheduler.app.messages.count("id-a") == 1


def test_message_that_a_worker_has_is_not_lost(scheduler: Scheduler) -> None:
    scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.redis.held, scheduler.redis.named = {"id-a": "tag"}, {"id-a"}
    scheduler.run(3600)
    assert scheduler.app.published == ["id-a"]
    assert not scheduler.redis.put


def test_message_of_a_worker_that_is_no_more_is_put_back(scheduler: Scheduler) -> None:
    scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.redis.held = {"id-a": "tag"}
    scheduler.run(60)
    assert not scheduler.redis.put
    scheduler.run(90)
    assert scheduler.redis.put == ["tag"]
    assert scheduler.app.published == ["id-a"]


def test_without_late_acknowledgement_nothing_is_taken_for_lost(scheduler: Scheduler) -> None:
    scheduler.app.conf.task_acks_late = False
    scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.run(3600)
    assert scheduler.app.published == ["id-a"]


def test_lost_message_of_an_adopted_task_has_it_queued_anew(scheduler: Scheduler) -> None:
    key = Key("dag", "a")
    scheduler.metadata.rows[key] = "queued"
    scheduler.executor.workloads[key] = Result("id-a")
    scheduler.executor.running.add(key)
    scheduler.run(120)
    assert scheduler.metadata.scheduled == [key]
    assert not scheduler.executor.workloads
    assert not scheduler.executor.running


def test_end_of_a_second_message_does_not_count_while_the_first_one_runs(scheduler: Scheduler) -> None:
    (key,) = scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.run(100)
    scheduler.end(key, "SUCCESS", "running")
    assert not scheduler.executor.ended
    scheduler.end(key, "SUCCESS", "success")
    assert scheduler.executor.ended == {key: "SUCCESS"}


def test_end_counts_where_there_is_one_message(scheduler: Scheduler) -> None:
    (key,) = scheduler.queue("a")
    scheduler.run(10)
    scheduler.end(key, "SUCCESS", "running")
    assert scheduler.executor.ended == {key: "SUCCESS"}


def test_task_that_ended_before_it_began_is_queued_anew_in_its_try(scheduler: Scheduler) -> None:
    (key,) = scheduler.queue("a")
    scheduler.run(10)
    scheduler.app.messages.clear()
    scheduler.end(key, "FAILURE", "queued")
    assert scheduler.metadata.scheduled == [key]
    assert not scheduler.executor.workloads
    assert not scheduler.executor.running
    # Airflow queues what is scheduled, with another id and another token.
    scheduler.executor.queued_tasks[key] = Workload("id-new")
    scheduler.run(MODULE.BEGIN_AGAIN - 2)
    assert not scheduler.app.messages
    scheduler.run(4)
    assert scheduler.app.messages == ["id-new"]
    assert not scheduler.executor.ended
    scheduler.end(key, "SUCCESS", "success")
    assert scheduler.executor.ended == {key: "SUCCESS"}


def test_task_that_never_begins_fails_after_an_hour(scheduler: Scheduler) -> None:
    (key,) = scheduler.queue("a")
    started = scheduler.now
    while not scheduler.executor.ended and scheduler.now < started + 2 * MODULE.GIVE_UP:
        scheduler.run(20)
        if key in scheduler.executor.workloads:
            scheduler.end(key, "FAILURE", "queued")
            scheduler.executor.queued_tasks[key] = Workload(f"id-{scheduler.now}")
    assert scheduler.executor.ended == {key: "FAILURE"}
    assert MODULE.GIVE_UP <= scheduler.now - started <= MODULE.GIVE_UP + 60


def test_end_that_cannot_be_noted_is_looked_at_later(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = scheduler.queue("a")
    scheduler.run(10)

    def fail(_key: Any) -> None:
        raise OSError

    monkeypatch.setattr(scheduler.metadata, "schedule", fail)
    scheduler.end(key, "FAILURE", "queued")
    assert key in scheduler.executor.workloads
    assert not scheduler.executor.ended


@pytest.mark.parametrize("row", ["running", "success", "failed", "up_for_retry"])
def test_failure_of_a_task_that_began_counts(scheduler: Scheduler, row: str) -> None:
    (key,) = scheduler.queue("a")
    scheduler.run(10)
    scheduler.end(key, "FAILURE", row)
    assert scheduler.executor.ended == {key: "FAILURE"}


def test_failure_is_looked_at_later_where_the_database_is_away(scheduler: Scheduler) -> None:
    (key,) = scheduler.queue("a")
    scheduler.run(10)
    scheduler.metadata.error = OSError()
    scheduler.end(key, "FAILURE", "running")
    assert not scheduler.executor.ended
    scheduler.run(60)
    scheduler.metadata.error = None
    scheduler.end(key, "FAILURE", "running")
    assert scheduler.executor.ended == {key: "FAILURE"}


def test_callbacks_wait_and_end_like_tasks(scheduler: Scheduler) -> None:
    key = Callback("c")
    workload = Workload(None)
    scheduler.executor.queued_tasks[key] = workload
    scheduler.redis.error = OSError()
    scheduler.run(60)
    scheduler.redis.error = None
    scheduler.run(10)
    assert len(scheduler.app.messages) == 1
    scheduler.run(600)
    scheduler.end(key, "FAILURE", "")  # type: ignore[arg-type]
    assert scheduler.executor.ended == {key: "FAILURE"}


def test_other_brokers_than_redis_are_only_tried() -> None:
    app = App()
    app.conf.broker_url = "amqp://h//"
    scheduler = Scheduler(app)
    app.error = OSError()
    (key,) = scheduler.queue("a")
    scheduler.run(60)
    assert key in scheduler.executor.queued_tasks
    app.error = None
    scheduler.run(10)
    app.messages.clear()
    scheduler.run(3600)
    assert app.published == ["id-a"]


def test_task_that_a_dead_scheduler_had_not_sent_is_queued_anew_in_its_try(scheduler: Scheduler) -> None:
    unsent = SimpleNamespace(key=Key("dag", "a"), external_executor_id=None, state="queued", queue="q", queued_dttm=1)
    running = SimpleNamespace(key=Key("dag", "b"), external_executor_id=None, state="running", queue="q", queued_dttm=1)
    assert scheduler.executor.try_adopt_task_instances([unsent, running]) == [running]
    assert (unsent.state, unsent.queued_dttm) == ("scheduled", None)


class ResponseError(Exception):
    """Of redis."""


def test_only_what_redis_itself_says_is_told_in_full() -> None:
    assert MODULE.told(OSError("redis://user:secret@h")) == "OSError"
    wrapped = RuntimeError("redis://user:secret@h")
    wrapped.__cause__ = ResponseError("MISCONF no disk")
    assert MODULE.told(wrapped) == "ResponseError: MISCONF no disk"


class Client:
    def __init__(self, lists: dict[str, list[str]], unacked: dict[bytes, str]) -> None:
        self.lists, self.unacked = lists, unacked

    def lrange(self, name: str, start: int, end: int) -> list[str]:
        return self.lists.get(name, [])[start : end + 1]

    def hscan_iter(self, name: str, count: int) -> Iterable[tuple[bytes, str]]:
        return self.unacked.items()


def test_messages_are_found_in_lists_of_any_length_and_with_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kombu", "kombu.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = ModuleType("kombu.utils.json")
    vars(module)["loads"] = json.loads
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(MODULE, "PAGE", 3)
    messages = [json.dumps({"headers": {"id": f"id-{number}"}}) for number in range(10)]
    held = json.dumps([{"headers": {"id": "held"}}, "exchange", "default"])
    channel = SimpleNamespace(
        client=Client({"default": messages}, {b"tag": held}),
        priority_steps=[0, 3],
        unacked_key="unacked",
        _q_for_pri=lambda queue, priority: queue if priority == 0 else f"{queue}:{priority}",
    )
    look = MODULE.find(channel, {"id-0", "id-9", "held", "nowhere"}, ["default"])
    assert (look.listed, look.held) == ({"id-0", "id-9"}, {"held": "tag"})


def test_class_is_made_for_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    package = "airflow.providers.celery.executors"
    parts = package.split(".")
    for name in (".".join(parts[: number + 1]) for number in range(len(parts))):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = ModuleType(f"{package}.celery_executor")
    vars(module)["CeleryExecutor"] = Base
    vars(sys.modules[package])["celery_executor"] = module
    monkeypatch.setitem(sys.modules, module.__name__, module)
    fresh = load()
    assert "CeleryExecutor" not in vars(fresh)
    made = fresh.CeleryExecutor
    assert made.__mro__[1:3] == (fresh.WaitingExecutor, Base)
    assert made is fresh.CeleryExecutor
    with pytest.raises(AttributeError):
        fresh.Other  # noqa: B018
