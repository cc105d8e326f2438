"""The reader on SQLite, for development."""

import pytest
from django.db import connection, transaction

import outbox
from outbox.models import Message
from relay.log import SQLiteLog, open_log
from relay.models import Checkpoint
from relay.transfer import transfer
from tests.kit.support import Counted, RecordingBroker

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.usefixtures("one_lane"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.only_sqlite,
]


def drain(log: SQLiteLog, broker: RecordingBroker, size: int = 2) -> list[int]:
    while log.lanes_with_work(1):
        transfer(log, broker, 0, size)
    return broker.numbers()


def test_committed_events_are_published_once_in_order() -> None:
    """Pages follow each other by position; a second look finds nothing."""
    with transaction.atomic():
        events = outbox.emit_many([Counted("a", number) for number in range(5)])
    log, broker = open_log("test", using="default"), RecordingBroker()
    assert isinstance(log, SQLiteLog)

    assert drain(log, broker) == [0, 1, 2, 3, 4]
    assert broker.published == events
    assert drain(log, broker) == [0, 1, 2, 3, 4]
    assert Checkpoint.objects.count() == 3


def test_a_page_ends_before_it_is_too_large() -> None:
    """Pages have at most so many bytes of data, and one message in any case."""
    with transaction.atomic():
        outbox.emit_many([Counted("a", number) for number in range(5)])
    size = len(bytes(Message.objects.earliest("pk").data))
    broker = RecordingBroker()
    drain(SQLiteLog("test", using="default", page_bytes=2 * size), broker, 100)
    drain(SQLiteLog("tiny", using="default", page_bytes=1), broker, 100)

    assert broker.pages == [2, 2, 1, 1, 1, 1, 1, 1]
    assert broker.numbers() == [0, 1, 2, 3, 4] * 2


def test_a_relay_may_start_now() -> None:
    """START "now" leaves history alone."""
    with transaction.atomic():
        outbox.emit(Counted("a", 1))
    log, broker = SQLiteLog("late", using="default", start="now"), RecordingBroker()
    assert drain(log, broker) == []
    with transaction.atomic():
        outbox.emit(Counted("a", 2))

    assert drain(log, broker) == [2]


def test_positions_are_never_used_again() -> None:
    """Deleting the newest messages does not hand out their positions again."""
    log, broker = SQLiteLog("test", using="default"), RecordingBroker()
    with transaction.atomic():
        outbox.emit(Counted("a", 1))
    drain(log, broker)
    Message.objects.all().delete()
    with transaction.atomic():
        outbox.emit(Counted("a", 2))

    assert drain(log, broker) == [1, 2]
    assert connection.vendor == "sqlite"
