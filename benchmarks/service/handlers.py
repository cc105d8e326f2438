"""One effect per event, through the ORM."""

import time
from functools import partial

from django.db import transaction

import outbox
from benchmarks.service.events import Answered, Asked, Placed, Then, Told
from benchmarks.service.models import Effect
from benchmarks.settings import BENCH_HANDLED, INBOX
from inbox import handler

HANDLER = "bench.effect"

_handled = open(BENCH_HANDLED, "a") if BENCH_HANDLED else None  # noqa: SIM115


@handler(Placed, name=HANDLER, group=INBOX["GROUP"])
def effect(event: Placed, message: outbox.Envelope) -> None:
    Effect(number=event.number, note=event.note, at=time.time()).save(force_insert=True)
    if _handled is not None:
        transaction.on_commit(partial(_note, message.id))


@handler(Told, name="bench.told", group=INBOX["GROUP"])
def told(event: Told, message: outbox.Envelope) -> None:
    outbox.emit(Then(event.order, event.number, event.note))


@handler(Then, name="bench.then", group=INBOX["GROUP"])
def then(event: Then, message: outbox.Envelope) -> None:
    Effect(number=event.number, note=event.note, at=time.time()).save(force_insert=True)


@handler(Asked, name="bench.asked", group=INBOX["GROUP"])
def asked(event: Asked, message: outbox.Envelope) -> Answered:
    return Answered(event.order, event.number, event.note)


def _note(message_id: str) -> None:
    """Write down when the transaction of a message's effect had committed."""
    assert _handled is not None
    _handled.write(f"{message_id} {time.time():.6f}\n")
    _handled.flush()
