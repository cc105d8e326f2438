"""Declare business totals that are compared with those of a group, besides messages.

The sender says with `measure` what it adds up of its events, the group with `compare` what it has
in its books. See the how-to "Reconcile two services".
"""

from collections.abc import Callable
from typing import TypeVar

from outbox.message.event_types import EventType
from outbox.statements import measures
from outbox.statements.measures import Compare, Measure, Window

__all__ = ["Window", "compare", "measure"]

M = TypeVar("M", bound=Measure)
C = TypeVar("C", bound=Compare)


def measure(event_type: type | EventType | str) -> Callable[[M], M]:
    """Add up numbers of all events of a type: the function returns those of one, by a label.

    Integers or Decimals. Each statement has their sums; the events of its buckets are read for it.
    """

    def decorate(function: M) -> M:
        measures.measures[measures.name_of(event_type)] = function
        return function

    return decorate


def compare(event_type: type | EventType | str) -> Callable[[C], C]:
    """Say what this side has in its books of the messages of a type that another service sent.

    The function gets a Window, and returns numbers by the labels of the sender's measure.
    """

    def decorate(function: C) -> C:
        measures.compares[measures.name_of(event_type)] = function
        return function

    return decorate
