"""Replay: publish again what the log still holds and a relay has published already.

The relay's cursor stays where it is; receivers drop what they have had. What is pending or
parked is left to the relay. Messages go out in the order of their positions, page by page,
confirmed, so the order per key is that of the first time.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from operator import or_

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Max, Min, Q, QuerySet
from django.db.models.functions import Length
from django.db.models.lookups import Exact
from msgspec import structs

from outbox.database.transactions import own_transaction
from outbox.guards import guard
from outbox.message.envelope import Envelope
from outbox.message.kinds import KINDS, Kind
from outbox.message.patterns import as_regex, selects_many
from outbox.models import Message
from relay.brokers.base import SKIPPED, Broker, Outcome, Status, address_of, close
from relay.conf import create_broker
from relay.exceptions import BrokerFailed, MovedDatabase, ReplayHalted
from relay.isolation import Isolation, tell_failed
from relay.log import open_log
from relay.log.base import PAGE_BYTES
from relay.reports.state import State, StateOf, states


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which messages to replay. Every bound that is given must hold; both ends are included.

    `types` are event types or patterns of them ("shop.order.*", "#"), of which one must match;
    `since` and `until` are times of emission, by the clocks of the applications. `positions` names
    messages one by one, of whatever kind they are.
    """

    from_position: int | None = None
    to_position: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    types: Sequence[str] = ()
    key: str | None = None
    positions: Collection[int] | None = None

    def condition(self) -> Q:
        """Return the selection as a condition on messages."""
        bounds = {
            "position__gte": self.from_position,
            "position__lte": self.to_position,
            "time__gte": self.since,
            "time__lte": self.until,
            "key": self.key,
            "position__in": self.positions,
        }
        condition = Q(**{name: value for name, value in bounds.items() if value is not None})
        if self.types:
            condition &= reduce(or_, (_of_type(pattern) for pattern in self.types))
        return condition if self.positions is not None else condition & self._of_kinds()

    def _of_kinds(self) -> Q:
        """Leave out what runs again with each copy, unless its type is named."""
        kept = Q()
        for kind in KINDS:
            if not kind.replayed and kind.type not in self.types:
                kept &= ~Q(type=kind.type)
        return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much a replay would publish, and where; positions are None if it is nothing."""

    count: int
    first: int | None
    last: int | None


class Replay:
    """One run over a selection, in pages as large as those of a relay. Belongs to one thread.

    It ends at what was in the log when it began. `published` counts what the broker confirmed,
    `next_position` is where another run would go on. With a `topic` all is published to that.
    """

    def __init__(
        self,
        relay: str,
        broker: Broker,
        selection: Selection,
        *,
        using: str,
        page_size: int | None = None,
        page_bytes: int = PAGE_BYTES,
        on_published: Callable[[int], None] = lambda position: None,
        topic: str = "",
    ) -> None:
        self.relay = relay
        self.broker = broker
        self.published = 0
        self.next_position = max(1, selection.from_position or 1)
        self.using = using
        self._isolation = Isolation(using)
        self._on_published = on_published
        self._topic = topic
        self._size = page_size or broker.page_size
        self._bytes = page_bytes
        published = Exact(StateOf(relay), State.PUBLISHED.value)
        log = Message.objects.using(using)
        self._selected = log.filter(selection.condition(), published).order_by("position")
        self._selection = selection
        self._end: int | None = None
        self._flushed = False

    def begin(self) -> str:
        """Fix where the replay ends; return what to tell about its range, or nothing.

        Raises MovedDatabase if it can't be told yet what was published.
        """
        guard().relays(self.using)
        source = open_log(self.relay, using=self.using)
        if source.is_moved():
            raise MovedDatabase(
                f"The log of database {self.using!r} was restored or moved, and is not rebased "
                "yet: what relay published what can't be told. Start the relay first."
            )
        log = Message.objects.using(self.using)
        self._end = log.aggregate(end=Max("position"))["end"] or 0
        oldest = log.order_by("position").values_list("position", "time").first()
        return _missing(self._selection, *oldest) if oldest else "The log is empty."

    def extent(self) -> Extent:
        """Return how much there is to publish, without publishing it. One statement."""
        found = self._remaining().aggregate(
            count=Count("position"), first=Min("position"), last=Max("position")
        )
        return Extent(**found)

    def why_nothing(self) -> str:
        """Return in words why there was nothing to publish again, and what there is.

        It may read all that is in the bounds, as looking for something to publish did.
        """
        log = Message.objects.using(self.using)
        found = log.filter(self._selection.condition())
        if (first := found.order_by("position").first()) is not None:
            state = states([first.position], [self.relay], self.using)[first.position]
            return (
                f"Nothing was published again: relay {self.relay!r} has published none of what is "
                f"in these bounds. The first, at position {first.position}, is "
                f"{state[self.relay].label}."
            )
        bounds = log.aggregate(first=Min("position"), last=Max("position"))
        if bounds["first"] is None:
            return "Nothing was published again: the log is empty."
        unknown = [
            each for each in self._selection.types if not log.filter(_of_type(each)).exists()
        ]
        told = f" There is no message of type {', '.join(unknown)}." if unknown else ""
        told += "".join(
            f" There are {kind.plural}, which run again if they are published again: for that, "
            f"name their type, {kind.type}."
            for kind in KINDS
            if not kind.replayed and self._left_out(kind)
        )
        key = self._selection.key
        if key is not None and not log.filter(key=key).exists():
            told += f" There is no message of key {key!r}."
        return (
            "Nothing was published again: nothing is in these bounds. The log holds positions "
            f"{bounds['first']} to {bounds['last']}.{told}"
        )

    def _left_out(self, kind: Kind) -> bool:
        """Return whether there are messages of a kind that only a named type brings."""
        if self._selection.types or kind.type is None:
            return False
        named = replace(self._selection, types=(kind.type,))
        return Message.objects.using(self.using).filter(named.condition()).exists()

    def page(self) -> bool:
        """Publish the next page; False if there was none. Two statements, however full it is.

        Raises ReplayHalted at the first message that the broker does not confirm.
        """
        if not self._flushed:
            # What a relay has passed over at its start nobody has waited for.
            open_log(self.relay, using=self.using).flush()
            self._flushed = True
        try:
            return self._page()
        except BrokerFailed as exc:
            tell_failed(self.broker, exc)
            return self._page()  # in pieces

    def _page(self) -> bool:
        # In a transaction for the brokers that handle messages in it.
        with own_transaction(self.using, handlers=self.broker.runs_handlers):
            positions = self._next_positions()
            if not positions:
                return False
            rows = Message.objects.using(self.using).in_bulk(positions)
            # Retention may delete between the two statements.
            page = [rows[position] for position in positions if position in rows]
            outcomes = self._publish([self._addressed(row) for row in page])
        for row, outcome in zip(page, outcomes, strict=True):
            if outcome is SKIPPED:
                continue
            if outcome.status is not Status.CONFIRMED:
                self.next_position = row.position
                raise ReplayHalted(_why(self.broker, outcome, row), self.next_position)
            self.published += 1
            self._on_published(row.position)
        self.next_position = positions[-1] + 1
        return True

    def _addressed(self, row: Message) -> Envelope:
        found = envelope(row)
        return structs.replace(found, topic=self._topic) if self._topic else found

    def _publish(self, page: Sequence[Envelope]) -> Sequence[Outcome]:
        """Publish a page, once more in pieces if need be: to tell the message that is to blame."""
        outcomes = self._isolation.publish(self.broker, page, self.relay)
        if any(outcome.status is Status.UNKNOWN for outcome in outcomes):
            outcomes = self._isolation.publish(self.broker, page, self.relay)
        return outcomes

    def _remaining(self) -> QuerySet[Message]:
        end = {} if self._end is None else {"position__lte": self._end}
        return self._selected.filter(position__gte=self.next_position, **end)

    def _next_positions(self) -> list[int]:
        sizes = self._remaining().annotate(size=Length("data")).values_list("position", "size")
        found: list[int] = []
        total = 0
        for position, size in sizes[: self._size]:
            total += size
            if found and total > self._bytes:
                break
            found.append(position)
        return found


def publish_again(message: Message, relay: str) -> bool:
    """Publish one message again, as a replay of just that one; False if it is not published yet.

    Raises what a replay raises, and ConfigurationError if the relay's broker cannot be made.
    """
    using = message._state.db or DEFAULT_DB_ALIAS
    return bool(publish_some_again([message.position], relay, using=using))


def publish_some_again(
    positions: Collection[int], relay: str, *, using: str, topic: str = ""
) -> list[int]:
    """Publish messages again, as a replay of just those, in their order; return their positions.

    To a `topic`, if there is one, instead of their own: whoever is bound to it has them.

    What the relay has not published yet is left to it. It ends at the first message that the broker
    does not take: raises what a replay raises if that is the first of all. Raises
    ConfigurationError if the relay's broker cannot be made.
    """
    broker = create_broker(relay, using=using)
    done: list[int] = []
    only = Selection(positions=positions)
    replay = Replay(
        relay,
        broker,
        only,
        using=using,
        page_size=min(broker.page_size, max(1, len(positions))),
        on_published=done.append,
        topic=topic,
    )
    try:
        replay.begin()
        while replay.page():
            pass
    except (ReplayHalted, BrokerFailed):
        if not done:
            raise
    finally:
        close(broker)
    return done


def envelope(message: Message) -> Envelope:
    """Return the envelope of a row of the log."""
    return message.as_envelope()


def _of_type(pattern: str) -> Q:
    if selects_many(pattern):
        return Q(type__regex=as_regex(pattern))
    return Q(type=pattern)


def _why(broker: Broker, outcome: Outcome, message: Message) -> str:
    if outcome.status is not Status.UNKNOWN:
        what = f"Message {message.message_id} is refused"
    elif broker.denied:
        what = f"The broker does not let us in ({address_of(broker)})"
    else:
        what = "The broker is away"
    return f"{what}: {outcome.reason}"


def _missing(selection: Selection, oldest: int, time: datetime) -> str:
    """Return words for a range that starts before what the log still holds."""
    before = (selection.from_position or oldest) < oldest
    earlier = selection.since is not None and selection.since < time
    if oldest == 1 or not (before or earlier):
        return ""
    return (
        f"The log begins at position {oldest}, emitted at {time.isoformat(timespec='seconds')}: "
        "what was before is no longer kept and can't be published again."
    )
