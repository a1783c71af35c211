"""An executor for Celery that waits for its broker.

Airflow's own fails a task whose message the broker does not take, and takes one for lost whose message waits for long. Here
a task that could not be handed over, or that ended before it began, has not been tried: it waits, and is sent again. What is
really lost is found by what the broker, the workers and the metadata database know of it, and not by a clock.

Every Airflow process looks at this file, as at each plugin. Only the scheduler asks for the class, which is made then.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

# Seconds that Redis gets for an answer. The scheduler's loop waits for no more than two of them.
ANSWER_TIMEOUT = 2
# Seconds between two tries of a broker that takes no messages, and between two lines about it.
TRY_AGAIN, TELL_AGAIN = 5, 60
# Seconds for which a task may be sent and not begun without a question, and between two questions.
PATIENCE, LOOK_AGAIN = 45, 20
# Looks in a row that find a message nowhere, and that find it with a worker which knows nothing of it (a busy one is slow to
# answer), until it is sent again.
LOST, ABANDONED = 2, 3
# Seconds after which a task that ended before it began is sent again, and for how long this goes on: what is away that it
# needs for that, the API server or the database, may be away for long; a task that cannot begin at all must fail some time.
BEGIN_AGAIN, GIVE_UP = 15, 3600
# Messages that one command reads.
PAGE = 500

Key = Any


@dataclass
class Look:
    """Where messages are: in a list, or taken by a worker (by the tag with which they are put back)."""

    listed: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    # What the workers say that they have.
    named: set[str] = field(default_factory=set)


class Redis:
    """What Redis knows of messages, through a connection of its own, since that of the executor may hang."""

    def __init__(self, app: Any) -> None:
        self.app = app

    @cached_property
    def connection(self) -> Any:
        timeouts = {"socket_timeout": ANSWER_TIMEOUT, "socket_connect_timeout": ANSWER_TIMEOUT}
        return self.app.connection_for_write(transport_options={**self.app.conf.broker_transport_options, **timeouts})

    @cached_property
    def channel(self) -> Any:
        # Not connection.channel(), which would wait and try again.
        transport = self.connection.transport
        return transport.create_channel(transport.establish_connection())

    def ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            return question(self.channel)
        except BaseException:
            # The next question has a new connection.
            self.__dict__.pop("channel", None)
            with suppress(Exception):
                self.__dict__.pop("connection").collapse()
            raise

    def ping(self) -> None:
        """Fail if Redis does not answer, loads its data, or takes no writes because of its disk."""
        self.ask(lambda channel: channel.client.ping())

    def find(self, wanted: Iterable[str], queues: Iterable[str]) -> Look:
        """Look for messages. Lists come first: one that is taken meanwhile is found with its worker."""
        look: Look = self.ask(lambda channel: find(channel, set(wanted), sorted(set(queues))))
        return look

    def put_back(self, tag: str) -> None:
        """Return to its queue what a worker has taken."""
        self.ask(lambda channel: channel.qos.restore_by_tag(tag))


def find(channel: Any, wanted: set[str], queues: Sequence[str]) -> Look:
    from kombu.utils.json import loads

    look = Look()
    for queue in queues:
        for priority in channel.priority_steps:
            name, start = channel._q_for_pri(queue, priority), 0
            while page := channel.client.lrange(name, start, start + PAGE - 1):
                look.listed |= {loads(text)["headers"].get("id") for text in page} & wanted
                start += PAGE
    for tag, text in channel.client.hscan_iter(channel.unacked_key, count=PAGE):
        identity = loads(text)[0]["headers"].get("id")
        if identity in wanted:
            look.held[identity] = tag.decode() if isinstance(tag, bytes) else tag
    return look


class Metadata:
    """What the metadata database knows of tasks."""

    def states(self, sent: Mapping[Key, str]) -> dict[Key, str]:
        """State of each task instance that is still at the try, and the message, that was sent."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        if not sent:
            return {}
        columns = TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.run_id, TaskInstance.map_index
        with create_session() as session:
            query = session.query(*columns, TaskInstance.try_number, TaskInstance.external_executor_id, TaskInstance.state)
            rows = query.filter(TaskInstance.filter_for_tis(list(sent))).all()
        found = {tuple(row[:4]): row for row in rows}
        states = {}
        for key, identity in sent.items():
            row = found.get((key.dag_id, key.task_id, key.run_id, key.map_index))
            if row is not None and row[4] == key.try_number and row[5] in (None, identity):
                states[key] = str(row[6])
        return states

    def schedule(self, key: Key) -> None:
        """Have the scheduler queue a task once more, in the same try, unless it has begun by now."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            session.query(TaskInstance).filter(
                TaskInstance.filter_for_tis([key]),
                TaskInstance.state == "queued",
                TaskInstance.try_number == key.try_number,
            ).update(
                {"state": "scheduled", "queued_dttm": None, "queued_by_job_id": None, "external_executor_id": None},
                synchronize_session=False,
            )


@dataclass
class Sent:
    """A message that was sent, by its Celery id."""

    since: float
    # What the executor had queued; None for a task that another scheduler sent.
    queued: Any = None
    queue: str | None = None
    begun: bool = False
    misses: int = 0


@dataclass
class Waiting:
    """A task that must not be sent before its time."""

    until: float
    # When it first ended before it began.
    since: float


class WaitingExecutor:
    """What differs from the provider's CeleryExecutor, whose methods have these names."""

    if TYPE_CHECKING:
        celery_app: Any
        event_buffer: dict[Key, Any]
        log: Any
        queued_tasks: dict[Key, Any]
        running: set[Key]
        workloads: dict[Key, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.metadata = Metadata()
        url = str(self.celery_app.conf.broker_url or "")
        self.redis = Redis(self.celery_app) if url.startswith(("redis://", "rediss://", "sentinel://")) else None
        self.clock = time.monotonic
        # When the broker stopped to take messages, when it is tried again, and when that is told again.
        self.away_since: float | None = None
        self.try_at = self.tell_at = 0.0
        self.sent: dict[str, Sent] = {}
        # Queues of tasks that another scheduler sent.
        self.adopted: dict[Key, str] = {}
        # Ids of messages that are to be sent, those that may have arrived all the same, and those that may be there twice.
        self.identities: dict[Key, str] = {}
        self.doubtful: set[Key] = set()
        self.twice: set[str] = set()
        self.again: dict[Key, Waiting] = {}
        self.look_at = 0.0
        self.look: tuple[Future[Look], dict[Key, str]] | None = None
        self.looker = ThreadPoolExecutor(1, "broker")

    # Sending -----------------------------------------------------------------------------------------------------------

    def _send_workloads_to_celery(self, items: Sequence[Any]) -> list[Any]:
        """Send what the broker takes; the caller keeps everything else queued.

        One by one in this process: a pool of processes would be made for each batch, and cost more than the messages.
        """
        now = self.clock()
        if now < self.try_at:
            return []
        sent: list[Any] = []
        items = [item for item in items if item[0] not in self.again or self.again[item[0]].until <= now]
        if not items:
            return sent
        try:
            if self.redis:
                self.redis.ping()
            there = self.arrived([item for item in items if item[0] in self.doubtful])
            for item in items:
                result = self.send(item, there)
                self.doubtful.discard(item[0])
                self.identities.pop(item[0], None)
                if getattr(result, "task_id", None):
                    self.sent[result.task_id] = Sent(now, self.queued_tasks.get(item[0]), item[2])
                sent.append((item[0], item[1], result))
        except self.broker_errors as error:
            self.is_away(error, len(self.queued_tasks) - len(sent))
        else:
            self.is_there()
        return sent

    def send(self, item: Any, there: set[str]) -> Any:
        """Result of one message, or what is wrong with it. Errors of the broker are left to the caller."""
        key, workload, queue = item[:3]
        ti = getattr(workload, "ti", None)
        identity = str(self.identities.get(key) or getattr(ti, "external_executor_id", None) or uuid.uuid4())
        if identity in there:
            return self.celery_app.AsyncResult(identity)
        self.identities[key] = identity
        self.doubtful.add(key)
        if hasattr(workload, "model_dump_json"):
            name, arguments = "execute_workload", (workload.model_dump_json(),)
        else:
            name, arguments = "execute_command", ([*workload],)
        try:
            with self.bound():
                # Celery's own retries would send a message twice whose answer is late.
                return self.celery_app.tasks[name].apply_async(args=arguments, queue=queue, task_id=identity, retry=False)
        except self.broker_errors:
            raise
        except Exception as error:
            return self.failure(error)

    def arrived(self, items: Sequence[Any]) -> set[str]:
        """Those of the messages that were sent without an answer which have arrived all the same."""
        if not items:
            return set()
        wanted = {self.identities[item[0]] for item in items}
        there = {identity for identity in wanted if self.celery_app.AsyncResult(identity).state != "PENDING"}
        if self.redis:
            look = self.redis.find(wanted, [item[2] for item in items])
            there |= look.listed | set(look.held)
        return there

    @cached_property
    def broker_errors(self) -> tuple[type[BaseException], ...]:
        from airflow.providers.common.compat.sdk import AirflowTaskTimeout
        from kombu.exceptions import OperationalError

        transport = self.celery_app.connection_for_write().transport
        return (OperationalError, OSError, AirflowTaskTimeout, *transport.connection_errors, *transport.channel_errors)

    def bound(self) -> Any:
        """A limit of time for what follows, as Airflow has one for a message."""
        from airflow.providers.celery.executors.celery_executor_utils import OPERATION_TIMEOUT
        from airflow.providers.common.compat.sdk import timeout

        return timeout(seconds=OPERATION_TIMEOUT)

    def failure(self, error: Exception) -> Any:
        import traceback

        from airflow.providers.celery.executors.celery_executor_utils import ExceptionWithTraceback

        return ExceptionWithTraceback(error, traceback.format_exc())

    def is_away(self, error: BaseException, waiting: int) -> None:
        now = self.clock()
        self.away_since = now if self.away_since is None else self.away_since
        self.try_at = now + TRY_AGAIN
        if now >= self.tell_at:
            self.tell_at = now + TELL_AGAIN
            self.log.warning("The broker takes no messages (%s). %d tasks wait for it.", told(error), waiting)

    def is_there(self) -> None:
        if self.away_since is not None:
            self.log.warning("The broker takes messages again, after %.0f s.", self.clock() - self.away_since)
            # Workers return what they have taken, and connect anew.
            self.look_at = self.clock() + PATIENCE
            self.know_nothing()
        self.away_since, self.tell_at = None, 0.0

    def know_nothing(self) -> None:
        """Begin anew to count the looks that have not found a message."""
        for message in self.sent.values():
            message.misses = 0

    # What becomes of a message -----------------------------------------------------------------------------------------

    def sync(self) -> None:
        super().sync()  # type: ignore[misc]
        try:
            self.watch()
        except Exception:
            # The scheduler goes on without it: it is for the rare case.
            self.log.exception("Looking for lost messages failed.")
            self.look, self.look_at = None, self.clock() + LOOK_AGAIN

    def update_task_state(self, key: Key, state: str, info: Any) -> None:
        """Believe the end of a message only where the task has begun, and is over."""
        result = self.workloads.get(key)
        identity = getattr(result, "task_id", "")
        ended = state in ("SUCCESS", "FAILURE", "REVOKED")
        if ended and hasattr(key, "task_id") and (state == "FAILURE" or identity in self.twice):
            try:
                known = self.metadata.states({key: identity}).get(key)
                if known == "running" and identity in self.twice:
                    return
                if known == "queued" and state == "FAILURE" and self.begin_again(key, identity):
                    return
            except Exception as error:
                self.log.warning("The end of %s is looked at later: %s.", key, type(error).__name__)
                return
        if ended:
            self.again.pop(key, None)
        super().update_task_state(key, state, info)  # type: ignore[misc]

    def begin_again(self, key: Key, identity: str) -> bool:
        """Have a task queued once more, in the same try, that ended before it began; False once that was done for long enough.

        With a new message: the result of this one is known, and what was wrong with it may have been its token.
        """
        now = self.clock()
        waiting = self.again.get(key) or Waiting(now, now)
        if now - waiting.since > GIVE_UP:
            return False
        self.metadata.schedule(key)
        self.again[key] = Waiting(now + BEGIN_AGAIN, waiting.since)
        self.forget(key, identity)
        self.log.warning("%s ended before it began, by no fault of its own: it is sent again.", key)
        return True

    def forget(self, key: Key, identity: str) -> Any:
        """Hold a message for not sent; returns what was queued for it, if this scheduler sent it."""
        sent = self.sent.pop(identity, None)
        self.workloads.pop(key, None)
        self.running.discard(key)
        return sent.queued if sent else None

    def send_again(self, key: Key, identity: str) -> None:
        """Send a message once more, the same one: should the old one still come to light, the result of either counts."""
        if self.sent[identity].queued is None:
            self.metadata.schedule(key)
            self.forget(key, identity)
            return
        self.queued_tasks[key] = self.forget(key, identity)
        self.identities[key] = identity
        self.twice.add(identity)

    def watch(self) -> None:
        """Ask now and then where the messages are of tasks that are sent and have not begun."""
        now = self.clock()
        current = {result.task_id: key for key, result in self.workloads.items() if hasattr(key, "task_id")}
        for gone in [identity for identity in self.sent if identity not in current]:
            del self.sent[gone]
        self.adopted = {key: queue for key, queue in self.adopted.items() if key in self.workloads}
        self.twice &= {*current, *self.identities.values()}
        self.again = {key: waiting for key, waiting in self.again.items() if now - waiting.until <= GIVE_UP}
        for identity in current:
            self.sent.setdefault(identity, Sent(now))
        if self.look is not None:
            self.judge(*self.look)
            return
        if not self.redis or now < self.look_at or self.away_since is not None:
            return
        # Without late acknowledgement a message is gone once a worker has it.
        if not self.celery_app.conf.task_acks_late:
            return
        old = {key: i for i, key in current.items() if not self.sent[i].begun and now - self.sent[i].since >= PATIENCE}
        if not old:
            return
        self.look_at = now + LOOK_AGAIN
        states = self.metadata.states(old)
        for key, identity in old.items():
            self.sent[identity].begun = states.get(key) != "queued"
        waiting = {key: identity for key, identity in old.items() if not self.sent[identity].begun}
        if waiting:
            default = str(self.celery_app.conf.task_default_queue)
            queues = [self.sent[identity].queue or self.adopted.get(key, default) for key, identity in waiting.items()]
            self.look = self.looker.submit(self.find, self.redis, set(waiting.values()), queues), waiting

    def find(self, redis: Redis, wanted: set[str], queues: Sequence[str]) -> Look:
        """Where the messages are. Runs in a thread, since workers get seconds for their answer."""
        look = redis.find(wanted, queues)
        if look.held:
            answers = self.celery_app.control.inspect(timeout=ANSWER_TIMEOUT).query_task(*look.held) or {}
            look.named = {identity for answer in answers.values() for identity in answer}
        return look

    def judge(self, future: Future[Look], waiting: Mapping[Key, str]) -> None:
        """Send again what two looks, or three, have not found where it should be."""
        if not future.done():
            return
        self.look = None
        self.look_at = self.clock() + LOOK_AGAIN
        try:
            look = future.result()
        except Exception as error:
            self.know_nothing()
            self.log.warning("Nobody can say where %d messages are: %s.", len(waiting), told(error))
            return
        suspects = {}
        for key, identity in waiting.items():
            sent = self.sent.get(identity)
            if sent is None or getattr(self.workloads.get(key), "task_id", None) != identity:
                continue
            if identity in look.listed or identity in look.named:
                sent.misses = 0
                continue
            sent.misses += 1
            if sent.misses >= (ABANDONED if identity in look.held else LOST):
                suspects[key] = identity
        # It may have begun since.
        states = self.metadata.states(suspects)
        for key, identity in suspects.items():
            if states.get(key) != "queued":
                continue
            self.sent[identity].misses = 0
            if identity in look.held and self.redis:
                self.log.warning("%s: no worker knows of its message, which one has taken: it is put back.", key)
                self.redis.put_back(look.held[identity])
                self.twice.add(identity)
            else:
                self.log.warning("%s: its message is lost, it is sent again.", key)
                self.send_again(key, identity)

    # Another scheduler's tasks -----------------------------------------------------------------------------------------

    def try_adopt_task_instances(self, tis: Sequence[Any]) -> Sequence[Any]:
        """Adopt what was sent. What was not (its scheduler ended before) is queued once more, in the same try."""
        unsent = [ti for ti in tis if ti.external_executor_id is None and ti.state == "queued"]
        for ti in unsent:
            ti.state, ti.queued_dttm = "scheduled", None
        for ti in tis:
            if getattr(ti, "queue", None):
                self.adopted[ti.key] = ti.queue
        rest = [ti for ti in tis if ti not in unsent]
        return super().try_adopt_task_instances(rest) if rest else []  # type: ignore[misc]


def told(error: BaseException) -> str:
    """An error for the log. Only what Redis itself says is told in full: other texts may hold the URL."""
    chain: BaseException | None = error
    while chain is not None:
        if any(parent.__name__ == "ResponseError" for parent in type(chain).__mro__):
            return f"{type(chain).__name__}: {chain}"
        chain = chain.__cause__ or chain.__context__
    return type(error).__name__


def __getattr__(name: str) -> Any:
    if name != "CeleryExecutor":
        raise AttributeError(name)
    from airflow.providers.celery.executors import celery_executor

    made = type(name, (WaitingExecutor, celery_executor.CeleryExecutor), {"__module__": __name__})
    globals()[name] = made
    return made
