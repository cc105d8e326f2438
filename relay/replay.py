"""Replay: publish again what the log still holds and a relay has published already.

The relay's cursor stays where it is; receivers drop what they have had. What is pending or
parked is left to the relay. Messages go out in the order of their positions, page by page,
confirmed, so the order per key is that of the first time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from operator import or_

from django.db import transaction
from django.db.models import Count, Max, Min, Q, QuerySet
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from outbox.celery.wire import TASK_TYPE
from outbox.envelope import Envelope
from outbox.models import Message
from outbox.routing import as_regex
from relay.brokers import selection
from relay.brokers.base import SKIPPED, Broker, Outcome, Status
from relay.exceptions import MovedDatabase, ReplayHalted
from relay.log import open_log
from relay.log.base import PAGE_BYTES
from relay.states import State, StateOf, states


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which messages to replay. Every bound that is given must hold; both ends are included.

    `types` are event types or patterns of them ("shop.order.*", "#"), of which one must match;
    `since` and `until` are times of emission, by the clocks of the applications.
    """

    from_position: int | None = None
    to_position: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    types: Sequence[str] = ()
    key: str | None = None

    def condition(self) -> Q:
        """Return the selection as a condition on messages."""
        bounds = {
            "position__gte": self.from_position,
            "position__lte": self.to_position,
            "time__gte": self.since,
            "time__lte": self.until,
            "key": self.key,
        }
        condition = Q(**{name: value for name, value in bounds.items() if value is not None})
        if self.types:
            condition &= reduce(or_, (_of_type(pattern) for pattern in self.types))
        if TASK_TYPE not in self.types:  # most tasks would simply run a second time
            condition &= ~Q(type=TASK_TYPE)
        return condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much a replay would publish, and where; positions are None if it is nothing."""

    count: int
    first: int | None
    last: int | None


class Replay:
    """One run over a selection, in pages as large as those of a relay. Belongs to one thread.

    It ends at what was in the log when it began. `published` counts what the broker confirmed,
    `next_position` is where another run would go on.
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
    ) -> None:
        self.relay = relay
        self.broker = broker
        self.published = 0
        self.next_position = max(1, selection.from_position or 1)
        self._using = using
        self._size = page_size or broker.page_size
        self._bytes = page_bytes
        published = Exact(StateOf(relay), State.PUBLISHED.value)
        log = Message.objects.using(using)
        self._selected = log.filter(selection.condition(), published).order_by("position")
        self._selection = selection
        self._end: int | None = None

    def begin(self) -> str:
        """Fix where the replay ends; return what to tell about its range, or nothing.

        Raises MovedDatabase if it can't be told yet what was published.
        """
        if open_log(self.relay, using=self._using).is_moved():
            raise MovedDatabase(
                f"The log of database {self._using!r} was restored or moved, and is not rebased "
                "yet: what relay published what can't be told. Start the relay first."
            )
        log = Message.objects.using(self._using)
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
        log = Message.objects.using(self._using)
        found = log.filter(self._selection.condition())
        if (first := found.order_by("position").first()) is not None:
            state = states([first.position], [self.relay], self._using)[first.position]
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
        tasks = replace(self._selection, types=(TASK_TYPE,)).condition()
        if not self._selection.types and log.filter(tasks).exists():
            told += (
                " There are Celery tasks, which run again if they are published again: for that, "
                f"name their type, {TASK_TYPE}."
            )
        key = self._selection.key
        if key is not None and not log.filter(key=key).exists():
            told += f" There is no message of key {key!r}."
        return (
            "Nothing was published again: nothing is in these bounds. The log holds positions "
            f"{bounds['first']} to {bounds['last']}.{told}"
        )

    def page(self) -> bool:
        """Publish the next page; False if there was none. Two statements, however full it is.

        Raises ReplayHalted at the first message that the broker does not confirm.
        """
        # In a transaction for the brokers that handle messages in it.
        with transaction.atomic(using=self._using, durable=True):
            positions = self._next_positions()
            if not positions:
                return False
            rows = Message.objects.using(self._using).in_bulk(positions)
            # Retention may delete between the two statements.
            page = [rows[position] for position in positions if position in rows]
            outcomes = selection.publish(self.broker, [envelope(row) for row in page])
        for row, outcome in zip(page, outcomes, strict=True):
            if outcome is SKIPPED:
                continue
            if outcome.status is not Status.CONFIRMED:
                self.next_position = row.position
                raise ReplayHalted(_why(self.broker, outcome, row), self.next_position)
            self.published += 1
        self.next_position = positions[-1] + 1
        return True

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


def envelope(message: Message) -> Envelope:
    """Return the envelope of a row of the log."""
    values = {name: getattr(message, name) for name in Envelope.__struct_fields__ if name != "id"}
    return Envelope(id=str(message.message_id), **values | {"data": bytes(message.data)})


def _of_type(pattern: str) -> Q:
    if "*" in pattern or "#" in pattern:
        return Q(type__regex=as_regex(pattern))
    return Q(type=pattern)


def _why(broker: Broker, outcome: Outcome, message: Message) -> str:
    if outcome.status is not Status.UNKNOWN:
        what = f"Message {message.message_id} is refused"
    elif broker.denied:
        what = f"The broker does not let us in ({broker.address})"
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
