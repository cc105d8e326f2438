"""What the running test has emitted, read from the log as its own connection sees it.

So it needs no commit: rows of the transaction around a TestCase count, those that were rolled back
do not. Messages are in the order of their ids, which grow within a process: that of emit().
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from outbox.message import codec
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.message.ids import uuid7_text
from outbox.message.kinds import TASK, kind_of
from outbox.producer.drafting import resolve
from outbox.producer.recording import EmitsEvents, drafts_of
from outbox.producer.writing import write_database
from outbox.testing.matching import Emission, Wanted, differences
from outbox.testing.sent import SentTask, sent_task

E = TypeVar("E")


class Captured:
    """What was emitted within a block, or all that the log holds, with the functions to ask for it.

    `using` is the alias of the database, by default that of the outbox. See capture().
    """

    def __init__(self, *, using: str | None = None, after: str = "", before: str = "") -> None:
        self._using = using
        self._after = after
        self._before = before

    @overload
    def emitted(self, event: type[E], /, **fields: Any) -> list[E]: ...
    @overload
    def emitted(self, event: object = None, /, **fields: Any) -> list[Any]: ...
    def emitted(self, event: object = None, /, **fields: Any) -> list[Any]:
        """Return the events that were emitted, decoded, in order.

        emitted()
        emitted(OrderPlaced)
        emitted(OrderPlaced, order_id=42)
        emitted("shop.order.*", customer="Ada")

        `event` is the class of an event, the name of its type, a pattern of names, or an event that
        has to be equal as a whole; the others are values of its fields. Scheduled events count,
        Celery's tasks do not: see sent_tasks(). Raises UnknownEventType or InvalidEvent for what no
        event could match.
        """
        wanted = Wanted.of(event, fields)
        return [each.event for each in self._emissions() if each in wanted]

    @overload
    def assert_emitted(
        self, event: type[E], /, *, count: int | None = None, **fields: Any
    ) -> E: ...
    @overload
    def assert_emitted(
        self, event: object = None, /, *, count: int | None = None, **fields: Any
    ) -> Any: ...
    def assert_emitted(
        self, event: object = None, /, *, count: int | None = None, **fields: Any
    ) -> Any:
        """Return the first of the events that emitted() would return; fail if there is none.

        assert_emitted(OrderPlaced, order_id=42)
        assert_emitted(OrderPlaced, count=2)

        With a `count`, fail unless there are so many. The failure shows what was emitted instead.
        """
        __tracebackhide__ = True
        if count is not None and count < 1:
            raise ValueError("count is at least 1; assert_not_emitted() is for none")
        wanted, emissions = Wanted.of(event, fields), self._emissions()
        found = [each for each in emissions if each in wanted]
        if not found or count not in (None, len(found)):
            number = "" if count is None else f", {count} were expected"
            said = f"{len(found)} times" if found else "not"
            raise AssertionError(
                f"{wanted} was {said} emitted{number}. {differences(wanted, emissions)}"
            )
        return found[0].event

    def assert_not_emitted(self, event: object = None, /, **fields: Any) -> None:
        """Fail if emitted() would return anything; the failure shows it."""
        __tracebackhide__ = True
        wanted = Wanted.of(event, fields)
        found = [each for each in self._emissions() if each in wanted]
        if found:
            raise AssertionError(f"{wanted} was emitted. {differences(wanted, found)}")

    def messages(self, event: object = None, /, **fields: Any) -> list[Envelope]:
        """Return the messages of the events that emitted() returns: with id, key and headers."""
        wanted = Wanted.of(event, fields)
        return [each.envelope for each in self._emissions() if each in wanted]

    def sent_tasks(self, task: object = None, /) -> list[SentTask]:
        """Return the Celery tasks that were sent through the outbox, in order.

        `task` is a task, or the name of one; by default they are all returned. What was sent
        straight to Celery's broker, or ran at once with task_always_eager, is not among them.
        """
        name = getattr(task, "name", task)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"sent_tasks() takes a task or the name of one, not {task!r}")
        found = [
            sent_task(each) for each in self._envelopes() if kind_of(each.content_type) is TASK
        ]
        return [each for each in found if name in (None, each.name)]

    def _emissions(self) -> list[Emission]:
        return [
            emission(each) for each in self._envelopes() if kind_of(each.content_type) is not TASK
        ]

    def _envelopes(self) -> list[Envelope]:
        from outbox.models import Message, Scheduled  # noqa: PLC0415 - imported before apps load

        bounds = {"message_id__gt": self._after, "message_id__lt": self._before}
        chosen = {name: value for name, value in bounds.items() if value}
        using = self._using or write_database()
        found = [
            envelope_of(row)
            for model in (Message, Scheduled)
            for row in model._default_manager.using(using).filter(**chosen)
        ]
        return sorted(found, key=lambda envelope: envelope.id)


@contextmanager
def capture(*, using: str | None = None) -> Iterator[Captured]:
    """Run a block and tell apart what it emits.

    with capture() as during:
        order.pay()
    during.assert_emitted(OrderPaid)
    during.assert_not_emitted(OrderPlaced)

    It can be asked within the block as well. `using` is the alias of the database.
    """
    captured = Captured(using=using, after=uuid7_text())
    try:
        yield captured
    finally:
        captured._before = uuid7_text()


def recorded(instance: EmitsEvents, event: object = None, /, **fields: Any) -> list[Any]:
    """Return the events that an instance has recorded and that its next save will emit.

    Decoded and chosen as by emitted(). Functions that were recorded are called, as the save would.
    """
    if not isinstance(instance, EmitsEvents):
        raise TypeError(f"{type(instance).__qualname__} records no events: it is no EmitsEvents")
    wanted = Wanted.of(event, fields)
    return [each.event for each in _recorded(instance) if each in wanted]


def emission(envelope: Envelope) -> Emission:
    """Return a message with its data decoded."""
    return Emission(
        envelope, codec.decode(envelope, registry.find(envelope.type, envelope.version))
    )


def envelope_of(row: Any) -> Envelope:
    """Return the envelope of a row of the log, or of a scheduled message."""
    return Envelope(
        id=str(row.message_id),
        source=row.source,
        type=row.type,
        data=bytes(row.data),
        content_type=row.content_type,
        version=row.version,
        topic=row.topic,
        subject=row.subject,
        key=row.key,
        time=getattr(row, "due_at", row.time),
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        trace_parent=row.trace_parent,
        trace_state=row.trace_state,
        attributes=row.attributes,
    )


def _recorded(instance: EmitsEvents) -> Iterable[Emission]:
    for draft in drafts_of(instance):
        event_type, payload = resolve(draft)
        yield Emission(
            Envelope(id="", source="", type=event_type.name, data=b"", version=event_type.version),
            payload,
        )


_everything = Captured()

emitted = _everything.emitted
assert_emitted = _everything.assert_emitted
assert_not_emitted = _everything.assert_not_emitted
messages = _everything.messages
sent_tasks = _everything.sent_tasks
