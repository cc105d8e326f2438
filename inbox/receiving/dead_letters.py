"""Messages that no handler here can use: why, and what is kept of them."""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from django.db import connections, router

from inbox.calling.hooks import Contained
from inbox.delivery import Delivery
from inbox.handlers.registry import Handler
from inbox.ledger.ledger import Ledger
from inbox.ledger.sql.letters import dead_letter_key
from inbox.models import DeadLetter
from outbox.database import instants
from outbox.database.instants import parameter
from outbox.error_text import MAX_ERROR, storable
from outbox.exceptions import UndecodableMessage
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.signals import dead_letter, send

logger = logging.getLogger("inbox")


class Unusable(NamedTuple):
    """A delivery that becomes a dead letter of a group."""

    delivery: Delivery
    reason: DeadLetter.Reason
    error: str
    group: str
    envelope: Envelope | None = None


def unwanted(delivery: Delivery, envelope: Envelope, group: str, others: list[Handler]) -> Unusable:
    """Return the dead letter of a message that no handler of a group is for."""
    what = f"{bounded(envelope.type)} v{envelope.version}"
    if others:
        known = ", ".join(f"{found.name} (v{found.version})" for found in others)
        reason = DeadLetter.Reason.UNKNOWN_VERSION
        error = f"No handler for {what}; handlers of other versions: {known}."
    else:
        reason = DeadLetter.Reason.UNKNOWN_TYPE
        error = f"No handler of group {group!r} for {what}."
    return Unusable(delivery, reason, error, group, envelope)


def too_large(delivery: Delivery, group: str) -> Unusable:
    """Return the dead letter of a message whose body is larger than INBOX["MAX_BYTES"]."""
    head = delivery.head()
    error = (
        f"Its body of {head.size:,} bytes is larger than INBOX['MAX_BYTES'] allows. Only its first "
        f"{len(head.body):,} bytes are kept, so it cannot be retried: have it sent again, as a "
        "reference to its content or in parts, or with a larger MAX_BYTES here; then discard this."
    )
    try:
        envelope = head.decode()
    except UndecodableMessage:
        envelope = None
    return Unusable(head, DeadLetter.Reason.TOO_LARGE, error, group, envelope)


def bury(found: Iterable[Unusable], using: str) -> None:
    """Keep dead letters, in one statement."""
    now = parameter(instants.now(), connections[using])
    # One of each, and in one order in every process, so that two cannot wait for each other.
    rows = {dead_letter_key(row): row for row in (_row(each, now) for each in found)}
    Ledger(using).bury([rows[key] for key in sorted(rows)])


def tell(found: Iterable[Unusable]) -> None:
    """Tell of what was kept."""
    for each in found:
        logger.error("Dead letter (%s): %s", each.reason, each.error)
        if dead_letter.has_listeners(DeadLetter):
            Contained(partial(_send, each), router.db_for_write(DeadLetter))()


def _send(letter: Unusable) -> None:
    envelope = letter.envelope
    send(
        dead_letter,
        DeadLetter,
        group=letter.group,
        reason=letter.reason.value,
        message_id=bounded(envelope.id) if envelope else "",
        type=bounded(envelope.type) if envelope else "",
        error=letter.error,
    )


def _row(letter: Unusable, now: object) -> tuple[Any, ...]:
    delivery, envelope = letter.delivery, letter.envelope
    return (
        letter.group,
        "",
        letter.reason.value,
        storable(letter.error, MAX_ERROR),
        bounded(envelope.source) if envelope else "",
        bounded(envelope.id) if envelope else "",
        bounded(envelope.type) if envelope else "",
        storable(delivery.topic, 255),
        storable(delivery.content_type or "", 255),
        delivery.kept_headers(),
        delivery.body,
        delivery.digest(),
        delivery.size,
        delivery.sha256,
        now,
    )
