"""Receive from a relay in the same process: what relay.brokers.local hands over."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

from inbox.calling.calls import LostInHandler
from inbox.conf import inbox_settings
from inbox.delivery import Delivery
from inbox.handlers.registry import handlers
from inbox.receiving.batch import Batch
from inbox.receiving.retries import Retries
from inbox.receiving.tally import Tally
from outbox.message.envelope import Envelope
from outbox.message.requests import CANCELLED

logger = logging.getLogger("inbox")

MOST_TYPES = 1000
"""Event types without a handler that are told; what anybody emits must not fill the memory."""
UNTOUCHED = Tally()
"""What becomes of a message that no handler is for."""
_unhandled: set[str] = set()
"""Event types without a handler that were told."""
_lost: set[str] = set()
"""Databases whose session was lost in a handler, with all that was received in that transaction."""


def receive(
    page: Sequence[Envelope],
    *,
    using: str,
    seconds: float = math.inf,
    group: str | None = None,
) -> list[str | None]:
    """Handle messages with the handlers of all groups, or of one, in the running transaction.

    Returns None for each that is handled, or that the inbox has in its care: for all of them, or,
    with `seconds`, for the first and as many more as are begun within those, or within
    INBOX["BATCH_SECONDS"] if that is less. Of a group that has no handlers here it says so.
    """
    if group is not None and group not in handlers.groups():
        return [f"group {group!r} has no handlers here"] * len(page)
    if seconds < math.inf:
        seconds = min(seconds, inbox_settings().BATCH_SECONDS)
    # What comes after a call that lost the database may come again, and is what it died of.
    deliveries = [replace(Delivery.of(each), redelivered=using in _lost) for each in page]
    try:
        results = Batch(deliveries, using=using, group=group, seconds=seconds).receive()
    except LostInHandler:
        _lost.add(using)
        raise
    _lost.discard(using)
    for envelope, result in zip(page, results, strict=False):
        if result == UNTOUCHED and envelope.type != CANCELLED:
            _tell_unhandled(envelope.type)
    return [None for _ in results]


def _tell_unhandled(event_type: str) -> None:
    """Log once in this process that nobody handles an event type."""
    if event_type in _unhandled or len(_unhandled) >= MOST_TYPES:
        return
    _unhandled.add(event_type)
    logger.warning(
        "Nobody handles %s: its events are dropped, which counts as published. Write a handler for "
        "it in the handlers.py of an app in INSTALLED_APPS; manage.py relay_replay publishes again "
        "what came before it.",
        event_type,
    )


def retry_due(*, using: str) -> bool:
    """Handle what is due again, of all groups; return whether more is due.

    Without a consumer process nobody else does it: the relay calls this about once a second.
    """
    return Retries(using).turn().more
