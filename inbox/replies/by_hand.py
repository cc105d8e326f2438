"""What a person may answer to an open request: the declared replies, read from JSON."""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import get_type_hints

from django.utils.translation import gettext_noop

from inbox.models import OpenRequest
from inbox.replies.answering import answer_open
from outbox.database.transactions import own_transaction
from outbox.exceptions import OutboxError, UndecodableMessage
from outbox.message import codec
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType
from outbox.message.event_types import registry as event_types
from outbox.operations import Operation
from outbox.producer.writing import write_database


class NoReply(OutboxError):
    """What was given is no reply of a request; the text says why."""


def replies_of(row: OpenRequest) -> dict[str, EventType]:
    """Return the replies that a request is declared to have, by their types; none if it is not."""
    asked = event_types.find(row.type, row.version)
    classes = asked.replies if asked is not None else ()
    return {str(found.name): found for found in map(event_types.of_class, classes)}


def fields_of(reply: EventType) -> dict[str, str]:
    """Return what a reply is made of: the names of its fields, each with its type."""
    if reply.schema is None:
        return {}
    try:
        hints = get_type_hints(reply.schema)
    except Exception:  # names that exist for type checkers alone
        hints = dict(vars(reply.schema).get("__annotations__", {}))
    return {name: getattr(each, "__name__", str(each)) for name, each in hints.items()}


def read_reply(row: OpenRequest, name: str, text: str) -> object:
    """Return the reply of a declared type that some JSON is; raise NoReply if it is none."""
    reply = replies_of(row).get(name)
    if reply is None:
        known = ", ".join(sorted(replies_of(row))) or "none that is declared here"
        raise NoReply(f"Its reply is {known}, not {name!r}.")
    envelope = Envelope(
        id="-", source="-", type=reply.name, version=reply.version, data=text.encode()
    )
    try:
        return codec.decode(envelope, reply)
    except (UndecodableMessage, UnicodeError, MemoryError) as exc:
        raise NoReply(str(exc)) from exc


def _answer(reply: object, numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
    """Answer open requests; those that are not open any more are left."""
    done = []
    # The reply is written where the outbox is, together with its end here.
    with own_transaction(using, durable=False), own_transaction(write_database(), durable=False):
        rows = OpenRequest.objects.using(using).filter(pk__in=numbers).defer("data")
        for row in rows.order_by("pk"):
            if answer_open(row, reply) is not None:
                done.append(row.pk)
    return done


ANSWER = Operation(
    model=OpenRequest,
    verb="answer",
    perform=partial(_answer, None),
    written=gettext_noop("Answered."),
    deletes=True,
)


def answer_with(reply: object) -> Operation:
    """Return the operation of answering with a reply."""
    return replace(ANSWER, perform=partial(_answer, reply))
