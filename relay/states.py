"""What may become of a parked message: the transition table, as data.

    parked, waiting ──confirm──▶ published
    parked, waiting ──refuse──▶ parked
    parked, waiting ──give up──▶ dead
    waiting ──reach──▶ parked
    parked ──hold──▶ waiting
    parked, dead ──requeue──▶ parked
    parked, waiting, dead ──discard──▶ discarded
    discarded ──restore──▶ dead

The relay confirms, refuses, gives up, reaches and holds; people requeue, discard and restore.
"""

from enum import StrEnum
from typing import NamedTuple

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class ParkedState(TextChoices):
    PARKED = "parked", _("parked")
    WAITING = "waiting", _("waiting")
    DEAD = "dead", _("dead")
    PUBLISHED = "published", _("published")
    DISCARDED = "discarded", _("discarded")


class Verb(StrEnum):
    CONFIRM = "confirm"
    """The broker has taken it after all."""
    REFUSE = "refuse"
    """The broker has refused it once more."""
    GIVE_UP = "give up"
    """It was refused as often as the relay's PARK_ATTEMPTS allow; a person has to look."""
    REACH = "reach"
    """What it waited behind is settled: it is the first of its key now."""
    HOLD = "hold"
    """An earlier one of its key is not settled: it was parked while keys were not held."""
    REQUEUE = "requeue"
    """A person wants it to be tried again, now."""
    DISCARD = "discard"
    """A person has decided that it shall not be published."""
    RESTORE = "restore"
    """A person takes that back: it is owed again, and sent when somebody requeues it."""


class Transition(NamedTuple):
    sources: tuple[ParkedState, ...]
    target: ParkedState


_PARKED, _WAITING, _DEAD = ParkedState.PARKED, ParkedState.WAITING, ParkedState.DEAD

OPEN = (_PARKED, _WAITING, _DEAD)
"""States of messages that are still owed."""

TRANSITIONS: dict[Verb, Transition] = {
    Verb.CONFIRM: Transition((_PARKED, _WAITING), ParkedState.PUBLISHED),
    Verb.REFUSE: Transition((_PARKED, _WAITING), _PARKED),
    Verb.GIVE_UP: Transition((_PARKED, _WAITING), _DEAD),
    Verb.REACH: Transition((_WAITING,), _PARKED),
    Verb.HOLD: Transition((_PARKED,), _WAITING),
    Verb.REQUEUE: Transition((_PARKED, _DEAD), _PARKED),
    Verb.DISCARD: Transition(OPEN, ParkedState.DISCARDED),
    Verb.RESTORE: Transition((ParkedState.DISCARDED,), _DEAD),
}
