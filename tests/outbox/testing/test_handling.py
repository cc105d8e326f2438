"""Handlers that run in the test's own transaction."""

from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.test import TestCase, override_settings

import outbox
from inbox import Reject
from inbox.models import Receipt
from outbox import Context, use_context
from outbox.exceptions import ConfigurationError, NeverEnds, UndecodableMessage
from outbox.extensions import handling as port
from outbox.message.envelope import Envelope
from outbox.models import Message
from outbox.testing import assert_emitted, deliver, drain, emitted, messages, sent_tasks
from outbox.testing.factories import EnvelopeFactory
from tests.inbox import task_functions
from tests.inbox.support import HAPPENED, Handling, Mended, effects, fail, happened, record
from tests.kit.support import Counted
from tests.outbox.celery.support import new_app
from tests.outbox.testing.test_emissions import close
from tests.testapp.events import Happened
from tests.testapp.handlers import RECORD

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]

COUNTED = "tests.counted"


@outbox.event("tests.ping", key="number")
@dataclass(frozen=True)
class Ping:
    """What a pong follows from."""

    number: int


@outbox.event("tests.pong", key="number")
@dataclass(frozen=True)
class Pong:
    """What a ping follows from."""

    number: int


def commit(*events: object, **options: Any) -> None:
    with transaction.atomic():
        for event in events:
            outbox.emit(event, **options)


class TestInATestCase(TestCase):
    """Its transaction never commits."""

    def test_deliver(self) -> None:
        """The handler runs, once, and leaves its receipt."""
        message = EnvelopeFactory(event=Happened("a", 1))
        [first] = deliver(message)
        [again] = deliver(message)

        assert effects() == [1]
        assert (first.handler, first.state, first.duplicate) == (RECORD, "processed", False)
        assert again.duplicate
        assert Receipt.objects.get().state == "processed"

    def test_drain(self) -> None:
        """What was emitted is handled, without a commit."""
        commit(Happened("a", 1), Happened("a", 2))

        assert drain() == [Happened("a", 1), Happened("a", 2)]
        assert effects() == [1, 2]
        assert drain() == []

    async def test_in_a_coroutine(self) -> None:
        """The thread that has the connection does it."""
        await sync_to_async(commit)(Happened("a", 1))

        assert await sync_to_async(drain)() == [Happened("a", 1)]
        assert await sync_to_async(emitted)(Happened, number=1) == [Happened("a", 1)]


@pytest.mark.django_db(transaction=True)
def test_where_transactions_commit() -> None:
    """All is as in a TestCase."""
    commit(Happened("a", 1))
    deliver(Happened("b", 2))

    assert drain() == [Happened("a", 1)]
    assert effects() == [2, 1]


def test_what_a_handler_raises_is_raised(handling: Handling) -> None:
    """The very exception, which tells whose it is; others have run, and receipts say the same."""
    handling(fail, name="failing")
    handling(record, name="other")

    with pytest.raises(ValueError, match="no luck") as failure:
        deliver(happened(3))

    assert failure.value.__notes__[0].startswith("raised by handler failing for tests.happened ")
    assert effects("record") == [3]
    assert Receipt.objects.get(handler="failing").state == "retrying"


def test_a_rejection_is_raised_as_well(handling: Handling) -> None:
    """Whatever follows from it."""

    def reject(event: Any, message: Envelope) -> None:
        raise Reject("never")

    handling(reject, name="rejecting")
    with pytest.raises(Reject, match="never"):
        deliver(happened(), group="g")

    assert Receipt.objects.get(handler="rejecting").state == "dead"
    assert not Receipt.objects.filter(handler=RECORD).exists()


def test_what_has_failed_is_tried_again(handling: Handling) -> None:
    """Handed over again, as if its pause were over; who has handled it does not once more."""
    handling(Mended(times=2), name="mended")
    handling(record, name="other")
    message = happened()
    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"):
            deliver(message, group="g")
    assert effects("record") == [1]

    mended, other = deliver(message, group="g")

    assert (mended.state, mended.duplicate) == ("processed", False)
    assert (other.state, other.duplicate) == ("processed", True)
    assert effects("record") == [1, 1]
    assert Receipt.objects.get(handler="mended").attempts == 3
    assert all(each.duplicate for each in deliver(message, group="g"))


def test_what_waits_behind_it_goes_on(handling: Handling) -> None:
    """As in production, once the first of its key is handled."""
    calls: list[int] = []

    def flaky(event: Happened, message: Envelope) -> None:
        calls.append(event.number)
        if calls == [1]:
            raise ValueError("no luck")
        record(event, message)

    handling(flaky, name="flaky", ordered=True)
    first, second = happened(1), happened(2)
    with pytest.raises(ValueError, match="no luck"):
        deliver(first, group="g")
    assert deliver(second, group="g")[0].state == "waiting"
    deliver(first, group="g")

    assert effects("record") == [1, 2]
    assert deliver(second, group="g")[0].state == "processed"


