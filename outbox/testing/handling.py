"""Let handlers run in the test's own process and transaction: one message, or all there are."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, Unpack

from outbox.conf import outbox_settings
from outbox.database.instants import utc
from outbox.exceptions import ConfigurationError, NeverEnds, UndecodableMessage
from outbox.extensions.handling import Handled, handling
from outbox.message.envelope import Envelope
from outbox.message.kinds import EVENT, kind_of
from outbox.producer.drafting import EmitOptions, draft_of, wrap
from outbox.producer.writing import write_database
from outbox.replies.deadlines import NEVER, as_if_at
from outbox.testing.emissions import emission, envelope_of

LIMIT = 1000
"""Messages emitted by handlers that drain() handles, unless it is told otherwise."""

_AT_ONCE = 100


def deliver(
    event: object,
    payload: Any = None,
    *,
    group: str | None = None,
    using: str | None = None,
    **options: Unpack[EmitOptions],
) -> list[Handled]:
    """Hand a message to the handlers that want it, with receipts, and return what became of it.

    deliver(OrderPlaced(order_id=42))
    deliver("shop.order.placed", {"order_id": 42}, key="42")
    deliver(message)

    Takes what emit() takes, or a message as messages() and EnvelopeFactory have them; writes
    nothing into the log. In the running transaction, that of a TestCase as well, in which
    on_commit() hooks wait as ever. All handlers run, or those of one `group`; then what the first
    failing one raised is raised, and its receipt says the same. Delivered again, a message is
    handled by those that have failed on it, as if their pauses were over, and by no other. `using`
    is the alias of the inbox's database.

    Raises ConfigurationError if no handler wants it, or there is no inbox, and UndecodableMessage
    if its data does not fit.
    """
    envelope = event if isinstance(event, Envelope) else _wrapped(event, payload, options)
    found = _handle(envelope, using=using, group=group)
    if not found:
        whose = "" if group is None else f" of group {group!r}"
        raise ConfigurationError(
            f"No handler{whose} wants {envelope.type} v{envelope.version}. Is it registered with "
            "@handler, in <app>/handlers.py of an app in INSTALLED_APPS?"
        )
    return found


def drain(
    *,
    limit: int = LIMIT,
    scheduled: bool = False,
    group: str | None = None,
    using: str | None = None,
) -> list[Any]:
    """Hand all messages of the log to their handlers, and what these emit, until nothing is left.

    Returns the events that were handled, decoded, in order. As deliver() it needs neither relay nor
    broker nor commit, and raises what a handler raises; the next call goes on with that message.
    What was handled before is not handled again, as there are receipts. Messages that nobody here
    wants are left alone, and so are Celery's tasks. With `scheduled` those are handled that are to
    enter the log later, as well: each as soon as nothing else is left, and as if it were that
    time, so that a request that nobody has answered is expired.

    Raises NeverEnds when more than `limit` messages had to be handled that handlers have emitted,
    and says which of them go round. `using` is the alias of the outbox's and the inbox's database.
    """
    log = _Log(using or write_database(), scheduled=scheduled)
    given: dict[str, Envelope] = {}  # in the order in which they were handled
    waiting: dict[str, Envelope] = {}
    moved = True
    while moved:
        moved = False
        for envelope in chain(log, list(waiting.values())):
            if log.added > limit:
                raise NeverEnds(_round(envelope, given, limit))
            with as_if_at(log.reached):
                outcomes = _handle(envelope, using=using, group=group)
            waited = waiting.pop(envelope.id, None) is not None
            waits = any(each.state == "waiting" for each in outcomes)
            if waits:  # for its turn in the order of its key: it is given again
                waiting[envelope.id] = envelope
            if any(not each.duplicate and each.state != "waiting" for each in outcomes) or (
                waited and not waits  # handled in the turn of its predecessor
            ):
                given.setdefault(envelope.id, envelope)
                moved = True
    return [emission(envelope).event for envelope in given.values()]


class _Log:
    """Goes through the messages of a log, those that are added on the way as well."""

    def __init__(self, using: str, *, scheduled: bool) -> None:
        self._using = using
        self._position = 0
        self._end = _newest(using)
        self._scheduled: set[int] | None = set() if scheduled else None
        self.reached = NEVER
        """When the last of the messages is due that were to enter the log later."""
        self.added = 0
        """Messages that have been read and were not there at the beginning."""

    def __iter__(self) -> Iterator[Envelope]:
        while rows := self._next() or self._later():
            for row in rows:
                self.added += getattr(row, "position", self._end) > self._end
                envelope = envelope_of(row)
                if kind_of(envelope.content_type) is EVENT:
                    yield envelope

    def _next(self) -> list[Any]:
        from outbox.models import Message  # noqa: PLC0415 - imported before apps load

        left = Message.objects.using(self._using).filter(position__gt=self._position)
        rows = list(left.order_by("position")[:_AT_ONCE])
        if rows:
            self._position = rows[-1].position
        return rows

    def _later(self) -> list[Any]:
        from outbox.models import Scheduled  # noqa: PLC0415 - imported before apps load

        if self._scheduled is None:
            return []
        left = Scheduled.objects.using(self._using).exclude(pk__in=self._scheduled)
        rows = list(left.order_by("due_at", "pk")[:1])
        self.reached = max([self.reached, *(utc(row.due_at) for row in rows)])
        self._scheduled.update(row.pk for row in rows)
        return rows


def _newest(using: str) -> int:
    from outbox.models import Message  # noqa: PLC0415 - imported before apps load

    newest = Message.objects.using(using).order_by("-position").values_list("position", flat=True)
    return newest.first() or 0


def _wrapped(event: object, payload: Any, options: EmitOptions) -> Envelope:
    return wrap(draft_of("deliver", event, payload, options), outbox_settings())


def _handle(envelope: Envelope, *, using: str | None, group: str | None) -> list[Handled]:
    """Hand a message over; raise what the first handler that failed has raised."""
    found = list(handling()(envelope, using=using, group=group))
    for each in found:
        if each.duplicate:
            continue
        about = f"raised by handler {each.handler} for {envelope.type} {envelope.id}"
        if each.exc is not None:
            with suppress(Exception):  # not every exception takes a note
                each.exc.add_note(about)
            raise each.exc
        if each.state == "dead":
            raise UndecodableMessage(f"{each.error} ({about})")
    return found


def _round(last: Envelope, given: dict[str, Envelope], limit: int) -> str:
    """Return words on which types lead to each other, from the causes of a message."""
    causes = [last.type]
    cause = given.get(last.causation_id or "")
    while cause is not None:
        causes.append(cause.type)
        cause = given.get(cause.causation_id or "")
    causes.reverse()
    counted = Counter(causes)
    often = [name for name in dict.fromkeys(causes) if counted[name] == max(counted.values())]
    text = f"drain() has handled {limit:,} messages that handlers have emitted, and there are more."
    if counted[often[0]] == 1:
        text += f" The last of them: {' → '.join(causes[-10:])}."
    else:
        text += (
            f" These go round: {' → '.join([*often, often[0]])} ({counted[often[0]]:,} times). A "
            "handler emits what leads to itself again: let it stop where nothing has changed."
        )
    return f"{text} If so many are meant, drain(limit=...) allows them."
