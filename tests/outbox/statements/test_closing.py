"""A bucket is closed when nobody who is at it can add to it any more."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.conf import outbox_settings
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.producer.writing import append
from outbox.statements.closing import SKEW, Look, closed_before, look, oldest_writer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="one writer at a time there"),
]


@contextmanager
def session() -> Iterator[BaseDatabaseWrapper]:
    """Another session of the same database."""
    found = connections["default"].copy()
    try:
        yield found
    finally:
        found.close()


def emit(using: BaseDatabaseWrapper) -> None:
    """Write a message in the session."""
    message = Envelope(
        id=uuid7_text(),
        source="/tests",
        type="tests.x",
        topic="tests.x",
        data=b"{}",
        time=datetime.now(UTC),
        correlation_id="c",
    )
    append(using, [message], outbox_settings())


def closed(before: Look | None = None) -> tuple[int, Look]:
    """How far buckets of a millisecond are closed, and what was seen."""
    now = look("default")
    return closed_before(before or Look(time=0), now, 1, "default"), now


def test_where_nobody_writes_all_that_is_over_is_closed() -> None:
    """But for the time by which clocks may differ."""
    until, now = closed()
    assert until == now.time - SKEW


def test_who_has_written_holds_up_what_was_not_closed_before() -> None:
    """Until he ends; then it goes on."""
    _, first = closed()
    with session() as other:
        other.set_autocommit(False)
        emit(other)
        until, second = closed(first)
        assert until == first.time - SKEW
        assert closed(second)[0] == 0  # nothing is certain of what was over at the second look
        with session() as third:  # whose id is higher, and who has ended
            emit(third)
        assert closed(second)[0] == 0
        other.commit()
        until, last = closed(second)
        assert until == last.time - SKEW


def test_who_has_written_nothing_to_the_log_holds_up_nothing() -> None:
    """However long his transaction is, and whatever else he writes."""
    with session() as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")
            cursor.execute("CREATE TEMPORARY TABLE other (n int)")
        until, now = closed()
        assert until == now.time - SKEW
        other.rollback()


def test_a_prepared_transaction_holds_up_too() -> None:
    """It has no session any more, and can commit all the same."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_prepared_transactions")
        if cursor.fetchone()[0] == "0":
            pytest.skip("the server allows no prepared transactions")
    with session() as other:
        other.set_autocommit(False)
        emit(other)
        with other.cursor() as cursor:
            cursor.execute("PREPARE TRANSACTION 'statements'")
        other.connection.rollback()
        assert closed()[0] == 0
        other.set_autocommit(True)
        with other.cursor() as cursor:
            cursor.execute("ROLLBACK PREPARED 'statements'")
    assert closed()[0] > 0


def test_ids_of_transactions_turn_over() -> None:
    """Locks have the lower 32 bits of an id."""
    turn = 1 << 32
    assert oldest_writer([5, 7], turn + 10) == turn + 5
    assert oldest_writer([turn - 1, 3], turn + 10) == turn - 1
    assert oldest_writer([20], turn + 10) == turn + 20
    assert oldest_writer([], 10) is None
