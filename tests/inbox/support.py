"""What the tests of the inbox share: messages, handlers, a queue of their own, a consumer."""

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from amqp.basic_message import Message
from django.db import connection, connections
from django.utils import timezone
from kombu import Connection

from inbox.conf import InboxSettings
from inbox.consumer import Consumer
from inbox.delivery import Delivery
from inbox.handlers.registry import Handler, handlers
from inbox.handlers.topics import topics_of
from inbox.models import Receipt
from inbox.receiving.batch import Batch
from inbox.receiving.retries import Retries
from inbox.receiving.tally import Tally
from inbox.receiving.turn import Turn
from inbox.sources.amqp.topology import declare, queue_name
from outbox.message.envelope import Envelope
from outbox.runtime.shutdown import Shutdown
from tests.kit.support import amqp_message
from tests.testapp.models import Effect

HAPPENED = "tests.happened"

postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="needs PostgreSQL")


_counter = itertools.count(1)


def new_id() -> str:
    """An id that no other message has, greater than those before."""
    return f"{next(_counter):08x}-{uuid.uuid4()}"


def happened(number: int = 1, key: str = "k", **attributes: Any) -> Envelope:
    """A message of the test app's event."""
    return Envelope(
        **{
            "id": new_id(),
            "source": "/elsewhere",
            "type": HAPPENED,
            "topic": HAPPENED,
            "key": key,
            "data": f'{{"key":"{key}","number":{number}}}'.encode(),
            **attributes,
        }
    )


def receive(
    *messages: Envelope | Delivery, group: str | None = "g", using: str = "default"
) -> list[Tally]:
    """Receive messages as one batch."""
    deliveries = [m if isinstance(m, Delivery) else Delivery.of(m) for m in messages]
    return Batch(deliveries, using=using, group=group).receive()


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def record(event: Any, message: Envelope, name: str = "record") -> None:
    """Leave an effect behind, whatever the payload is."""
    Effect.objects.create(
        key=getattr(event, "key", message.key or ""),
        number=getattr(event, "number", 0),
        message_id=message.id,
        handler=name,
    )


def fail(event: Any, message: Envelope) -> None:
    """Fail, and leave nothing behind."""
    raise ValueError("no luck")


class Mended:
    """A handler that fails `times` times for each message, and then records it."""

    def __init__(self, times: int = 1, name: str = "record") -> None:
        self.calls: list[str] = []
        self._times = times
        self._name = name

    def __call__(self, event: Any, message: Envelope) -> None:
        self.calls.append(message.id)
        if self.calls.count(message.id) <= self._times:
            raise ValueError("no luck")
        record(event, message, self._name)


def make_due(**about: Any) -> int:
    """Let the pause of what is retrying, or waits for a time, be over."""
    found = Receipt.objects.filter(next_attempt_at__isnull=False, **about)
    return found.update(next_attempt_at=timezone.now() - timedelta(seconds=5))


def turn(group: str | None = "g", **limits: Any) -> Turn:
    """Handle what is due, all of it, however slow the machine is: unless limits are given."""
    return Retries("default", group).turn(**{"seconds": 60.0} | limits)


def states(**about: Any) -> list[str]:
    """The states of receipts, in the order in which their messages were made."""
    return list(
        Receipt.objects.filter(**about).order_by("message_id").values_list("state", flat=True)
    )


@dataclass
class Handling:
    """Registers handlers for one test and forgets them after it."""

    group: str = "g"
    names: list[str] = field(default_factory=list)

    def __call__(
        self, function: Callable[..., object] = record, *, name: str = "record", **options: Any
    ) -> Handler:
        options = {"pattern": HAPPENED, "declared_group": self.group, **options}
        found = handlers.add(Handler(name=name, function=function, **options))
        self.names.append(name)
        return found

    def forget(self) -> None:
        for name in self.names:
            handlers.remove(name)


def topics_of_group(group: str) -> set[str]:
    return topics_of(handlers.groups().get(group, []))


def effects(handler: str | None = None) -> list[int]:
    """The numbers of the effects, in the order in which they were made."""
    found = Effect.objects.order_by("id")
    if handler is not None:
        found = found.filter(handler=handler)
    return list(found.values_list("number", flat=True))


