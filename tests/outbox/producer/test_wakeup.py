"""One NOTIFY after each commit that emitted, and none inside a transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.producer import wakeup
from tests.outbox.helpers import logged, statements
from tests.outbox.placed import Placed

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has NOTIFY"),
]


class Oops(Exception):
    """Rolls a block back."""


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what arrives on the channel, as a relay would see it."""
    listener = connections["default"].copy()
    listener.ensure_connection()
    listener.set_autocommit(True)
    received: list[str] = []
    try:
        with listener.cursor() as cursor:
            cursor.execute(f'LISTEN "{wakeup.CHANNEL}"')
            yield received
            # A round trip: whatever was sent before it has arrived after it.
            cursor.execute("SELECT 1")
        received += [each.channel for each in listener.connection.notifies(timeout=0)]
    finally:
        listener.close()


def test_after_commit():
    """The relay hears of a transaction once, however much it emitted, after it committed."""
    with (
        listening() as received,
        CaptureQueriesContext(connection) as captured,
        transaction.atomic(),
    ):
        outbox.emit(Placed(1))
        outbox.emit_many([Placed(2)] * 150)
        with transaction.atomic():
            outbox.emit(Placed(3))
        inside = len(captured.captured_queries)

    assert received == [wakeup.CHANNEL]
    after = [query["sql"] for query in captured.captured_queries[inside:]]
    assert after[0] == "COMMIT"
    assert [each for each in after if "pg_notify" in each] == after[1:]
    assert len(after) == 2


def test_what_is_announced_is_there():
    """By the time of the notification the relay reads the message."""
    seen: list[int] = []

    def look(execute, sql, params, many, context):
        if "pg_notify" in sql:
            seen.append(len(logged()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look), transaction.atomic():
        outbox.emit(Placed(1))

    assert seen == [1]


def test_rollback():
    """A transaction that rolls back rings no bell."""
    with listening() as received, pytest.raises(Oops), transaction.atomic():
        outbox.emit(Placed(1))
        raise Oops

    assert received == []


def test_rolled_back_savepoint(monkeypatch: pytest.MonkeyPatch):
    """Nor does a savepoint that rolls back; what is emitted after it does."""
    monkeypatch.setattr(wakeup, "_last_sent", {})
    with listening() as received:
        with transaction.atomic(), pytest.raises(Oops), transaction.atomic():
            outbox.emit(Placed(1))
            raise Oops
        assert wakeup._last_sent == {}
        with transaction.atomic():
            with pytest.raises(Oops), transaction.atomic():
                outbox.emit(Placed(1))
                raise Oops
            outbox.emit(Placed(2))

    assert received == [wakeup.CHANNEL]


def test_transaction_without_events():
    """Other transactions cost nothing."""
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        connection.cursor().execute("SELECT 1")

    assert statements(captured) == ["SELECT 1"]


def test_coalesced(monkeypatch: pytest.MonkeyPatch):
    """Transactions that commit within milliseconds share a notification."""
    now = 100.0
    monkeypatch.setattr(wakeup, "QUIET_SECONDS", 0.005)
    monkeypatch.setattr(wakeup, "_last_sent", {})
    monkeypatch.setattr(wakeup.time, "monotonic", lambda: now)
    with listening() as received:
        for moment in (100.0, 100.001, 100.004, 100.006, 100.007):
            now = moment
            with transaction.atomic():
                outbox.emit(Placed(1))

    assert len(received) == 2


def test_turned_off(settings):
    """OUTBOX["NOTIFY"] = False leaves it to the relay to poll."""
    settings.OUTBOX = {"NOTIFY": False}
    with listening() as received, transaction.atomic():
        outbox.emit(Placed(1))

    assert received == []


def test_failure(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """A notification that fails is logged; the committed work is not made to look failed."""
    monkeypatch.setattr(wakeup.sql, "NOTIFY", "SELECT no_such_function(%s)")
    with transaction.atomic():
        outbox.emit(Placed(1))

    assert len(logged()) == 1
    assert "no_such_function" in caplog.text


def test_lost_connection(caplog: pytest.LogCaptureFixture):
    """Nor one that is lost after the commit: all other hooks run, and nothing is raised."""
    ran: list[str] = []

    def lose() -> None:
        other = connections["default"].copy()
        with other.cursor() as cursor:
            pid = connection.connection.info.backend_pid
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        other.close()

    try:
        with transaction.atomic():
            transaction.on_commit(lose)
            outbox.emit(Placed(1))
            transaction.on_commit(lambda: ran.append("last"))
    finally:
        connection.close()

    assert ran == ["last"]
    assert "Error calling" in caplog.text
    assert len(logged()) == 1


def test_manual_transaction():
    """With autocommit off there is nothing to hook into: the relay polls."""
    with listening() as received:
        transaction.set_autocommit(False)
        try:
            outbox.emit(Placed(1))
            transaction.commit()
        finally:
            transaction.set_autocommit(True)

    assert received == []
    assert len(logged()) == 1
