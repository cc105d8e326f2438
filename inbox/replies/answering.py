"""Answer requests: what a handler returns is sent to whoever asked, in its own transaction."""

import logging
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
from django.db import connections, router, transaction

from inbox.handlers.registry import Handler, handlers
from outbox.error_text import storable
from outbox.exceptions import ConfigurationError, UnknownRequest
from outbox.message.cloudevents import MAX_ATTRIBUTE, bounded, read_time
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType
from outbox.message.event_types import registry as event_types
from outbox.message.requests import EXPIRY_TIME, IN_REPLY_TO, REPLY_GROUP, REPLY_TO, reply_address
from outbox.producer.drafting import Draft
from outbox.producer.emit import require_transaction, write
from outbox.producer.writing import write_database

if TYPE_CHECKING:
    from inbox.models import OpenRequest

logger = logging.getLogger("inbox")

MANY = 100
"""Open requests of one id that are looked at."""


class Later:
    """What a handler returns when the answer is given later, by inbox.answer()."""

    def __repr__(self) -> str:
        return "inbox.LATER"


LATER: Final = Later()


def request_type(handler: Handler, envelope: Envelope) -> EventType | None:
    """Return what a handler is to answer; None if the message wants no answer of it.

    It answers what it was declared for by class or name. One with a pattern only looks on.
    """
    if REPLY_TO not in envelope.attributes:
        return None
    return answers(handler, envelope.type, envelope.version)


def answers(handler: Handler, event_type: str, version: int) -> EventType | None:
    """Return the request that a handler answers, of some type and version; None if it does not."""
    if handler.pattern != event_type or handler.version not in (None, version):
        return None
    found = event_types.find(event_type, version)
    return found if found is not None and found.is_request else None


def address_for(request: Envelope) -> str | None:
    """Return where the answer to a request goes; None if it can have none.

    An id that we would not emit is none to repeat in a header.
    """
    return reply_address(request.attributes) if len(request.id) <= MAX_ATTRIBUTE else None


def answer_with(handler: Handler, envelope: Envelope, returned: object) -> None:
    """Send what a handler has returned for a message, if that is a request.

    None says nothing: another handler, or nobody, answers. Raises ConfigurationError for what is
    no reply of this request.
    """
    if returned is None or (asked := request_type(handler, envelope)) is None:
        return
    address = address_for(envelope)
    if address is None:
        logger.warning(
            "Request %s of %s cannot be answered: its replyto is no address, or its id too long.",
            bounded(envelope.id),
            bounded(envelope.source),
        )
    elif returned is LATER:
        _keep_open(handler, envelope, address)
    else:
        check_reply(asked, returned)
        _send(
            returned,
            address=address,
            request_id=envelope.id,
            correlation_id=envelope.correlation_id and bounded(envelope.correlation_id),
            group=handler.group,
        )


def answer(request_id: str | UUID, reply: object, *, source: str = "") -> Envelope:
    """Answer a request whose handler has returned LATER, in the running transaction.

    Of requests with one id, `source` says whose it is. Returns the message of the reply. Raises
    UnknownRequest if there is no open request, since it was answered already, say, or if several
    services have one of this id; ConfigurationError for what is no reply of it; and what emit()
    raises. Whatever it raises, nothing was written.
    """
    from inbox.models import OpenRequest  # noqa: PLC0415 - models are not loaded at import

    # That the request is open no more has to commit with the answer, wherever each is.
    for alias in dict.fromkeys((write_database(), router.db_for_write(OpenRequest))):
        require_transaction(connections[alias], "inbox.answer()")
    for row in open_requests(request_id, source):
        if envelope := answer_open(row, reply):
            return envelope
    raise _unknown(request_id)


def answer_open(row: "OpenRequest", reply: object) -> Envelope | None:
    """Answer an open request; None if it is not open any more.

    Whoever deletes the row answers; who comes second waits for that, and finds none.
    """
    asked = event_types.find(row.type, row.version)
    if asked is not None and asked.is_request:
        check_reply(asked, reply)
    home = router.db_for_write(type(row))
    with transaction.atomic(using=home), transaction.atomic(using=write_database()):
        if not type(row).objects.using(home).filter(pk=row.pk).delete()[0]:
            return None
        return _send(
            reply,
            address=row.address,
            request_id=row.message_id,
            correlation_id=row.correlation_id or None,
            group=handler.group if (handler := handlers.get(row.handler)) else "",
        )


def open_requests(request_id: str | UUID, source: str) -> "list[OpenRequest]":
    """Return what handlers have left open of a request, at least one row.

    Raises UnknownRequest if there is none, or if several services have asked with one id and
    `source` does not say which is meant.
    """
    from inbox.models import OpenRequest  # noqa: PLC0415 - models are not loaded at import

    rows = OpenRequest.objects.using(router.db_for_write(OpenRequest))
    named = rows.filter(message_id=bounded(str(request_id))).order_by("pk")
    if source:
        named = named.filter(source=bounded(source))
    found = list(named.defer("data")[:MANY])
    if not found:
        raise _unknown(request_id)
    if len({row.source for row in found}) > 1:
        raise UnknownRequest(
            f"Several services have asked a request {request_id}, and each would get what is said "
            "on it: say which with source=..."
        )
    return found


def _unknown(request_id: str | UUID) -> UnknownRequest:
    return UnknownRequest(
        f"No request {request_id} is open here: it was answered or cancelled, it was never "
        "received, or no handler has returned inbox.LATER for it."
    )


def check_reply(asked: EventType, reply: object) -> None:
    """Raise ConfigurationError for what is no reply of a request."""
    if type(reply) not in asked.replies:
        known = " or ".join(each.__qualname__ for each in asked.replies)
        raise ConfigurationError(
            f"{asked}: its reply is {known} or inbox.LATER, not a {type(reply).__qualname__}"
        )


def _send(
    reply: object, *, address: str, request_id: str, correlation_id: str | None, group: str
) -> Envelope:
    own = {IN_REPLY_TO: request_id} | ({REPLY_GROUP: group} if group else {})

    def addressed(envelope: Envelope) -> Envelope:
        return msgspec.structs.replace(
            envelope,
            topic=address,
            # All that is said on a request keeps its order.
            key=envelope.key or bounded(request_id),
            attributes={**envelope.attributes, **own},
        )

    draft = Draft(event=reply, correlation_id=correlation_id, causation_id=bounded(request_id))
    return write([draft], None, finish=addressed)[0]


def _keep_open(handler: Handler, envelope: Envelope, address: str) -> None:
    from inbox.models import OpenRequest  # noqa: PLC0415 - models are not loaded at import

    row = OpenRequest(
        message_id=bounded(envelope.id),
        source=bounded(envelope.source),
        type=envelope.type,
        version=envelope.version,
        handler=handler.name,
        correlation_id=bounded(envelope.correlation_id or envelope.id),
        address=address,
        expires_at=read_time(envelope.attributes.get(EXPIRY_TIME)),
        content_type=storable(envelope.content_type, MAX_ATTRIBUTE),
        data=envelope.data,
    )
    # It may be open already, if the handler was called again.
    rows = OpenRequest.objects.using(router.db_for_write(OpenRequest))
    rows.bulk_create([row], ignore_conflicts=True)
