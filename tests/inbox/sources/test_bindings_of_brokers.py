"""What consumers find out about their bindings, with a broker."""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import outbox
from inbox import consumer as consumer_module
from inbox.models import Binding, DeadLetter
from inbox.sources.bindings import (
    Bindings,
)
from outbox.message.envelope import Envelope
from outbox.runtime.outages import DATABASE
from tests.inbox.sources.support import long_ago, remembered, unwanted
from tests.inbox.support import (
    HAPPENED,
    Handling,
    Queue,
    closing_shutdown,
    effects,
    happened,
    postgresql,
    record,
)
from tests.kit.waiting import until
from tests.testapp.events import Happened

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def catch_all(queue: Queue) -> Iterator[None]:
    """Let another group get everything, so that every event has found a route."""
    name = f"{queue.name}-all"
    with queue.channel() as channel:
        channel.queue_declare(name, durable=True, auto_delete=False)
        channel.queue_bind(name, queue.exchange, routing_key="#")
    try:
        yield
    finally:
        with queue.channel() as channel:
            channel.queue_delete(name)


@postgresql
def test_what_a_lost_queue_has_missed_is_handled_after_the_command(
    queue: Queue, handling: Handling, told: Callable[[], list[str]]
) -> None:
    """The whole way: routed to another group, published again with what the log says."""
    handling()
    relays = {
        "default": {
            "BACKEND": "relay.brokers.amqp.AMQPBroker",
            "URL": queue.url,
            "OPTIONS": {"EXCHANGE": queue.exchange},
        }
    }

    def publish(number: int) -> None:
        with transaction.atomic():
            outbox.emit(Happened("k", number))
        call_command("relay", "--until-empty", stdout=StringIO())

    queue.drain()
    with override_settings(RELAYS=relays), catch_all(queue):
        publish(1)
        queue.drain()
        with queue.channel() as channel:
            channel.queue_delete(queue.queue)
        publish(2)
        queue.drain()
        assert effects() == [1]
        [warning] = told()
        [_, *arguments] = shlex.split(warning[warning.index("manage.py") :])
        call_command(*arguments, stdout=StringIO())
        queue.drain()

    assert effects() == [1, 2]


@postgresql
def test_a_queue_that_is_deleted_under_its_consumer_is_told(
    queue: Queue, handling: Handling, told: Callable[[], list[str]]
) -> None:
    """It is declared again in a moment, and what came in that moment may be missing."""
    handling()
    with queue.consuming() as consumer:
        until(lambda: queue_is_consumed(queue))
        with queue.channel() as channel:
            channel.queue_delete(queue.queue)
        until(told)
        queue.publish(happened(5))
        until(lambda: consumer.progress.handled == 1)

    assert re.search(rf"Queue '{queue.queue}' .* was missing, and is declared anew", told()[0])


def queue_is_consumed(queue: Queue) -> bool:
    try:
        return queue.consumers() == 1
    except Exception:
        return False


@postgresql
def test_events_without_a_handler_are_dead_letters_no_more(
    queue: Queue, handling: Handling
) -> None:
    """Bound for a handler that is gone; what somebody else has bound stays."""
    handling(name="old", pattern="tests.old")
    queue.drain()
    with queue.channel() as channel:
        channel.queue_bind(queue.queue, queue.exchange, routing_key="tests.by_hand")
    handling.forget()
    handling()
    unwanted("tests.old")
    queue.drain()
    queue.publish(*[happened(type=each, topic=each) for each in ("tests.old", "tests.by_hand")])
    queue.publish(happened(1))
    queue.drain()

    assert effects() == [1]
    assert list(DeadLetter.objects.values_list("type", flat=True)) == ["tests.by_hand"]


