"""One effect per event; some cause another event, or a question. Now and then a handler fails."""

import random

from django.conf import settings

import outbox
from inbox import handler
from tests.proofs.faults.service.events import Answered, Asked, Changed, Hopped, Rare
from tests.proofs.faults.service.models import Effect
from tests.proofs.faults.service.vocabulary import (
    ANSWERS,
    ASK_EVERY,
    CALL_EVERY,
    CHANGED,
    HANDLERS,
    HOPPED,
    RARE,
    hops,
    turn_of,
)

GROUP = settings.FAULTS_GROUP
FAILING = 0.02
"""Which part of the calls fails, after its effect."""
DELAY = 0.05
"""Seconds by which a second event is put off."""


class Stumble(Exception):
    """The handler fails this time."""


@handler(Changed, name=HANDLERS[CHANGED], group=GROUP)
def note(event: Changed, message: outbox.Envelope) -> None:
    Effect.objects.create(handler=HANDLERS[CHANGED], tag=event.tag)
    if hops(event.key, event.version):
        outbox.emit(Hopped(tag=event.tag), delay=DELAY)
    turn = turn_of(event.key, event.version)
    if turn % ASK_EVERY == 0:
        url = settings.FAULTS_CALLBACKS if turn % CALL_EVERY == 0 else ""
        outbox.ask(Asked(tag=event.tag), owner=event.tag, callback_url=url)
    if random.random() < FAILING:
        raise Stumble


@handler(Rare, name=HANDLERS[RARE], group=GROUP)
def note_rare(event: Rare, message: outbox.Envelope) -> None:
    Effect.objects.create(handler=HANDLERS[RARE], tag=event.tag)
    if hops(event.key, event.version):
        outbox.emit(Hopped(tag=event.tag))


@handler(Hopped, name=HANDLERS[HOPPED], group=GROUP)
def note_hop(event: Hopped, message: outbox.Envelope) -> None:
    Effect.objects.create(handler=HANDLERS[HOPPED], tag=event.tag)


@handler(Asked, name=ANSWERS, group=GROUP)
def answer(event: Asked, message: outbox.Envelope) -> Answered:
    Effect.objects.create(handler=ANSWERS, tag=event.tag)
    if random.random() < FAILING:
        raise Stumble
    return Answered(tag=event.tag)
