"""Write what is POSTed when a request has ended, in the transaction that settles it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db import connections
from django.db.models import QuerySet, Sum
from django.db.models.functions import Length

from outbox.conf import outbox_settings
from outbox.exceptions import ConfigurationError, InvalidEvent
from outbox.message.callbacks import CALLBACK_TYPE, CONTENT_TYPE, topic_of
from outbox.message.codec import is_json
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.models import Message, Reply, Request, Settlement
from outbox.producer.writing import append
from outbox.states import Outcome
from outbox.webhooks.addresses import is_allowed
from outbox.webhooks.conf import WHERE, webhook_settings
from outbox.webhooks.urls import address_of, flaw, host_of


def check_url(url: str, owner: str) -> None:
    """Raise InvalidEvent for a URL that cannot be called back.

    Raises ConfigurationError if there is no secret to sign with.
    """
    conf = webhook_settings()
    problem = flaw(url, http=conf.HTTP)
    if problem is None and (address := address_of(url)) and not is_allowed(address, conf.subnets):
        problem = "has an address that must not be called"
    if problem:
        raise InvalidEvent(f"callback_url {problem}")
    if not conf.secrets_of(owner):
        raise ConfigurationError(
            f"There is no secret to sign callbacks with: set {WHERE}['SECRETS'], for this owner or "
            "for all."
        )


def call_back(settlement: Settlement, using: str) -> None:
    """Write the message that tells the URL of a request how it has ended."""
    request, conf = settlement.request, outbox_settings()
    data = {
        "request": str(request.message_id),
        "type": request.type,
        "state": Outcome(settlement.outcome).value,
        "reason": settlement.reason,
        "settled": settlement.settled_at.astimezone(UTC).isoformat(),
        "replies": _replies(request, using, conf.MAX_DATA_BYTES),
    }
    envelope = Envelope(
        id=uuid7_text(),
        source=conf.source,
        type=CALLBACK_TYPE,
        data=msgspec.json.encode(data),
        content_type=CONTENT_TYPE,
        topic=topic_of(host_of(request.callback_url)),
        subject=str(request.message_id),
        time=datetime.now(UTC),
        correlation_id=request.correlation_id,
        causation_id=str(request.message_id),
    )
    append(connections[using], [envelope], conf)


def callbacks_of(rows: Sequence[Request], using: str) -> dict[UUID, str]:
    """Return the ids of the messages that tell the URLs of requests, by the ids of these."""
    if not rows:
        return {}
    sent = Message.objects.using(using).filter(
        correlation_id__in={row.correlation_id for row in rows},
        type=CALLBACK_TYPE,
        subject__in=[str(row.message_id) for row in rows],
    )
    found = sent.order_by("position").values_list("subject", "message_id")
    return {UUID(subject): str(name) for subject, name in found}


def _replies(request: Request, using: str, most: int) -> list[dict[str, Any]]:
    """Return the replies that count; without their data if that is more than `most` bytes."""
    counted = Reply.objects.using(using).filter(request=request, number__isnull=False)
    rows: QuerySet[Reply] = counted.order_by("number")
    size = counted.aggregate(size=Sum(Length("data")))["size"] or 0
    if size > most:
        rows = rows.defer("data")
    return [_told(each, whole=size <= most) for each in rows]


def _told(reply: Reply, *, whole: bool) -> dict[str, Any]:
    about: dict[str, Any] = {
        "id": reply.message_id,
        "source": reply.source,
        "type": reply.type,
        "dataversion": reply.version,
        "datacontenttype": reply.content_type,
    }
    if not whole:
        return about
    data = bytes(reply.data)
    # Whoever has answered may say that it is JSON, and it is not.
    if is_json(reply.content_type) and _parses(data):
        return about | {"data": msgspec.Raw(data)}
    return about | {"data_base64": data}


def _parses(data: bytes) -> bool:
    """Tell whether data is JSON as it has to be within JSON: in UTF-8, and without NaN."""
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True
