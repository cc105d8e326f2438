"""Business totals: what a sender adds up of its events, and what a group has in its books."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any

import msgspec
from django.db import transaction

from outbox.message import codec
from outbox.message.event_types import EventType, registry
from outbox.statements.totals import Total

logger = logging.getLogger("outbox")

Number = int | Decimal
Figures = Mapping[str, Number]
"""Numbers by what they are of: a currency, say."""
Written = dict[str, str]
"""The same as a message has it: no zeros, and no number in two forms."""
MOST_FIGURES = 50
"""Numbers of one bucket and type."""
MAX_LABEL, MAX_NUMBER = 100, 60
"""Characters of what a number is of, and of the number."""
MOST_MEASURED = 20_000
"""Messages of which one statement adds up the numbers, or one bucket if that has more."""
ERROR = "error"
"""What stands in place of numbers that could not be told."""
AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A bucket of one type, of which a group is asked what it has in its books.

    `source` is whose messages they are. The times of their ids are from `since` until before
    `until`; `message_ids` are those with which the group is done.
    """

    source: str
    type: str
    since: datetime
    until: datetime
    message_ids: Sequence[str]


class Measured(msgspec.Struct, frozen=True, array_like=True):
    """The numbers of one type in one bucket."""

    start: int
    type: str
    figures: Written


class Compared(msgspec.Struct, frozen=True, array_like=True):
    """What a sender has stated of one type in one bucket, and what its group has in its books."""

    start: int
    type: str
    stated: Written
    booked: Written

    @property
    def name(self) -> str:
        """A name that stands for the bucket, the type and these numbers."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()
        return f"{self.start}-{digest[:32]}"


Measure = Callable[[Any], Figures]
Compare = Callable[[Window], Figures]
measures: dict[str, Measure] = {}
"""What is added up of an event, by its type."""
compares: dict[str, Compare] = {}
"""What is in the books, by type."""


def name_of(event_type: type | EventType | str) -> str:
    """Return the name of an event type, given by its class, itself or its name."""
    if isinstance(event_type, str):
        return event_type
    if isinstance(event_type, EventType):
        return event_type.name
    return registry.of_class(event_type).name


def written(figures: Figures) -> Written:
    """Return numbers as a message has them; raise ValueError or TypeError for what is none."""
    found: Written = {}
    for label, number in figures.items():
        if isinstance(number, bool) or not isinstance(number, int | Decimal):
            raise TypeError(f"{label!r:.60} is {type(number).__name__}: give int or Decimal")
        value = Decimal(number)
        if not value.is_finite():
            raise ValueError(f"{label!r:.60} is {value}")
        if value:
            text = f"{value:f}"
            found[str(label)] = text.rstrip("0").rstrip(".") if "." in text else text
    if problem := flaw(found):
        raise ValueError(problem)
    return dict(sorted(found.items()))


def flaw(figures: Written) -> str:
    """Return what is wrong about numbers as a message has them; "" if nothing is."""
    if len(figures) > MOST_FIGURES:
        return f"there are more than {MOST_FIGURES} numbers"
    if any(len(label) > MAX_LABEL or len(text) > MAX_NUMBER for label, text in figures.items()):
        return "a number, or what it is of, is too long"
    if any("\0" in label or "\0" in text for label, text in figures.items()):
        return "it has a character that cannot be stored"
    return ""


def measured(
    totals: Iterable[Total], ids: Callable[[Total], Iterable[str]], using: str
) -> Iterator[Measured]:
    """Yield the numbers of the buckets whose type has a measure; `ids` returns their messages."""
    for total in totals:
        if total.type in measures:
            figures = told(partial(_sum, total.type, ids(total), using), using)
            yield Measured(total.start, total.type, figures)


def in_words(figures: Mapping[str, Written]) -> str:
    """Return the business totals of both sides in a line."""

    def side(name: str) -> str:
        found = figures.get(name) or {}
        return ", ".join(f"{label} {number}" for label, number in found.items()) or "nothing"

    return f"here {side('here')}; there {side('there')}"


def with_room(totals: Sequence[Total]) -> int | None:
    """Return where a statement is to end, so that it adds up no more than MOST_MEASURED messages.

    None if all of it can go.
    """
    count, first = 0, None
    for total in totals:
        if total.type not in measures:
            continue
        count += total.count
        if count > MOST_MEASURED and first is not None and total.start > first:
            return total.start
        first = total.start if first is None else first
    return None


def told(figures: Callable[[], Figures], using: str) -> Written:
    """Return what a function of the project says, or that it fails: it stops no comparison."""
    try:
        with transaction.atomic(using=using):
            return written(figures())
    except Exception as exc:
        logger.exception("A total cannot be told, and is compared as an error.")
        return {ERROR: type(exc).__name__[:MAX_NUMBER]}


def _sum(event_type: str, message_ids: Iterable[str], using: str) -> Figures:
    from outbox.models import Message  # noqa: PLC0415 - declared before apps are loaded

    measure, rest = measures[event_type], iter(message_ids)
    sums: dict[str, Number] = {}
    while part := list(islice(rest, AT_ONCE)):
        for row in Message.objects.using(using).filter(message_id__in=part):
            envelope = row.as_envelope()
            event = codec.decode(envelope, registry.find(envelope.type, envelope.version))
            for label, number in measure(event).items():
                sums[label] = sums.get(label, 0) + number
    return sums
