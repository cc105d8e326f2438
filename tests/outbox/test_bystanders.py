"""Carriers and receivers that use the database, and what they may not do to others by it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext

import outbox
from outbox import context
from outbox.context import Carrier, register_carrier
from outbox.models import Message
from outbox.signals import finding_raised, send

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
Use = Callable[[], Any]


def run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def fails() -> None:
    run("SELECT no_such_column")


def fails_and_hides_it() -> None:
    with suppress(DatabaseError):
        fails()


def writes_and_fails() -> None:
    Group.objects.create(name="written")
    fails()


def fails_by_the_driver() -> None:
    assert connection.connection is not None
    connection.connection.execute("SELECT no_such_column")


def enters() -> None:
    transaction.atomic().__enter__()
    Group.objects.create(name="written")


def leaves_an_error_behind() -> None:
    with transaction.atomic(savepoint=False):
        raise ValueError("no")


def ends_it() -> None:
    run("/* x */ COMMIT")


def closes() -> None:
    connection.close()


def rolls_back() -> None:
    connection.rollback()


def exits() -> None:
    run("SELECT 1")
    raise SystemExit(3)


def turns_autocommit_off() -> None:
    connection.set_autocommit(False)
    Group.objects.create(name="written")


def begins() -> None:
    run("BEGIN")


def sets() -> None:
    if connection.vendor == "postgresql":
        run("SET statement_timeout = 12345")


HARM = [
    fails,
    fails_and_hides_it,
    writes_and_fails,
    enters,
    leaves_an_error_behind,
    ends_it,
    closes,
    rolls_back,
    exits,
    turns_autocommit_off,
    begins,
    sets,
]


class Using(Carrier):
    """Carries the number of groups, and does something else before."""

    name = "using"
    attributes = ("using",)

    def __init__(self, use: Use) -> None:
        self.use = use

    def take(self) -> Mapping[str, str]:
        self.use()
        return {"using": "x"}

    def give(self, values: Mapping[str, str]) -> AbstractContextManager[Any]:
        self.use()
        return nullcontext()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    carriers = dict(context._carriers)
    context._told.clear()
    yield
    context._carriers.clear()
    context._carriers.update(carriers)
    finding_raised.receivers.clear()
    finding_raised.sender_receivers_cache.clear()


def emit() -> None:
    outbox.emit("tests.happened", {"key": "k", "number": 1})


def well() -> None:
    """Assert that the connection is as at the beginning."""
    assert not connection.in_atomic_block
    assert connection.get_autocommit()
    assert not connection.needs_rollback
    assert connection.run_on_commit == []
    assert "close" not in vars(connection)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)
        assert connection.connection.info.transaction_status.name == "IDLE"


@pytest.mark.parametrize("use", HARM)
def test_a_carrier_takes_no_transaction_along(use: Use, caplog: pytest.LogCaptureFixture) -> None:
    """What was written before it, the event and what comes after it commit together."""
    register_carrier(Using(use))
    with transaction.atomic():
        Group.objects.create(name="before")
        emit()
        Group.objects.create(name="after")
    assert sorted(Group.objects.values_list("name", flat=True)) == ["after", "before"]
    assert Message.objects.count() == 1
    well()
    if use is not sets or connection.vendor == "postgresql":
        assert use is fails_and_hides_it or "'using'" in caplog.text


@pytest.mark.parametrize("use", HARM)
def test_an_atomic_block_within_goes_on_after_a_carrier(use: Use) -> None:
    """It is rolled back alone, and its hooks with it."""
    register_carrier(Using(use))
    called = []
    with transaction.atomic():
        with transaction.atomic():
            transaction.on_commit(lambda: called.append(1))
            emit()
        with pytest.raises(ValueError, match="mine"), transaction.atomic():
            transaction.on_commit(lambda: called.append(2))
            emit()
            raise ValueError("mine")
    assert Message.objects.count() == 1
    assert called == [1]
    well()


def test_a_carrier_may_use_the_database() -> None:
    """Read and write; it commits with the event."""
    register_carrier(Using(lambda: Group.objects.create(name="written")))
    with transaction.atomic():
        emit()
    assert Group.objects.filter(name="written").exists()
    with pytest.raises(ValueError, match="no"), transaction.atomic():
        Group.objects.all().delete()
        emit()
        raise ValueError("no")
    assert Group.objects.count() == 1


def test_a_carrier_that_says_nothing_to_the_database_costs_no_statement() -> None:
    """Neither one that might."""
    with transaction.atomic(), CaptureQueriesContext(connection) as before:
        emit()
    register_carrier(Using(lambda: None))
    with transaction.atomic(), CaptureQueriesContext(connection) as after:
        emit()
    assert len(after) == len(before)
    register_carrier(Using(lambda: run("SELECT 1")))
    with transaction.atomic(), CaptureQueriesContext(connection) as asked:
        emit()
    assert len(asked) == len(before) + 3


def test_without_autocommit_a_carrier_harms_nothing_either() -> None:
    """The transaction is the caller's."""
    register_carrier(Using(fails))
    transaction.set_autocommit(False)
    try:
        Group.objects.create(name="before")
        emit()
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert Message.objects.count() == Group.objects.count() == 1


@pytest.mark.parametrize("use", [*HARM, fails_by_the_driver])
@pytest.mark.parametrize("within", [False, True])
def test_a_receiver_leaves_the_process_as_it_was(
    use: Use, within: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """And the next receiver is called, whatever it has raised."""
    called = []

    def receive(sender: Any, **values: Any) -> None:
        use()

    def other(sender: Any, **values: Any) -> None:
        called.append(1)

    signal: Signal = finding_raised
    signal.connect(receive)
    signal.connect(other)
    if within and use is not fails_by_the_driver:
        with transaction.atomic():
            Group.objects.create(name="before")
            send(signal, None)
            Group.objects.create(name="after")
        assert set(Group.objects.values_list("name", flat=True)) == {"before", "after"}
    else:
        connection.ensure_connection()
        send(signal, None)
    assert called == [1]
    well()
    harmless = [fails_and_hides_it, *([sets] if connection.vendor == "sqlite" else [])]
    harmless += [] if within else [closes, rolls_back, ends_it]
    assert use in harmless or "receive" in caplog.text


def test_a_receiver_may_write(caplog: pytest.LogCaptureFixture) -> None:
    """As anything may."""

    def receive(sender: Any, **values: Any) -> None:
        with transaction.atomic():
            Group.objects.create(name="told")
        Group.objects.update(name="told again")

    finding_raised.connect(receive)
    send(finding_raised, None)
    assert Group.objects.get().name == "told again"
    assert not caplog.records


def test_a_carrier_whose_context_fails_leaves_the_handler_its_transaction() -> None:
    """When it is entered and when it is left."""

    class Late(Using):
        @contextmanager
        def give(self, values: Mapping[str, str]) -> Iterator[None]:
            fails_and_hides_it()
            yield
            fails()

    register_carrier(Late(lambda: None))
    with transaction.atomic():
        with context.given({"using": "x"}):
            Group.objects.create(name="handled")
        Group.objects.create(name="after")
    assert Group.objects.count() == 2
    well()