def test_what_is_dead_stays_so(handling: Handling) -> None:
    """That needs a person, in a test as well."""

    def reject(event: Any, message: Envelope) -> None:
        raise Reject("never")

    handling(reject, name="rejecting")
    message = happened()
    with pytest.raises(Reject):
        deliver(message, group="g")
    [again] = deliver(message, group="g")

    assert (again.state, again.duplicate, again.error) == ("dead", True, "never")


def test_what_deliver_takes() -> None:
    """What emit() takes; and nothing of it is in the log."""
    deliver(HAPPENED, {"key": "a", "number": 4}, correlation_id="flow")

    assert effects() == [4]
    assert Receipt.objects.get().correlation_id == "flow"
    assert not Message.objects.exists()


def test_context_is_that_of_the_message(handling: Handling) -> None:
    """What a handler emits has its cause, as it does in production."""
    handling(lambda event, message: outbox.emit(Ping(event.number)), name="emits")
    message = EnvelopeFactory(event=Happened("a", 1), correlation_id="flow")
    deliver(message)

    [ping] = messages(Ping)
    assert (ping.correlation_id, ping.causation_id) == ("flow", message.id)


def test_a_message_that_nobody_wants() -> None:
    """A test that delivers it means a handler that is missing."""
    with pytest.raises(ConfigurationError, match=r"No handler wants tests\.ping v1"):
        deliver(Ping(1))
    with pytest.raises(ConfigurationError, match="No handler of group 'nobody' wants"):
        deliver(Happened("a", 1), group="nobody")


def test_a_message_that_cannot_be_read() -> None:
    """It would be dead at once; so says the test."""
    with pytest.raises(UndecodableMessage, match="raised by handler"):
        deliver(EnvelopeFactory(type=HAPPENED, data=b"nonsense"))
    with pytest.raises(UndecodableMessage, match="handlers of other versions"):
        deliver(EnvelopeFactory(event=Happened("a", 1), version=9))


def test_what_waits_is_told(handling: Handling) -> None:
    """An ordered handler holds what comes behind a failure, which is none of this message's."""
    handling(fail, name="ordered", ordered=True)
    with pytest.raises(ValueError, match="no luck"):
        deliver(happened(1), group="g")
    [second] = deliver(happened(2), group="g")

    assert (second.state, second.error) == ("waiting", "Behind another message of its key.")


def test_hooks_of_the_commit(handling: Handling) -> None:
    """They wait, as anything does in a TestCase, and can be had by Django's own means."""
    ran: list[int] = []

    def later(event: Any, message: Envelope) -> None:
        transaction.on_commit(lambda: ran.append(event.number))

    handling(later, name="later")
    deliver(happened(1), group="g")
    assert ran == []
    with TestCase.captureOnCommitCallbacks(execute=True):
        deliver(happened(2), group="g")

    assert ran == [2]


def test_without_the_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setattr(port, "_handle", None)
    with pytest.raises(ConfigurationError, match="add 'inbox' to INSTALLED_APPS"):
        deliver(Happened("a", 1))


def test_drain_goes_on_to_the_end(handling: Handling) -> None:
    """Handlers emit, and that is handled, too; once each, in the order of the log."""

    def down(event: Ping, message: Envelope) -> None:
        if event.number:
            outbox.emit(Pong(event.number - 1))

    def up(event: Pong, message: Envelope) -> None:
        outbox.emit(Ping(event.number))

    handling(down, name="down", pattern="tests.ping")
    handling(up, name="up", pattern="tests.pong")
    commit(Ping(2))

    assert drain() == [Ping(2), Pong(1), Ping(1), Pong(0), Ping(0)]
    assert drain() == []


def test_drain_says_what_goes_round(handling: Handling) -> None:
    """It ends, and names the types; a long list of what a test emits itself is no round."""
    handling(lambda event, _: outbox.emit(Pong(event.number)), name="a", pattern="tests.ping")
    handling(lambda event, _: outbox.emit(Ping(event.number)), name="b", pattern="tests.pong")
    commit(*(Happened("a", number) for number in range(60)))
    assert len(drain(limit=50)) == 60
    commit(Ping(1))

    with pytest.raises(NeverEnds, match=r"go round: tests\.ping → tests\.pong → tests\.ping \("):
        drain(limit=50)


def test_drain_counts_what_fans_out(handling: Handling) -> None:
    """More messages than are allowed need not go round; then the last chain of them is told."""
    handling(
        lambda event, _: outbox.emit_many(Counted("k", number) for number in range(20)),
        name="many",
        pattern="tests.ping",
    )
    handling(record, name="each", pattern=COUNTED)
    commit(Ping(1))

    with pytest.raises(NeverEnds, match=r"The last of them: tests\.ping → tests\.counted\."):
        drain(limit=10)
    assert len(drain(limit=20)) == 20 - 10


