"""Messages that no handler here can use: why, and what is kept of them."""

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import connections
from django.utils import timezone

from inbox import sql
from inbox.delivery import Delivery
from inbox.ledger import Ledger, storable
from inbox.models import DeadLetter
from inbox.registry import Handler
from outbox.envelope import Envelope

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
    what = f"{envelope.type} v{envelope.version}"
    if others:
        known = ", ".join(f"{found.name} (v{found.version})" for found in others)
        reason = DeadLetter.Reason.UNKNOWN_VERSION
        error = f"No handler for {what}; handlers of other versions: {known}."
    else:
        reason = DeadLetter.Reason.UNKNOWN_TYPE
        error = f"No handler of group {group!r} for {what}."
    return Unusable(delivery, reason, error, group, envelope)


def bury(found: Iterable[Unusable], using: str) -> None:
    """Keep dead letters, in one statement."""
    now: Any = timezone.now()
    connection = connections[using]
    if connection.vendor != "postgresql":
        now = connection.ops.adapt_datetimefield_value(now)
    # One of each, and in one order in every process, so that two cannot wait for each other.
    rows = {sql.dead_letter_key(row): row for row in (_row(each, now) for each in found)}
    Ledger(using).bury([rows[key] for key in sorted(rows)])


def tell(found: Iterable[Unusable]) -> None:
    """Log what was kept."""
    for each in found:
        logger.error("Dead letter (%s): %s", each.reason, each.error)


def _row(letter: Unusable, now: object) -> tuple[Any, ...]:
    delivery, envelope = letter.delivery, letter.envelope
    return (
        letter.group,
        "",
        letter.reason.value,
        storable(letter.error),
        envelope.source if envelope else "",
        envelope.id if envelope else "",
        envelope.type if envelope else "",
        storable(delivery.topic, 255),
        storable(delivery.content_type or "", 255),
        delivery.kept_headers(envelope),
        delivery.body,
        delivery.digest(),
        now,
    )
