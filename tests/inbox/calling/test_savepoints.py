"""Savepoints one after the other: each is undone alone, and one that is gone is noticed."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from inbox.calling.savepoints import Savepoints
from outbox.database.failures import is_outage
from tests.inbox.support import happened, postgresql, record
from tests.kit.database import terminate
from tests.kit.sessions import sessions
from tests.testapp.models import Effect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


def leave(number: int) -> None:
    message = happened(number)
    record(None, message, name=str(number))


def left() -> list[str]:
    return list(Effect.objects.order_by("id").values_list("handler", flat=True))


@pytest.fixture
def prepared() -> Iterator[None]:
    """Let psycopg prepare every statement, which then cannot be several."""
    connection.ensure_connection()
    before = connection.connection.prepare_threshold
    connection.connection.prepare_threshold = 0
    yield
    connection.connection.prepare_threshold = before


def undo_some() -> None:
    with transaction.atomic():
        savepoints = Savepoints("default")
        for number in range(6):
            savepoints.begin()
            leave(number)
            if number in (1, 2, 5):
                assert savepoints.roll_back()
        savepoints.release()


def test_each_is_undone_alone() -> None:
    undo_some()

    assert left() == ["0", "3", "4"]


@pytest.mark.parametrize("sees", [False, True])
@postgresql
def test_each_is_undone_alone_where_statements_are_prepared(prepared: None, sees: bool) -> None:
    with CaptureQueriesContext(connection) if sees else nullcontext() as captured:
        undo_some()

    assert left() == ["0", "3", "4"]
    if sees:
        statements = [query["sql"] for query in captured]
        assert not any(";" in statement for statement in statements)


@postgresql
def test_a_lost_session_is_an_outage() -> None:
    """Whatever the savepoint was sent by."""
    with pytest.raises(OperationalError) as caught, transaction.atomic():
        savepoints = Savepoints("default")
        leave(1)
        savepoints.begin()
        with sessions(1) as [other]:
            other.run(terminate, connection.connection.info.backend_pid)
        savepoints.begin()
    assert is_outage(caught.value)
    assert left() == []


def test_one_within_another_is_its_own() -> None:
    with transaction.atomic():
        outer, inner = Savepoints("default"), Savepoints("default")
        outer.begin()
        leave(1)
        for number in (2, 3):
            inner.begin()
            leave(number)
        inner.roll_back()
        outer.begin()
        leave(4)
        outer.roll_back()
        outer.release()

    assert left() == ["1", "2"]


def test_nothing_is_sent_that_changes_nothing() -> None:
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        savepoints = Savepoints("default")
        savepoints.release()
        savepoints.begin()
        savepoints.roll_back()
        savepoints.begin()

    assert len(captured) == 2


@postgresql
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_end_of_its_transaction_is_noticed(end: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        savepoints = Savepoints("default")
        savepoints.begin()
        leave(1)
        getattr(connection.connection, end)()
        leave(2)
        savepoints.begin()

    assert left() == (["1"] if end == "commit" else [])
