"""Tell how a request has ended: whoever answers, if nobody wants that, and handlers here."""

import json
from datetime import UTC, datetime

from django.db import connections

from outbox.conf import outbox_settings
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.message.process_messages import PROCESS_ID, asked_by
from outbox.message.requests import CANCELLED, IN_REPLY_TO, REQUEST_TYPE, SETTLED
from outbox.models import Request
from outbox.producer.addresses import own_address
from outbox.producer.writing import append
from outbox.replies.recording import Locked


def withdraw(request: Request, using: str) -> None:
    """Send in the running transaction that a request is cancelled. It goes the way of the request.

    With its source, topic and key, and in its lane, so that it comes to the same queues, behind it.
    """
    if not request.topic:
        return  # asked before the way of requests was kept
    request_id = str(request.message_id)
    envelope = Envelope(
        id=uuid7_text(),
        source=request.source,
        type=CANCELLED,
        data=json.dumps({"type": request.type, "version": request.version}).encode(),
        topic=request.topic,
        key=request.key,
        time=datetime.now(UTC),
        correlation_id=request.correlation_id,
        causation_id=request_id,
        attributes={IN_REPLY_TO: request_id},
    )
    scope = request_id if request.key is None else request.key
    append(connections[using], [envelope], outbox_settings(), scope=scope)


def tell(request: Locked, told: str, using: str) -> None:
    """Send to ourselves, in the running transaction, that a request has ended, under an id."""
    request_id = str(request.message_id)
    conf = outbox_settings()
    instance = asked_by(request.owner)
    own = {} if instance is None else {PROCESS_ID: instance}
    envelope = Envelope(
        id=told,
        source=conf.source,
        type=SETTLED,
        version=request.version,
        data=b"{}",
        topic=own_address(),
        key=request_id,
        time=datetime.now(UTC),
        correlation_id=request.correlation_id,
        causation_id=request_id,
        attributes={IN_REPLY_TO: request_id, REQUEST_TYPE: request.type, **own},
    )
    append(connections[using], [envelope], conf)
