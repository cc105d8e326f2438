"""Which message of a key may be handled now: pure policy for handlers that keep an order.

A **line** is what one handler has to do with the messages of one key and source. Each message
has a place in it: its sequence number, or, without one, the order of arrival. The first that is
not processed is its head; what failed at its head holds up the rest.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from inbox.states import State


class LineKey(NamedTuple):
    handler: str
    source: str
    key: str

    def lock(self) -> int:
        """Return the number of the line's advisory lock. Two lines seldom share one."""
        text = "\x00".join(("inbox", *self)).encode(errors="backslashreplace")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), signed=True)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a message: handle it, skip it, or let it wait for one of two reasons.

    `missing` are the sequence numbers that it goes ahead without, or waits for.
    """

    act: str
    missing: range = range(0)


FIRST, LAST = -(2**63), 2**63 - 1
"""The lowest and the highest number that are stored."""
UNREAD = FIRST + 1
"""The place of what has a number that was not read yet: in front, so that nothing passes it."""

HANDLE = Decision("handle")
BEHIND = Decision("behind")
STALE = Decision("stale")


@dataclass(slots=True)
class Line:
    """A line as the database has it, and then as a batch changes it.

    `head` is the place of the first open receipt, `last` that of the last one; `head_state` is
    None if there is none. `done` is the last sequence number that was handled.
    """

    key: LineKey
    head_state: State | None = None
    head: int = 0
    last: int = 0
    done: int | None = None
    touched: bool = False
    """Whether `done` has changed."""
    ready: bool = False
    """Whether what waits may go on now."""

    def decide(self, sequence: int | None, start: int | None) -> Decision:
        """Return what to do with a message that comes in; `start` is the first number expected.

        Without a start, the first number that comes is the first.
        """
        if sequence is None:
            return HANDLE if self.head_state is None else BEHIND
        decision = follow(self.done, sequence, start)
        if decision is STALE:
            return STALE
        blocked = self.head_state not in (None, State.WAITING) and self.head <= sequence
        return BEHIND if blocked else decision

    def next_place(self, sequence: int | None) -> int:
        """Return the place of a message that comes in."""
        return sequence if sequence is not None else self.end()

    def put(self, state: State, place: int) -> None:
        """Note that a message stays open."""
        self.last = max(self.last, place) if self.head_state is not None else place
        if self.head_state is None or place <= self.head:
            self.head_state, self.head = state, place

    def handled(self, sequence: int | None) -> None:
        """Note that a message is handled, or given up, and whether what waits may go on now."""
        if sequence is not None and (self.done is None or sequence > self.done):
            self.done, self.touched = sequence, True
        if self.head_state is State.WAITING:
            self.ready = sequence is None or self.done is None or self.head <= self.done + 1

    def expected(self, start: int | None) -> int | None:
        """Return the sequence number whose turn it is, None if it can be any."""
        return start if self.done is None else self.done + 1

    def place_unread(self, *, sequenced: bool) -> int:
        """Return the place of a message whose number, if it has one, nobody has read."""
        return UNREAD if sequenced else self.end()

    def end(self) -> int:
        """Return the place behind everything that is known, for what has no number of its own."""
        known = [number for number in (self.done, self.last) if number is not None]
        return min(max([0, *known]) + 1, LAST)


def stored_place(place: int) -> int:
    """Return how a place in a line is stored: 0 there means that a handler keeps no order."""
    return place if place > 0 else max(place - 1, FIRST)


def place_stored(number: int) -> int:
    """Return the place in a line that is stored so."""
    return number if number >= 0 else number + 1


def follow(done: int | None, sequence: int, start: int | None) -> Decision:
    """Return what to do with a sequence number after `done`: "gap" if others are missing."""
    if done is None and start is None:
        return HANDLE
    expected = done + 1 if done is not None else start
    assert expected is not None
    if sequence < expected:
        return STALE
    if sequence > expected:
        return Decision("gap", range(expected, sequence))
    return HANDLE


def describe(missing: range) -> str:
    """Return numbers that are missing, for people."""
    if missing.stop - missing.start == 1:  # not len(), which knows no more than 63 bits
        return str(missing.start)
    return f"{missing.start} to {missing.stop - 1}"
