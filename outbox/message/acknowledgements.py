"""Acknowledgements on the wire: how a message asks for them, and what a group tells.

A message asks with two attributes: the address to tell, which is that of replies, and the groups
that are to tell. What they tell is an event to that address: which message ids the group has
settled, and how. A group that is not named tells nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from outbox.message.requests import is_address

TO = "acknowledgeto"
GROUPS = "acknowledgegroups"
TYPE = "outbox.acknowledgement"
"""The type of what a group tells."""


class Told(StrEnum):
    """What a group tells of a message."""

    HANDLED = "handled"
    """All handlers of the group have handled it."""
    SKIPPED = "skipped"
    """It is over there, and not handled by all: its sequence had gone past it, or it was discarded.
    """
    DEAD = "dead"
    """A handler has failed on it for good, or none can use it: a person has to decide there."""
    KEPT = "kept"
    """It was delivered again, and the group has it: it is retrying or waiting, and goes on."""


MAX_GROUPS = 20
MAX_RESENDS = 100
MAX_WITHIN = timedelta(days=366)
MAX_IDS = 10_000
"""Message ids that one acknowledgement has; what is beyond is not read."""
_GROUP = re.compile(r"(?!amq\.)[A-Za-z0-9_.:-]{1,100}")
_MAX_ATTRIBUTE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """What an event type wants to be told: that each of some groups has settled its messages.

    `groups` are those of the handlers, `within` is how long one has. What is not acknowledged then
    is sent again to the queue of that group alone, after each such time once more, `resends` times
    at most. `queues` has the names of queues that are not called like their group.

    Raises ConfigurationError for what cannot be.
    """

    groups: Sequence[str]
    within: timedelta
    resends: int = 5
    queues: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for flaw in _flaws(self.groups, self.within, self.resends, self.queues):
            raise ConfigurationError(f"Acknowledge: {flaw}")
        object.__setattr__(self, "groups", tuple(self.groups))

    def attributes(self, address: str) -> dict[str, str]:
        """Return the attributes of a message that asks for this, to be told to an address."""
        return {TO: address, GROUPS: " ".join(self.groups)}

    def queue_of(self, group: str) -> str:
        """Return the name of a group's queue."""
        return self.queues.get(group, group)


def _flaws(groups: Any, within: Any, resends: Any, queues: Any) -> Iterator[str]:
    """Yield what is wrong with the options of Acknowledge; the first says it all."""
    if isinstance(groups, str) or not isinstance(groups, Sequence):
        yield f"groups is a list of names, not {groups!r:.60}"
    for group in groups:
        if not isinstance(group, str) or not _GROUP.fullmatch(group):
            yield (
                f"{group!r:.60} is no name of a group, which has letters, digits and ._:- and does "
                "not begin with 'amq.'"
            )
    if not 1 <= len(groups) <= MAX_GROUPS or len(set(groups)) < len(groups):
        yield f"groups are 1 to {MAX_GROUPS}, each named once"
    if len(" ".join(groups)) > _MAX_ATTRIBUTE:
        yield (
            f"the names of the groups are longer than {_MAX_ATTRIBUTE} characters together, which "
            "is the room that a message has for them"
        )
    if not isinstance(within, timedelta) or not timedelta(0) < within <= MAX_WITHIN:
        yield (
            f"within is a timedelta above 0 and at most {MAX_WITHIN.days} days, not {within!r:.60}"
        )
    if type(resends) is not int or not 0 <= resends <= MAX_RESENDS:
        yield f"resends is a whole number from 0 to {MAX_RESENDS}, not {resends!r:.60}"
    if not isinstance(queues, Mapping) or not queues.keys() <= set(groups):
        yield "queues is a dict from groups to the names of their queues"
    for queue in queues.values():
        if not isinstance(queue, str) or not 1 <= len(queue.encode()) <= _MAX_ATTRIBUTE:
            yield f"{queue!r:.60} is no name of a queue"


class Asked(NamedTuple):
    """What a message asks for: whom to tell, and which groups are to."""

    address: str
    groups: frozenset[str]


def asked_of(envelope: Envelope) -> Asked | None:
    """Return what a message asks for; None if it asks for nothing, or in a form that is none."""
    to = envelope.attributes.get(TO)
    if to is None:
        return None
    groups = envelope.attributes.get(GROUPS)
    if not isinstance(to, str) or not isinstance(groups, str):
        return None
    return None if len(to) > _MAX_ATTRIBUTE or len(groups) > _MAX_ATTRIBUTE else _asked(to, groups)


@lru_cache(maxsize=1024)
def _asked(to: str, groups: str) -> Asked | None:
    return Asked(to, frozenset(groups.split())) if is_address(to) else None


class Acknowledgement(NamedTuple):
    """What a group tells: message ids, by what has become of them there."""

    group: str
    ids: Mapping[Told, Sequence[UUID]]
    unread: int
    """Ids that are none of ours by their form, or beyond MAX_IDS."""


def read(event: object) -> Acknowledgement | None:
    """Return what an acknowledgement says; None if it says nothing. Anybody may have sent it."""
    if not isinstance(event, Mapping) or not isinstance(group := event.get("group"), str):
        return None
    if not _GROUP.fullmatch(group):
        return None
    ids: dict[Told, Sequence[UUID]] = {}
    unread, left = 0, MAX_IDS
    for state in Told:
        given = event.get(state.value)
        if not isinstance(given, list):
            continue
        names = [_uuid(each) for each in given[:left]]
        unread += len(given) - len(names) + names.count(None)
        left -= len(names)
        if found := {name for name in names if name is not None}:
            ids[state] = sorted(found)
    return Acknowledgement(group, ids, unread)


def _uuid(value: object) -> UUID | None:
    if not isinstance(value, str) or len(value) != 36:
        return None
    try:
        return UUID(value)
    except ValueError:
        return None
