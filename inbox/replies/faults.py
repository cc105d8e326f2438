"""Tell whoever asked that nobody answers: a handler has failed on the request for good."""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import DatabaseError, connections, transaction

from inbox.ledger.rows import Settlement
from inbox.replies.answering import address_for, request_type
from outbox.conf import outbox_settings
from outbox.database.failures import is_outage
from outbox.error_text import name_of, text_of
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.message.requests import FAILED, IN_REPLY_TO
from outbox.producer.writing import append, write_database

logger = logging.getLogger("inbox")


def tell(dead: Sequence[tuple[Settlement, Envelope]], using: str) -> None:
    """Send, for each request on which a handler is dead, what has failed; in this transaction.

    It says the class of the error, the reason and the attempts. The text of an error can have data
    in it, and stays here.
    """
    faults = [fault for settled, request in dead if (fault := _fault(settled, request))]
    if not faults:
        return
    home = write_database()
    if home != using:
        logger.error(
            "The outbox is in database %r and the receipts are in %r, so that nobody is told that "
            "a request has failed: they could not commit together.",
            home,
            using,
        )
        return
    try:
        with transaction.atomic(using=using):
            append(connections[using], faults, outbox_settings())
    except DatabaseError as exc:
        if is_outage(exc):
            raise
        # The receipts of all others in this transaction must not suffer for it.
        logger.error(
            "Nobody is told that %d requests have failed: %s", len(faults), text_of(exc).strip()
        )


def _fault(settled: Settlement, request: Envelope) -> Envelope | None:
    address = address_for(request)
    if address is None or request_type(settled.handler, request) is None:
        return None
    about = {
        "error": None if settled.exc is None else name_of(settled.exc),
        "reason": settled.reason,
        "attempts": settled.attempts,
        "handler": settled.handler.name,
    }
    return Envelope(
        id=uuid7_text(),
        source=outbox_settings().source,
        type=FAILED,
        data=json.dumps(about).encode(),
        topic=address,
        key=bounded(request.id),
        time=datetime.now(UTC),
        correlation_id=bounded(request.correlation_id or request.id),
        causation_id=bounded(request.id),
        attributes={IN_REPLY_TO: request.id},
    )
