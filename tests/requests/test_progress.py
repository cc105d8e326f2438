"""How far whoever answers has come: the newest that it has said, until the request has ended."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import inbox
import outbox
from inbox.models import DeadLetter, Receipt
from inbox.states import State
from outbox.message.envelope import Envelope
from outbox.message.requests import PROGRESS
from outbox.models import Message, Request
from tests.inbox.support import receive
from tests.requests.support import ASKER, Given, Wire, ask, reply_to

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

Answer = Callable[..., None]


def say(request: Envelope, data: bytes, **attributes: Any) -> Envelope:
    """What somebody may say about a request."""
    return reply_to(request, data, type=PROGRESS, **attributes)


def test_from_a_handler_and_from_anywhere_later(wire: Wire, answer: Answer) -> None:
    """In the transaction of the handler; later by the id, in the same conversation."""

    def begin(event: object, message: Envelope) -> object:
        inbox.progress(message, text="is in the queue")
        return inbox.LATER

    answer(begin)
    asked = ask()
    assert asked.progress() is None
    wire.run()
    found = asked.progress()
    assert found is not None
    assert (found.done, found.text) == (None, "is in the queue")

    with transaction.atomic():
        said = inbox.progress(asked.id, 0.4, "rated 40 of 100")
    wire.run()
    assert asked.progress() == outbox.Progress(done=0.4, text="rated 40 of 100", at=said.time)
    assert asked.state() == "pending"
    assert said.correlation_id == Message.objects.get(type="pricing.quote").correlation_id
    assert (said.causation_id, said.key, said.topic) == (asked.id, asked.id, "outbox.replies.asker")

    with transaction.atomic():
        inbox.answer(asked.id, Given(1))
    wire.run()
    assert asked.progress() == outbox.Progress(done=0.4, text="rated 40 of 100", at=said.time)
    assert asked.result() == Given(1)


def test_who_works_learns_that_nobody_wants_it(wire: Wire, answer: Answer) -> None:
    """Of what was answered or cancelled nothing can be said any more."""
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    wire.run()
    asked.cancel()
    wire.run()
    with pytest.raises(outbox.UnknownRequest, match="cancelled"), transaction.atomic():
        inbox.progress(asked.id, 0.5)


def test_what_is_rolled_back_is_not_said(wire: Wire, answer: Answer) -> None:
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    wire.run()
    with transaction.atomic():
        inbox.progress(asked.id, 0.5)
        transaction.set_rollback(True)
    wire.run()
    assert asked.progress() is None
    with pytest.raises(outbox.TransactionRequired, match=r"progress\(\)"):
        inbox.progress(asked.id, 0.5)


def test_the_newest_counts(wire: Wire) -> None:
    """By when it was said, in whatever order it comes; the same one again changes nothing."""
    asked = ask()
    request = wire.publish()[0]
    now = datetime.now(UTC)
    early = say(request, b'{"done": 0.1}', time=now - timedelta(minutes=2))
    late = say(request, b'{"done": 0.2}', time=now - timedelta(minutes=1))
    receive(late, group=ASKER)
    receive(early, late, group=ASKER)
    found = asked.progress()
    assert found is not None
    assert found.done == 0.2


def test_nothing_is_said_after_the_end(wire: Wire) -> None:
    asked = ask()
    request = wire.publish()[0]
    receive(reply_to(request, b'{"amount": 1}'), group=ASKER)
    receive(say(request, b'{"done": 0.9}'), group=ASKER)
    assert asked.progress() is None
    assert asked.state() == "answered"


def test_a_time_that_is_to_come(wire: Wire) -> None:
    """Is now: a clock that is wrong keeps nothing newer from being seen."""
    asked = ask()
    request = wire.publish()[0]
    future = datetime.now(UTC) + timedelta(days=9_000)
    receive(say(request, b'{"done": 0.1}', time=future), group=ASKER)
    receive(say(request, b'{"done": 0.2}'), group=ASKER)
    found = asked.progress()
    assert found is not None
    assert found.done == 0.2
    assert found.at < datetime.now(UTC) + timedelta(minutes=1)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        b'"0.5"',
        b'{"done": 1.5}',
        b'{"done": -0.1}',
        b'{"done": true}',
        b'{"done": "0.5"}',
        b'{"done": 1e400}',
        b'{"done": null, "text": 5}',
        b'{"done": ' + b"9" * 400 + b"}",
    ],
)
def test_what_is_no_progress(wire: Wire, data: bytes) -> None:
    """Changes nothing, and is no failure of ours unless it is no JSON at all."""
    asked = ask()
    request = wire.publish()[0]
    receive(say(request, data), group=ASKER)
    assert asked.progress() is None
    assert set(Receipt.objects.values_list("state", flat=True)) <= {State.PROCESSED, State.DEAD}
    assert not DeadLetter.objects.exists()


def test_a_text_of_any_length(wire: Wire) -> None:
    asked = ask()
    request = wire.publish()[0]
    text = "a\\u0000" + "<b>" * 100_000
    receive(say(request, f'{{"text": "{text}"}}'.encode()), group=ASKER)
    found = asked.progress()
    assert found is not None
    assert len(found.text) == 255
    assert found.text.startswith("a\\x00<b>")


def test_of_a_request_that_nobody_has_asked(wire: Wire) -> None:
    """A stranger needs the id of a request; with it, it can say how far it has come, no more."""
    asked = ask()
    request = wire.publish()[0]
    unknown = {"attributes": {"inreplyto": "0198f5a0-8f6e-7000-8000-000000000000"}}
    receive(say(request, b'{"done": 0.5}', **unknown), group=ASKER)
    receive(say(request, b'{"done": 0.5}', attributes={"inreplyto": "what"}), group=ASKER)
    assert asked.progress() is None
    receive(say(request, b'{"done": 1}', source="/stranger"), group=ASKER)
    assert asked.state() == "pending"
    with pytest.raises(outbox.UnknownRequest):
        outbox.Asked("what").progress()
    with pytest.raises(outbox.UnknownRequest):
        outbox.Asked("0198f5a0-8f6e-7000-8000-000000000000").progress()


def test_what_cannot_be_said(wire: Wire, answer: Answer) -> None:
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    request = wire.publish()[0]
    with transaction.atomic():
        for done in (1.1, -1, float("nan"), True, "0.5"):
            with pytest.raises(outbox.InvalidEvent, match="from 0 to 1"):
                inbox.progress(request, done)  # type: ignore[arg-type]
        with pytest.raises(outbox.InvalidEvent, match="255"):
            inbox.progress(request, 0.5, "x" * 256)
        with pytest.raises(outbox.InvalidEvent):
            inbox.progress(request)
        with pytest.raises(outbox.UnknownRequest):
            inbox.progress(asked.id, 0.5)  # it has not come yet
        with pytest.raises(outbox.UnknownRequest, match="wants no reply"):
            inbox.progress(reply_to(request, b"{}"), 0.5)
    assert Message.objects.count() == 1


def test_what_it_costs(wire: Wire, answer: Answer) -> None:
    """A message for who says it, and of his rows one; for who asked two statements beside those
    of any message."""
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    request = wire.publish()[0]
    with transaction.atomic():
        with CaptureQueriesContext(connection) as found:
            inbox.progress(request, 0.5)
        assert len(found) == 1
    wire.run()
    receive(request, group="pricing")
    with transaction.atomic():
        with CaptureQueriesContext(connection) as found:
            inbox.progress(asked.id, 0.6)
        assert len(found) == 2
    with CaptureQueriesContext(connection) as found:
        receive(say(request, b'{"done": 0.7}'), group=ASKER)
    assert len([each for each in found if "django_outbox_" in each["sql"]]) == 2
    assert Request.objects.get().progress == 0.7
