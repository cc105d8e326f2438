"""The rows of requests: lock one, keep a reply, settle it. On PostgreSQL a statement for each."""

import time
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections

from outbox.database.clock import database_now
from outbox.database.instants import read
from outbox.database.prepared import large_cursor
from outbox.message.cloudevents import MAX_ATTRIBUTE, bounded
from outbox.message.envelope import Envelope
from outbox.message.requests import REPLY_GROUP
from outbox.models import Reply, Request, Settlement
from outbox.producer.scheduling import cancel as cancel_scheduled
from outbox.replies import sql
from outbox.states import Outcome

TRIES, PAUSE = 3, 0.01
"""How often, and with which pauses in seconds, a request is tried that another one has locked."""
LARGE = 100_000
"""From this many bytes on a reply goes to the server apart from the statement."""


class RequestBusy(Exception):
    """Another transaction has locked the request, and has not ended yet."""


class Locked(NamedTuple):
    """What is to be known of a request to settle it."""

    pk: int
    message_id: UUID
    type: str
    version: int
    correlation_id: str
    wanted: int
    deadline: datetime
    expiry_id: UUID
    is_called_back: bool
    owner: str


class Kept(NamedTuple):
    """A reply that was kept: its place among those that count, if it does; whether it was last."""

    number: int | None
    settles: bool


def lock(request_id: str, using: str, *, wait: bool) -> Locked | None:
    """Return a request, locked until the transaction ends; None if there is none of this id.

    Raises RequestBusy, unless it may `wait`, if another transaction holds it for longer than a
    moment: whoever settles many of them must neither stand still for one nor wait in a circle.
    """
    try:
        wanted = UUID(request_id)
    except ValueError:
        return None
    if connections[using].vendor != "postgresql":
        return _portable_lock(wanted, using)
    with connections[using].cursor() as cursor:
        for attempt in range(TRIES):
            cursor.execute(sql.LOCK if wait else sql.TRY_LOCK, [wanted])
            if row := cursor.fetchone():
                return Locked._make((*row[:6], read(row[6]), *row[7:]))
            if wait:
                return None
            cursor.execute(sql.IS_ASKED, [wanted])
            if not cursor.fetchone()[0]:
                return None
            if attempt < TRIES - 1:
                time.sleep(PAUSE)
    raise RequestBusy


def settle(
    request: Locked,
    outcome: Outcome,
    using: str,
    *,
    reason: str = "",
    by: str = "",
    told: str | None = None,
) -> bool:
    """Settle a locked request, unless that is done; tell whether this has done it.

    `told` is the id of the message that tells handlers here of it.
    """
    reason, by = reason[:MAX_ATTRIBUTE], bounded(by)
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                sql.SETTLE,
                {
                    "request": request.pk,
                    "outcome": outcome.value,
                    "reason": reason,
                    "by": by,
                    "told": told,
                    "expiry": request.expiry_id,
                },
            )
            return bool(cursor.rowcount)
    if Settlement.objects.using(using).filter(pk=request.pk).exists():
        return False
    Settlement(
        pk=request.pk,
        outcome=outcome,
        settled_at=database_now(using),
        reason=reason,
        by=by,
        told_id=told,
    ).save(using=using, force_insert=True)
    cancel_scheduled(request.expiry_id, using)
    return True


def keep(
    request: Locked,
    reply: Envelope,
    using: str,
    *,
    counts: bool,
    by: str = "",
    told: str | None = None,
) -> Kept | None:
    """Keep a reply of a locked request, which it settles if it is the last that was wanted.

    `counts`: it is one that the request can be answered with. None if it is there already.
    """
    values: dict[str, Any] = {
        "message_id": bounded(reply.id),
        "source": bounded(reply.source),
        "type": bounded(reply.type),
        "version": reply.version,
        "content_type": bounded(reply.content_type),
        "data": reply.data,
        "group": bounded(str(reply.attributes.get(REPLY_GROUP, ""))),
    }
    connection = connections[using]
    if connection.vendor != "postgresql":
        return _portable_keep(request, values, using, counts=counts, by=by, told=told)
    large = len(reply.data) > LARGE
    with large_cursor(connection) if large else connection.cursor() as cursor:
        cursor.execute(
            sql.ANSWER,
            values
            | {
                "request": request.pk,
                "wanted": request.wanted,
                "expiry": request.expiry_id,
                "outcome": Outcome.ANSWERED.value,
                "counts": counts,
                "by": bounded(by),
                "told": told,
            },
        )
        row = cursor.fetchone()
        return None if row is None else Kept(*row)


def _portable_lock(wanted: UUID, using: str) -> Locked | None:
    """Return a request where there is one writer at a time, which is this one."""
    found = Request.objects.using(using).filter(message_id=wanted).first()
    if found is None:
        return None
    return Locked(
        found.pk,
        found.message_id,
        found.type,
        found.version,
        found.correlation_id,
        found.wanted,
        found.deadline,
        found.expiry_id,
        bool(found.callback_url),
        found.owner,
    )


def _portable_keep(
    request: Locked, values: dict[str, Any], using: str, *, counts: bool, by: str, told: str | None
) -> Kept | None:
    replies = Reply.objects.using(using).filter(request=request.pk)
    if replies.filter(message_id=values["message_id"], source=values["source"]).exists():
        return None
    counting = replies.filter(number__isnull=False)
    counted = counting.count()
    second = counting.filter(source=values["source"], group=values["group"]).exists()
    ended = Settlement.objects.using(using).filter(pk=request.pk).exists()
    number = (
        counted + 1 if counts and not ended and not second and counted < request.wanted else None
    )
    Reply(request_id=request.pk, received_at=database_now(using), number=number, **values).save(
        using=using, force_insert=True
    )
    last = number == request.wanted
    return Kept(number, last and settle(request, Outcome.ANSWERED, using, by=by, told=told))