@contextmanager
def slow_receipts(event: str, seconds: float) -> Iterator[None]:
    """Let the database take its time for each receipt that it writes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION tests_slow() RETURNS trigger LANGUAGE plpgsql AS "
            f"'BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END'"
        )
        cursor.execute(
            f"CREATE TRIGGER tests_slow BEFORE {event} ON django_inbox_receipt "
            "FOR EACH ROW EXECUTE FUNCTION tests_slow()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION tests_slow CASCADE")


def waiting_for_lock() -> bool:
    """Tell whether some session of the database waits for a lock of another."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def block_effects() -> None:
    """Make every handler that records an effect wait for the end of the running transaction."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE testapp_effect IN EXCLUSIVE MODE")


@contextmanager
def in_thread(function: Callable[[], Any]) -> Iterator["Background"]:
    """Run a function in a thread, which closes its database connections at the end."""
    background = Background(function)
    try:
        yield background
    finally:
        background.join()


class Background:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as exc:
            self.error = exc
        finally:
            connections.close_all()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(60)
        assert not self.running, "the thread does not end"

    def get(self) -> Any:
        self.join()
        if self.error is not None:
            raise self.error
        return self.result


class Raw(Message):
    """A message whose properties are written as given, also such that py-amqp would not write."""

    raw = b""

    def _serialize_properties(self) -> bytes:
        return self.raw


@dataclass
class Queue:
    """An exchange and a group's queue that no other test uses, and ways to look at them.

    `name` is the group's, and without a QUEUE_PREFIX the queue's as well.
    """

    url: str
    name: str
    conf: InboxSettings

    @property
    def queue(self) -> str:
        return queue_name(self.name, self.conf)

    @property
    def exchange(self) -> str:
        return self.conf.EXCHANGE

    def declare(self) -> None:
        with Connection(self.url) as connection:
            declare(
                connection,
                exchange=self.exchange,
                queue=self.queue,
                topics=topics_of_group(self.name),
            )

    def publish(self, *messages: Envelope) -> None:
        self.publish_raw(*[(amqp_message(each), each.topic) for each in messages])

    def publish_raw(self, *messages: tuple[Message, Any]) -> None:
        """Publish; return when the broker has it."""
        with self.channel() as channel:
            channel.confirm_select()
            open_tags = set(range(1, len(messages) + 1))

            def confirmed(tag: int, multiple: bool) -> None:
                open_tags.difference_update(
                    {each for each in open_tags if each <= tag} if multiple else {tag}
                )

            channel.events["basic_ack"].add(confirmed)
            for message, topic in messages:
                channel.basic_publish(message, exchange=self.exchange, routing_key=topic)
            while open_tags:
                channel.connection.drain_events(timeout=10)

    def ready(self) -> int:
        return self._asked()[0]

    def consumers(self) -> int:
        return self._asked()[1]

    def _asked(self) -> tuple[int, int]:
        """How many messages and consumers it has. A busy broker says 0 and 0 after 250 ms."""
        with self.channel() as channel:
            while True:
                asked = time.monotonic()
                said = channel.queue_declare(self.queue, passive=True)
                if said.message_count or said.consumer_count or time.monotonic() - asked < 0.2:
                    return int(said.message_count), int(said.consumer_count)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        with Connection(self.url) as connection:
            yield connection.channel()

    def delete(self) -> None:
        with self.channel() as channel:
            channel.queue_delete(self.queue)
            channel.exchange_delete(self.exchange)

    def consumer(
        self, shutdown: Shutdown | None = None, *, several: bool = False, **settings: Any
    ) -> Consumer:
        return Consumer(
            self.name,
            url=self.url,
            conf=replace(self.conf, **settings),
            using="default",
            shutdown=shutdown or Shutdown(),
            several=several,
        )

    def drain(self, **settings: Any) -> Consumer:
        """Consume until the queue is empty; return the consumer, for its figures."""
        with closing_shutdown() as shutdown:
            consumer = self.consumer(shutdown, **settings)
            consumer.run(until_empty=True)
            return consumer

    @contextmanager
    def consuming(self, **settings: Any) -> Iterator[Consumer]:
        """Consume in a thread during the block; errors of the consumer end up here."""
        with closing_shutdown() as shutdown:
            consumer = self.consumer(shutdown, **settings)
            background = Background(consumer.run)
            try:
                yield consumer
            finally:
                shutdown.request()
                background.join()
            assert background.get() is True


@contextmanager
def closing_shutdown() -> Iterator[Shutdown]:
    shutdown = Shutdown()
    try:
        yield shutdown
    finally:
        shutdown.close()


def make_queue(url: str, name: str = "", **settings: Any) -> Queue:
    name = name or f"inbox-{uuid.uuid4().hex}"
    defaults: dict[str, Any] = {
        "EXCHANGE": name,
        "RETRY_MAX": 0.2,
        "SOCKET_TIMEOUT": 5.0,
    }
    return Queue(url, name, InboxSettings(**{**defaults, **settings}))


@contextmanager
def bound_queue(url: str) -> Iterator[Queue]:
    """A queue that is declared and bound to the test app's event, until the block ends."""
    found = make_queue(url)
    handling = Handling(found.name)
    handling(name="bound")
    found.declare()
    handling.forget()
    yield found
    found.delete()


def records(caplog: Any, start: str) -> list[str]:
    """The log lines that begin so."""
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith(start)]


def heartbeats() -> list[threading.Thread]:
    """Return the threads that send heartbeats for consumers of this process."""
    return [thread for thread in threading.enumerate() if thread.name == "inbox-heartbeat"]


def attempts(consumer: Consumer) -> int:
    """How often what is away was tried in vain."""
    return max(each.failures for each in consumer.progress.outages.breakers.values())