@postgresql
def test_a_consumer_that_runs_unbinds(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody has wanted it for a day, without a start; it goes on with the others."""
    monkeypatch.setattr(consumer_module, "SEEN_EVERY", 0.1)
    handling(name="old", pattern="tests.old")
    queue.drain()
    handling.forget()
    handling()
    with queue.consuming() as consumer:
        until(lambda: Binding.objects.filter(topic=HAPPENED, declared__isnull=False).exists())
        unwanted("tests.old")
        until(lambda: remembered(bound=False) == ["tests.old"])
        until(lambda: Binding.objects.filter(topic="tests.old", declared__isnull=False).exists())
        queue.publish(happened(type="tests.old", topic="tests.old"), happened(1))
        until(lambda: consumer.progress.handled == 1)

    assert not DeadLetter.objects.exists()


@postgresql
def test_a_consumer_binds_again_what_others_have_unbound(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    """An older one, that still handles it, at the next time that it notes that it is there."""
    monkeypatch.setattr(consumer_module, "SEEN_EVERY", 0.1)
    handling()
    with queue.consuming() as consumer:
        until(lambda: Binding.objects.filter(declared__isnull=False).exists())
        with queue.channel() as channel:
            channel.queue_unbind(queue.queue, queue.exchange, routing_key=HAPPENED)
        Binding.objects.update(unbound=timezone.now())
        until(lambda: Binding.objects.filter(declared__isnull=False, unbound=None).exists())
        queue.publish(happened(1))
        until(lambda: consumer.progress.handled == 1)

    assert effects() == [1]


@postgresql
def test_a_running_consumer_notes_that_it_is_there(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Now and then, and at its end: from then on messages may be missing if the queue is lost."""
    monkeypatch.setattr(consumer_module, "SEEN_EVERY", 0.1)
    handling()
    with queue.consuming():
        until(lambda: Binding.objects.filter(declared__isnull=False).exists())
        long_ago()
        until(lambda: Binding.objects.get().seen > timezone.now() - timedelta(minutes=1))
        monkeypatch.setattr(consumer_module, "SEEN_EVERY", 600)
    long_ago()
    queue.drain()

    assert Binding.objects.get().seen > timezone.now() - timedelta(minutes=1)


@postgresql
def test_the_end_does_not_ask_a_database_that_is_away(queue: Queue, handling: Handling) -> None:
    """A host that gives no answer would hold it up for as long as a connection may take."""
    handling()
    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown)
        consumer.open()
        until(lambda: queue.consumers() == 1)
        consumer.progress.outages.failed(DATABASE, "no answer", "there")
        with CaptureQueriesContext(connection) as captured:
            consumer.close()

    assert not captured.captured_queries
    until(lambda: queue.consumers() == 0)


@postgresql
def test_the_source_is_closed_whatever_the_database_says(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expects does not leave the connection to the broker behind."""
    handling()

    def seen(*_: object) -> bool:
        raise RuntimeError("odd")

    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown)
        consumer.open()
        until(lambda: queue.consumers() == 1)
        monkeypatch.setattr(Bindings, "seen", seen)
        with pytest.raises(RuntimeError, match="odd"):
            consumer.close()

    until(lambda: queue.consumers() == 0)


@postgresql
def test_what_is_lost_while_a_handler_runs_is_missing_since_then(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not since that is noticed, when the handler has ended; whatever is noted in between."""
    monkeypatch.setattr(consumer_module, "SEEN_EVERY", 0.0)
    lost: list[datetime] = []

    def lose(event: Any, message: Envelope) -> None:
        lost.append(timezone.now())
        with queue.channel() as channel:
            channel.queue_delete(queue.queue)
        record(event, message)

    handling(lose)
    with queue.consuming():
        until(lambda: queue_is_consumed(queue))
        queue.publish(happened(1))
        until(lambda: Binding.objects.filter(missing_since__isnull=False).exists())

    assert timezone.now() - timedelta(minutes=5) < Binding.objects.get().missing_since <= lost[0]


@postgresql
def test_before_its_migration_a_consumer_ends(queue: Queue, handling: Handling) -> None:
    """Nothing is declared that could not be remembered, and nothing handled; later all of it is."""
    handling()
    queue.declare()
    queue.publish(happened(1))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_inbox_binding RENAME TO elsewhere")
    try:
        with closing_shutdown() as shutdown:
            queue.consumer(shutdown).open()
        with pytest.raises(ProgrammingError, match="django_inbox_binding"):
            queue.drain()
        assert not effects()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO django_inbox_binding")

    until(lambda: queue.drain() and effects() == [1])
