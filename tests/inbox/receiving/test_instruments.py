"""What the inbox counts and times."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inbox.delivery import Delivery
from inbox.receiving import instruments
from inbox.receiving.batch import Batch
from inbox.receiving.instruments import handled
from inbox.states import State
from inbox.verdicts import Reject, RetryPolicy
from outbox.instruments import use
from outbox.message.envelope import Envelope
from tests.inbox.support import (
    Handling,
    Mended,
    fail,
    happened,
    make_due,
    postgresql,
    receive,
    turn,
)
from tests.kit.calls import calls_of
from tests.kit.metrics import Recorder, recording

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

RECEIVED, HANDLED = "inbox_received_total", "inbox_handled_total"
SECONDS, CRITICAL = "inbox_handler_seconds", "inbox_critical_seconds"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as found:
        yield found


def ago(seconds: float) -> dict[str, Any]:
    return {"time": datetime.now(UTC) - timedelta(seconds=seconds)}


def test_what_is_handled_at_once(handling: Handling, recorder: Recorder) -> None:
    """By handler, with the time since each message was emitted."""
    handling()
    receive(happened(1, **ago(5)), happened(2, **ago(7)))

    assert recorder.of(RECEIVED) == {("g", "new"): 2}
    assert recorder.of(HANDLED) == {("record", "processed"): 2}
    assert len(recorder.values[SECONDS, "record"]) == 2
    one, other = recorder.values[CRITICAL, "record"]
    assert 5 <= one < 7 <= other < 60
    assert recorder.details[SECONDS, "record"] == {("outbox", "g", "")}


def test_what_comes_again_or_is_of_no_use(handling: Handling, recorder: Recorder) -> None:
    """A duplicate calls nobody, and neither does a dead letter."""
    handling()
    message = happened()
    receive(message, message)
    receive(message)
    receive(happened(type="nobody.knows"), Delivery(headers={}, body=b"{"))

    assert recorder.of(RECEIVED) == {("g", "new"): 1, ("g", "duplicate"): 2, ("g", "unusable"): 2}
    assert recorder.of(HANDLED) == {("record", "processed"): 1}


def test_several_handlers(handling: Handling, recorder: Recorder) -> None:
    """One of them new: then the delivery is, though another one had it before."""
    handling(name="one")
    message = happened()
    receive(message)
    handling(name="two")
    receive(message)

    assert recorder.of(RECEIVED) == {("g", "new"): 2}
    assert recorder.of(HANDLED) == {("one", "processed"): 1, ("two", "processed"): 1}


def test_failures_until_it_works(handling: Handling, recorder: Recorder) -> None:
    """Each call by what came of it, and the type of the error; the whole time at the end."""
    handling(Mended(2))
    receive(happened(**ago(5)))
    for _ in range(2):
        make_due()
        turn()

    assert recorder.of(HANDLED) == {("record", "retrying"): 2, ("record", "processed"): 1}
    assert len(recorder.values[SECONDS, "record"]) == 3
    assert recorder.details[SECONDS, "record"] == {
        ("outbox", "g", "ValueError"),
        ("outbox", "g", ""),
    }
    [critical] = recorder.values[CRITICAL, "record"]
    assert critical >= 5
    assert recorder.of(RECEIVED) == {("g", "new"): 1}


def reject(event: Any, message: Envelope) -> None:
    raise Reject("no such customer")


@pytest.mark.parametrize("function", [fail, reject])
def test_what_is_dead(handling: Handling, recorder: Recorder, function: Any) -> None:
    """It has no critical time: it is not processed."""
    handling(function, retry=RetryPolicy(attempts=1))
    receive(happened(**ago(5)))

    assert recorder.of(HANDLED) == {("record", "dead"): 1}
    assert not [key for key in recorder.values if key[0] == CRITICAL]


def test_what_is_put_off_was_not_called(handling: Handling, recorder: Recorder) -> None:
    """Behind a failure of its key, or as it may have ended another process."""
    handling(fail, ordered=True)
    receive(happened(1), happened(2))
    receive(replace(Delivery.of(happened(3, key="other")), redelivered=True))
    assert recorder.of(HANDLED) == {
        ("record", "retrying"): 1,
        ("record", "waiting"): 1,
        ("record", "redelivered"): 1,
    }
    assert len(recorder.values[SECONDS, "record"]) == 1


def test_a_batch_that_does_not_commit_is_not_counted(
    handling: Handling, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes again, and is counted then."""
    handling()

    class GoneError(Exception):
        pass

    def gone(self: Batch) -> None:
        raise GoneError

    message = happened()
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "_write", gone)
        with pytest.raises(GoneError):
            receive(message)
    assert recorder.calls == 0
    receive(message)
    assert recorder.of(HANDLED) == {("record", "processed"): 1}


@postgresql
def test_a_handler_that_commits_by_itself(handling: Handling, recorder: Recorder) -> None:
    """The batch begins anew behind it; nothing is counted twice for that."""
    handling(name="before")
    handling(Mended(name="mended"), name="mended")
    handling(lambda event, message: connection.connection.commit(), name="committing")
    handling(name="behind")
    receive(happened(1), happened(2))

    names = ("before", "mended", "committing", "behind")
    assert recorder.of(HANDLED) == {(name, "processed"): 2 for name in names}
    assert {name: len(recorder.values[CRITICAL, name]) for name in names} == dict.fromkeys(names, 0)


def test_it_costs_no_statement(handling: Handling, recorder: Recorder) -> None:
    """With metrics it takes as many as without."""
    handling()
    receive(happened())
    counts = []
    for exporters in ((recorder,), ()):
        use(*exporters)
        with CaptureQueriesContext(connection) as queries:
            receive(happened(1), happened(2))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_number_of_errors_is_bounded(
    handling: Handling, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes can be made while a process runs."""
    monkeypatch.setattr(instruments, "MOST_ERRORS", 2)
    monkeypatch.setattr(instruments, "_errors", set())

    def odd(event: Any, message: Envelope) -> None:
        raise type(f"Odd{event.number}", (Exception,), {})

    handling(odd)
    receive(*[happened(number) for number in range(4)])
    found = {error for *_, error in recorder.details[SECONDS, "record"]}
    assert found == {"Odd0", "Odd1", "other"}


def test_a_receipt_costs_few_calls(recorder: Recorder) -> None:
    """What the exporter does with a batch, and how long that takes, is in the bench."""
    one: Any = SimpleNamespace(
        handler=SimpleNamespace(name="record", group="g"),
        state=State.PROCESSED,
        reason=None,
        exc=None,
        seconds=0.001,
        time=datetime.now(UTC),
    )
    several = [one] * 1000

    assert calls_of(lambda: handled("", several)) < 3 * len(several)
