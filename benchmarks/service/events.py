"""The event that all measurements are about: 250 bytes of JSON."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import outbox
from outbox.message import codec
from outbox.message.event_types import registry

BYTES = 250
KEYS = 100_000


@outbox.event("bench.order.placed", key="order")
@dataclass(frozen=True, slots=True)
class Placed:
    order: str
    number: int
    note: str


@outbox.event("bench.told", key="order")
@dataclass(frozen=True, slots=True)
class Told:
    """The first of two events, whose handler emits the second."""

    order: str
    number: int
    note: str


@outbox.event("bench.then", key="order")
@dataclass(frozen=True, slots=True)
class Then:
    order: str
    number: int
    note: str


@outbox.event("bench.answered", key="order")
@dataclass(frozen=True, slots=True)
class Answered:
    order: str
    number: int
    note: str


@outbox.request("bench.asked", key="order", reply=Answered)
@dataclass(frozen=True, slots=True)
class Asked:
    order: str
    number: int
    note: str


NOTE = "x" * 210
"""So that the data of these are about as long."""


def placed(numbers: range) -> Iterator[Placed]:
    """Return events, of orders at random, whose data are 250 bytes long."""
    chance = random.Random(numbers.start)
    for number in numbers:
        order = str(chance.randrange(KEYS))
        yield Placed(order, number, "x" * (BYTES - _BARE - len(order) - len(str(number))))


_BARE = len(codec.encode(Placed("", 0, ""), registry.of_class(Placed))) - 1
