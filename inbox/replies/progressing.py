"""Tell whoever asked how far the answer has come."""

import json
from datetime import UTC, datetime
from uuid import UUID

from django.db import connections

from inbox.replies.answering import address_for, open_requests
from outbox.conf import outbox_settings
from outbox.exceptions import UnknownRequest
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.message.requests import IN_REPLY_TO, PROGRESS
from outbox.producer.emit import require_transaction
from outbox.producer.writing import append, write_database
from outbox.replies.progress import check


def progress(
    request: Envelope | str | UUID, done: float | None = None, text: str = "", *, source: str = ""
) -> Envelope:
    """Tell whoever asked how far the answer has come, in the running transaction.

    inbox.progress(message, 0.0, "is in the queue")         # in a handler, which returns LATER
    inbox.progress(request_id, 0.4, "rated 40 of 100")      # from anywhere, later

    `done` is a share from 0 to 1, None if nobody knows; `text` has at most 255 characters. In a
    handler `request` is the message that it was given; anywhere else the id of a request that is
    open here, and, of several with one id, `source` says whose it is. The newest is what the asker
    sees. It costs a message, as any event, and looks for the request by its id.

    Returns the message. Raises UnknownRequest if it is no request, or is not open here any more:
    it was answered or cancelled, so that nothing is left to do. Raises InvalidEvent for what is no
    progress, and TransactionRequired.
    """
    check(done, text)
    using = write_database()
    require_transaction(connections[using], "progress()")
    request_id, address, correlation_id = (
        _asked(request) if isinstance(request, Envelope) else _open(str(request), source)
    )
    envelope = Envelope(
        id=uuid7_text(),
        source=outbox_settings().source,
        type=PROGRESS,
        data=json.dumps({"done": done, "text": text}).encode(),
        topic=address,
        key=bounded(request_id),  # all that is said on a request keeps its order
        time=datetime.now(UTC),
        correlation_id=correlation_id,
        causation_id=bounded(request_id),
        attributes={IN_REPLY_TO: request_id},
    )
    append(connections[using], [envelope], outbox_settings())
    return envelope


def _asked(message: Envelope) -> tuple[str, str, str]:
    address = address_for(message)
    if address is None:
        raise UnknownRequest(f"Message {bounded(message.id)} wants no reply.")
    return message.id, address, bounded(message.correlation_id or message.id)


def _open(request_id: str, source: str) -> tuple[str, str, str]:
    row = open_requests(request_id, source)[0]
    return row.message_id, row.address, row.correlation_id
