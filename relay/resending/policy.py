"""What to do about a message that a group has not acknowledged in time: pure policy.

It is sent again while that may help. What is known not to be lost is held instead, however long: a
message that is not published yet, or a group that is behind or away. What is held costs no resend.
"""

from enum import Enum
from typing import NamedTuple

from outbox.states import Hold
from relay.brokers.base import Depth


class Action(Enum):
    """What is done about it."""

    SEND = "send"
    HOLD = "hold"
    MISS = "miss"
    GIVE_UP = "give up"


class Step(NamedTuple):
    """What is done, and why not sent again, if it is held or given up."""

    action: Action
    hold: Hold | None = None


class Place(Enum):
    """Where the message is on our side."""

    PUBLISHED = "published"
    PENDING = "pending"
    GONE = "gone"


SEND, MISS = Step(Action.SEND), Step(Action.MISS)


def next_step(
    place: Place, resends: int, most: int, depth: Depth | None, before: int | None
) -> Step:
    """Return what to do about a message whose time has passed.

    It was sent again `resends` times, of `most`. `depth` is what the broker says of the group's
    queue, None if it does not; `before` how many messages waited in it when we looked last.
    """
    if place is Place.GONE:
        return Step(Action.GIVE_UP, Hold.GONE)
    if place is Place.PENDING:
        return Step(Action.HOLD, Hold.UNPUBLISHED)
    # One copy more is enough for a backlog that is worked off: more would only make it longer, and
    # what waits in there is not missing, however long that takes.
    before = before if resends < min(most, 1) else None
    if depth is not None and (hold := held_by(depth, before)):
        return Step(Action.HOLD, hold)
    return SEND if resends < most else MISS


def held_by(depth: Depth, before: int | None) -> Hold | None:
    """Return why nothing is sent to a queue now; None if something may be."""
    if not depth.exists:
        return Hold.NO_QUEUE
    if not depth.consumers:
        return Hold.NO_CONSUMER
    # It may wait in there. If fewer wait than before, the group works on them, and is not far.
    if depth.ready and (before is None or depth.ready >= before):
        return Hold.BACKLOG
    return None
