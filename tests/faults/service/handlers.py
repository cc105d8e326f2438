"""One effect per event, and a second event for some."""

from django.conf import settings

import outbox
from inbox import handler
from tests.faults.service.events import Changed, Hopped, Rare
from tests.faults.service.models import Effect
from tests.faults.service.vocabulary import CHANGED, HANDLERS, HOPPED, RARE, hops

GROUP = settings.FAULTS_GROUP


@handler(Changed, name=HANDLERS[CHANGED], group=GROUP)
def note(event: Changed, message: outbox.Envelope) -> None:
    Effect.objects.create(handler=HANDLERS[CHANGED], tag=event.tag)
    if hops(event.version):
        outbox.emit(Hopped(tag=event.tag))


@handler(Rare, name=HANDLERS[RARE], group=GROUP)
def note_rare(event: Rare, message: outbox.Envelope) -> None:
    Effect.objects.create(handler=HANDLERS[RARE], tag=event.tag)
    if hops(event.version):
        outbox.emit(Hopped(tag=event.tag))


@handler(Hopped, name=HANDLERS[HOPPED], group=GROUP)
def note_hop(event: Hopped, message: outbox.Envelope) -> None:
    Effect.objects.create(handler=HANDLERS[HOPPED], tag=event.tag)
