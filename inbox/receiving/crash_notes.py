"""Note what is about to be handled, so that a handler that ends its process leaves a trace.

An error can be caught; the end of a process (out of memory, a crash in C code, os._exit) cannot. So
a turn first notes, in a transaction of its own, for which receipts calls begin; what settles a
receipt takes the note back. One that is noted and in nobody's hands was in those of a process that
died, or lost its database. From then on it is handled alone, so that the next death tells which it
was, and INBOX["RETRY_CRASHES"] deaths are enough. Sidekiq's super_fetch judges its "poison pills"
so. No other group of the process may be at work then (see inbox.receiving.isolation): nothing is
noted of a suspect before.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import takewhile

from inbox.handlers.ordering import LineKey
from inbox.ledger.ledger import Ledger
from inbox.ledger.rows import Due, Noted
from outbox.database.transactions import own_transaction


class Suspects(Enum):
    """What a turn does if something is due that a process may have died of."""

    FIND = auto()
    """It only says so: nothing is chosen then, and nothing noted."""
    CHOOSE = auto()
    """It handles one of them alone."""
    LEAVE = auto()
    """It handles the others."""


@dataclass(slots=True)
class Begun:
    """What a turn may handle: `calls` says by receipt how many calls for it never ended."""

    limit: int
    free: set[int] = field(default_factory=set)
    lines: set[LineKey] = field(default_factory=set)
    calls: dict[int, int] = field(default_factory=dict)
    more: bool = False
    """Whether something is due beyond this."""
    suspected: bool = False
    """Whether it is one alone, since a process may have died of it; or is to be, if it is none."""

    @property
    def noted(self) -> dict[int, int]:
        """What the receipts without an order say now."""
        return {number: self.calls[number] + 1 for number in self.free}


def begin(
    ledger: Ledger,
    handlers: Sequence[str],
    limit: int,
    take_back: Sequence[int],
    *,
    without: frozenset[LineKey] = frozenset(),
    suspects: Suspects = Suspects.CHOOSE,
) -> Begun:
    """Choose from what is due, note it, and commit; `take_back` are notes of a turn that failed.

    Of lines in `without` nothing is chosen.

    Nothing is noted, and one statement run, if nothing is due.
    """
    with own_transaction(ledger.using, durable=False):
        if take_back:
            ledger.unbegin(take_back)
        due = ledger.due(handlers, limit + 1)  # one more, to know of it
        due = [each for each in due if each.line not in without]
        begun = _choose(ledger, due, limit, suspects)
        ledger.begin(sorted(begun.calls))
    return begun


def _choose(ledger: Ledger, due: list[Due], limit: int, suspects: Suspects) -> Begun:
    free = {each.id: each.begun for each in due if each.line is None}
    keys = list({each.line for each in due if each.line is not None})
    # At random, so that several processes seldom reach for the same.
    random.shuffle(keys)
    tried, ahead = _lines(ledger, keys, limit)
    begun = _suspect(free, ahead)
    if suspects is Suspects.LEAVE:
        begun = None
        free = {number: calls for number, calls in free.items() if not calls}
        ahead = {key: rows for key, rows in ahead.items() if not any(each.begun for each in rows)}
    if begun is not None and suspects is Suspects.FIND:
        return Begun(0, suspected=True)
    if begun is not None:
        begun.more = len(due) > 1
    else:
        begun = Begun(limit, set(list(free)[:limit]), set(ahead))
        begun.calls = dict.fromkeys(begun.free, 0)
        for rows in ahead.values():
            begun.calls |= {each.id: each.begun for each in rows}
        begun.more = len(free) > limit or len(keys) > tried
    return begun


def _lines(
    ledger: Ledger, keys: list[LineKey], limit: int
) -> tuple[int, dict[LineKey, list[Noted]]]:
    """Lock lines, and return what may be called in them: no more of all than a turn can.

    Else each of a hundred long lines would be noted from end to end, for one of them to be handled.
    Nothing is behind what holds up a line. Returns how many of the lines were tried as well.
    """
    mine = ledger.try_lock(keys[:limit])
    ahead: dict[LineKey, list[Noted]] = {}
    tried, room = 0, limit
    for key in keys[:limit]:
        if not room:
            break
        tried += 1
        rows = ledger.ahead(key, room) if key in mine else []
        if rows and not rows[0].rests:
            ahead[key] = list(takewhile(lambda each: not each.stops, rows))
            room -= len(ahead[key])
    return tried, ahead


def _suspect(free: dict[int, int], ahead: dict[LineKey, list[Noted]]) -> Begun | None:
    """Return one that a process had begun with when it ended, to be handled alone."""
    for number, calls in free.items():
        if calls:
            return Begun(1, free={number}, calls={number: calls}, suspected=True)
    for key, rows in ahead.items():
        if rows and rows[0].begun:
            begun = {rows[0].id: rows[0].begun}
            return Begun(1, lines={key}, calls=begun, suspected=True)
    return None
