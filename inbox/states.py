"""What can become of a receipt or a dead letter: one table, which everything else is read from."""

from collections.abc import Mapping

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class State(TextChoices):
    """Where a message stands with one handler."""

    PROCESSED = "processed", _("processed")
    RETRYING = "retrying", _("retrying")
    WAITING = "waiting", _("waiting")
    DEAD = "dead", _("dead")
    SKIPPED = "skipped", _("skipped")
    DISCARDED = "discarded", _("discarded")


class Reason(TextChoices):
    """Why a message stands there."""

    FAILED = "failed", _("its handler failed")
    RETRY = "retry", _("its handler asked for another attempt")
    REJECTED = "rejected", _("its handler rejected it")
    INVALID_DATA = "invalid_data", _("data does not fit its event type")
    BEHIND = "behind", _("behind another of its key")
    GAP = "gap", _("earlier ones of its sequence are missing")
    STALE = "stale", _("its key has gone past its sequence number")
    REDELIVERED = "redelivered", _("the broker delivered it again")
    CRASHED = "crashed", _("its handler ended the process")
    CANCELLED = "cancelled", _("whoever asked wants no answer any more")
    EARLY = "early", _("its process is not where it is handled yet")
    PASSED = "passed", _("its process is past it")
    BUSY = "busy", _("another consumer takes a step of its instance")


class Event(TextChoices):
    """What happens to it; the last three are done by a person."""

    HANDLED = "handled", _("its handler returned")
    FAILED = "failed", _("its handler raised, with attempts left")
    REJECTED = "rejected", _("Reject, data that does not fit, or the last attempt failed")
    HELD = "held", _("an earlier message of its key is not processed")
    STALE = "stale", _("its key has gone past its sequence number")
    REDELIVERED = "redelivered", _("it came again: whoever had it may have died of it")
    CANCELLED = "cancelled", _("whoever asked wants no answer any more")
    RETRY = "retry", _("a person wants it handled again")
    DISCARD = "discard", _("a person gives it up")
    RESTORE = "restore", _("a person wants back what was given up")


OPEN = (State.RETRYING, State.WAITING, State.DEAD)
"""States of what is not over: kept with its message, and later ones of an ordered key wait."""
CLOSED = (State.PROCESSED, State.SKIPPED, State.DISCARDED)
"""States of what is over, and which retention may delete; only people lead out of one of them."""

TRANSITIONS: Mapping[tuple[State | None, Event], State] = {
    # None: the message comes in.
    (None, Event.HANDLED): State.PROCESSED,
    (None, Event.FAILED): State.RETRYING,
    (None, Event.REJECTED): State.DEAD,
    (None, Event.HELD): State.WAITING,
    (None, Event.STALE): State.SKIPPED,
    (None, Event.REDELIVERED): State.RETRYING,
    (None, Event.CANCELLED): State.SKIPPED,
    (State.RETRYING, Event.HANDLED): State.PROCESSED,
    (State.RETRYING, Event.FAILED): State.RETRYING,
    (State.RETRYING, Event.REJECTED): State.DEAD,
    (State.RETRYING, Event.HELD): State.WAITING,
    (State.RETRYING, Event.STALE): State.SKIPPED,
    (State.RETRYING, Event.CANCELLED): State.SKIPPED,
    (State.RETRYING, Event.RETRY): State.RETRYING,
    (State.RETRYING, Event.DISCARD): State.DISCARDED,
    (State.WAITING, Event.HANDLED): State.PROCESSED,
    (State.WAITING, Event.FAILED): State.RETRYING,
    (State.WAITING, Event.REJECTED): State.DEAD,
    (State.WAITING, Event.HELD): State.WAITING,
    (State.WAITING, Event.STALE): State.SKIPPED,
    (State.WAITING, Event.CANCELLED): State.SKIPPED,
    (State.WAITING, Event.DISCARD): State.DISCARDED,
    (State.DEAD, Event.RETRY): State.RETRYING,
    (State.DEAD, Event.DISCARD): State.DISCARDED,
    # Whatever it was before: nothing happens to it until a person says what.
    (State.DISCARDED, Event.RESTORE): State.DEAD,
}

LETTER_TRANSITIONS: Mapping[tuple[State | None, Event], State] = {
    (None, Event.REJECTED): State.DEAD,
    # Handled by being received again, from where each handler has a receipt of its own.
    (State.DEAD, Event.HANDLED): State.PROCESSED,
    (State.DEAD, Event.REJECTED): State.DEAD,
    (State.DEAD, Event.DISCARD): State.DISCARDED,
    (State.DISCARDED, Event.RESTORE): State.DEAD,
}


class InvalidTransition(ValueError):
    """Nothing of the kind can happen in this state."""


def after(state: State | None, event: Event) -> State:
    """Return the state of a receipt after an event; raise InvalidTransition if there is none."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(f"{event.value} cannot happen to what is {state}") from None


def states_before(event: Event) -> tuple[State, ...]:
    """Return the states of receipts in which an event can happen."""
    return tuple(state for state, each in TRANSITIONS if each is event and state is not None)


def letters_before(event: Event) -> tuple[State, ...]:
    """Return the states of dead letters in which an event can happen."""
    return tuple(state for state, each in LETTER_TRANSITIONS if each is event and state is not None)