def test_drain_ends_where_causes_are_lost(handling: Handling) -> None:
    """What a handler emits in a flow of its own is counted as well."""

    def again(event: Ping, message: Any) -> None:
        with use_context(Context(correlation_id="of its own")):
            outbox.emit(Ping(event.number + 1))

    handling(again, name="again", pattern="tests.ping")
    commit(Ping(1))

    with pytest.raises(NeverEnds):
        drain(limit=20)


def test_drain_handles_what_had_to_wait_for_its_turn(handling: Handling) -> None:
    """Of a sequence that came in the wrong order: each when it is its turn."""
    numbers: list[int] = []
    handling(
        lambda event, _: numbers.append(event.number),
        name="ordered",
        pattern=COUNTED,
        ordered=True,
        sequence="number",
    )
    commit(Counted("k", 3), Counted("k", 2), Counted("k", 1))

    assert sorted(event.number for event in drain()) == [1, 2, 3]
    assert numbers == [1, 2, 3]
    assert drain() == []


def test_an_exception_that_takes_no_note_is_raised(handling: Handling) -> None:
    """Where it came from is a note, and not worth another error."""

    class Odd(Exception):
        def add_note(self, note: str) -> None:
            raise RuntimeError("no notes")

    def fail(event: Ping, message: Any) -> None:
        raise Odd

    handling(fail, name="odd", pattern="tests.ping")
    with pytest.raises(Odd):
        deliver(Ping(1))


def test_drain_raises_and_goes_on_afterwards(handling: Handling) -> None:
    """A failure ends it, and what is left is for the next call."""
    handling(fail, name="failing", pattern="tests.ping")
    commit(Ping(1), Happened("a", 2))

    with pytest.raises(ValueError, match="no luck"):
        drain()
    assert effects() == []
    handling.forget()
    handling(record, name="failing", pattern="tests.ping")

    assert drain() == [Ping(1), Happened("a", 2)]
    assert effects(RECORD) == [2]


def test_drain_leaves_alone_what_is_not_for_handlers() -> None:
    """Events of others, tasks of Celery, and what is scheduled, unless it is asked for."""
    task = new_app().task(name="tests.close")(close)
    with transaction.atomic():
        task.delay(1)
        outbox.emit(Ping(1))
        outbox.emit(Happened("a", 2), delay=7200)
        outbox.emit(Happened("a", 1), delay=3600)

    assert drain() == []
    assert drain(scheduled=True) == [Happened("a", 1), Happened("a", 2)]
    assert drain(scheduled=True) == []
    assert len(emitted()) == 3
    assert len(sent_tasks()) == 1


def test_drain_of_one_group(handling: Handling) -> None:
    """Others have not had it then."""
    handling(record, name="g")
    commit(Happened("a", 1))

    drain(group="g")
    assert effects("record") == [1]
    assert effects(RECORD) == []
    drain()
    assert effects("record") == [1]
    assert effects(RECORD) == [1]


class TestEnvelopeFactory:
    """Messages as others send them."""

    def test_of_an_event(self) -> None:
        """It is what emit() makes of it, from elsewhere, with fields of the caller's."""
        message = EnvelopeFactory(event=Counted("k", 1), correlation_id="flow")

        assert (message.type, message.key, message.topic) == (COUNTED, "k", COUNTED)
        assert (message.data, message.source) == (b'{"key":"k","number":1}', "/elsewhere")
        assert message.correlation_id == "flow"

    def test_by_name(self) -> None:
        """With a payload that is checked."""
        message = EnvelopeFactory(event=COUNTED, payload={"key": "k", "number": 1})

        assert message.data == b'{"key":"k","number":1}'
        with pytest.raises(outbox.InvalidEvent):
            EnvelopeFactory(event=COUNTED, payload={"key": "k"})

    def test_of_a_type_that_nobody_knows(self) -> None:
        """Services of others have types of their own."""
        message = EnvelopeFactory(type="other.thing", payload=[1])

        assert (message.type, message.topic, message.data) == ("other.thing", "other.thing", b"[1]")

    def test_each_is_another(self) -> None:
        """Ids differ, in batches as well."""
        assert len({each.id for each in EnvelopeFactory.build_batch(3)}) == 3

    def test_it_can_be_derived_from(self) -> None:
        """As any factory."""

        class PingFactory(EnvelopeFactory):
            event = Ping(7)
            source = "/pings"

        assert (PingFactory().key, PingFactory().source) == ("7", "/pings")


def test_emitted_by_a_handler(handling: Handling) -> None:
    """What a handler emits is asked for as anything else."""
    handling(lambda event, _: outbox.emit(Ping(event.number)), name="emits")
    deliver(Happened("a", 5))

    assert assert_emitted(Ping) == Ping(5)


@override_settings(TASKS={"default": {"BACKEND": "inbox.tasks.OutboxBackend"}})
def test_djangos_tasks_run() -> None:
    """They are messages with a handler, so drain() is their worker."""
    with transaction.atomic():
        result = task_functions.add.enqueue(40, more=2)
    drain()

    result.refresh()
    assert result.return_value == 42
    assert effects() == [42]
