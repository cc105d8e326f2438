"""What loading a fixture means for relays; see outbox/producer/fixtures.py.

Positions, snapshots and clusters are those of another log, and all messages of the fixture are new
in this one. So a cursor that is loaded has seen nothing, and what is loaded of parked messages is
about none of this log.
"""

from typing import Any

from django.db import IntegrityError, connections

from outbox.models import Message
from outbox.producer.fixtures import leave_as_it_is, take_id
from relay.models import Checkpoint, Parked
from relay.snapshots import EMPTY

_OF_THE_LOG = (
    "position",
    "sequence",
    "window_start",
    "next_start",
    "window_previous",
    "window_count",
    "first_position",
)


def begin_anew(instance: Checkpoint, *, raw: bool, using: str, **_: Any) -> None:
    """Let a checkpoint that is loaded have seen nothing; leave one that is there as it is."""
    if not raw:
        return
    chain = ("relay", "lane", "previous")
    there = Checkpoint.objects.using(using).filter(pk=instance.pk).values_list(*chain).first()
    if there is None:
        for name in _OF_THE_LOG:
            setattr(instance, name, 0)
        seen = EMPTY if connections[using].vendor == "postgresql" else ""
        instance.floor = instance.ceiling = seen
        instance.complete = True
        take_id(instance)
    elif there == tuple(getattr(instance, name) for name in chain):
        leave_as_it_is(instance)
    else:
        raise IntegrityError(
            f"Checkpoint {instance.pk} of relay {instance.relay!r} cannot be loaded: relay "
            f"{there[0]!r}, lane {there[1]}, has one of this number. Load it into an empty "
            "database, or leave django_relay.Checkpoint out of the fixture."
        )


def detach(instance: Parked, *, raw: bool, using: str, **_: Any) -> None:
    """Let what is loaded of a parked message be about no other that may come to its position."""
    if not raw or instance.position < 0:
        return
    log = Message.objects.using(using)
    if not log.filter(pk=instance.position, message_id=instance.message_id).exists():
        instance.position = -instance.position
