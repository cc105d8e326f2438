"""Compare the messages of both sides one by one, and name what differs. Pure policy."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from outbox.states import BreakKind, BreakState

SETTLED = "settled"
"""What the other side says of a message with which all its handlers are done."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A message of which the two sides do not say the same; `there` is its state at the other.

    Of business totals, `start` is when their bucket begins, and `figures` has those of both sides.
    """

    kind: BreakKind
    message_id: str
    there: str = ""
    start: int | None = None
    figures: Mapping[str, Mapping[str, str]] | None = None


def compare(ours: Iterable[str], theirs: Mapping[str, str]) -> Iterator[Difference]:
    """Yield what differs between our ids and the states by id of the other side.

    What is unknown here may only be unexpected: the group was not bound to it then, say.
    """
    seen = set()
    for message_id in ours:
        seen.add(message_id)
        state = theirs.get(message_id)
        if state is None:
            yield Difference(BreakKind.MISSING, message_id)
        elif state != SETTLED:
            yield Difference(BreakKind.UNSETTLED, message_id, state)
    for message_id in sorted(theirs.keys() - seen):
        yield Difference(BreakKind.UNKNOWN, message_id, theirs[message_id])


def next_state(
    state: BreakState | None, *, there: bool, old: bool, published: bool
) -> BreakState | None:
    """Return the state of a break after another look; None if there is no break.

    `there`: it still differs. `old`: it has differed for so long that it is under way no more.
    `published`: it has left this side. What is accepted stays so.
    """
    if state is BreakState.ACCEPTED:
        return state
    if not there:
        return BreakState.REPAIRED if state in (BreakState.OPEN, BreakState.REPAIRED) else None
    if state is BreakState.OPEN:
        return state
    if state in (None, BreakState.REPAIRED):
        return BreakState.IN_TRANSIT
    return BreakState.OPEN if old and published else BreakState.IN_TRANSIT


def is_old(found: datetime, now: datetime, confirm: timedelta) -> bool:
    """Tell whether what was found then has had its time to arrive."""
    return now - found >= confirm
