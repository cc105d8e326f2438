"""What is counted of emitting."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

import outbox
from outbox import instruments
from tests.kit.metrics import Recorder, recording
from tests.kit.support import Counted, Registered

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

EMITTED = "outbox_emitted_total"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as found:
        yield found


def test_what_has_committed_is_counted_by_type(recorder: Recorder) -> None:
    """Of each way to emit, also what is scheduled; not before the commit."""
    with transaction.atomic():
        outbox.emit(Counted("k", 1))
        outbox.emit_many([Counted("k", 2), Counted("k", 3)])
        outbox.emit(Counted("k", 4), delay=60)
        assert recorder.of(EMITTED) == {}
    assert recorder.of(EMITTED) == {("tests.counted",): 4}
    assert len(recorder.values["outbox_emit_seconds",]) == 3


def test_what_is_rolled_back_is_not(recorder: Recorder) -> None:
    """Neither the whole transaction nor a savepoint of it."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        outbox.emit(Counted("k", 1))
        raise ZeroDivisionError
    with transaction.atomic():
        outbox.emit(Counted("k", 2))
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            outbox.emit(Counted("k", 3))
            raise ZeroDivisionError
    assert recorder.of(EMITTED) == {("tests.counted",): 1}


def test_a_transaction_without_hooks(recorder: Recorder) -> None:
    """Where the project handles transactions itself there is no commit to hear of."""
    transaction.set_autocommit(False)
    try:
        outbox.emit(Counted("k", 1))
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert recorder.of(EMITTED) == {("tests.counted",): 1}


def test_a_type_that_is_not_known_any_more_is_other(recorder: Recorder) -> None:
    """Labels have the names of the code and no others."""
    registered = Registered()
    registered("short.lived")
    try:
        with transaction.atomic():
            outbox.emit("short.lived", {"x": 1})
            registered.forget()
    finally:
        registered.forget()
    assert recorder.of(EMITTED) == {("other",): 1}


def test_it_costs_no_statement(recorder: Recorder, settings: Any) -> None:
    """With metrics it takes as many as without; who was woken a moment ago is not woken again."""
    settings.OUTBOX = {"NOTIFY": False}
    counts = []
    for exporters in ((recorder,), ()):
        instruments.use(*exporters)
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            outbox.emit_many([Counted("k", 1), Counted("k", 2)])
        counts.append(len(queries))
    assert counts[0] == counts[1]


class TestOfUsers(TestCase):
    """A project's own test, whose transaction is never committed."""

    def test_nothing_is_counted_of_what_no_commit_ends(self) -> None:
        """But for what the test says is committed."""
        with recording() as recorder:
            with transaction.atomic():
                outbox.emit(Counted("k", 1))
            assert recorder.of(EMITTED) == {}
            with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
                outbox.emit(Counted("k", 2))
            assert recorder.of(EMITTED) == {("tests.counted",): 1}
