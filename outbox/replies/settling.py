"""Settle requests. The row of a settlement is unique: whoever inserts it first has done it.

Who handles a message must not wait for a request that another transaction has locked: expire(),
fail(), answer() and note_progress() raise RequestBusy then, to be called again later.
"""

import logging
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

import msgspec
from django.db import connections, transaction

from outbox.conf import outbox_settings
from outbox.database.clock import database_now
from outbox.error_text import storable
from outbox.exceptions import UnknownRequest
from outbox.extensions.settlements import is_wanted
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.message.ids import uuid7_text
from outbox.message.process_messages import asked_by
from outbox.models import Request, Settlement
from outbox.producer.writing import write_some_later
from outbox.replies import progress
from outbox.replies.callbacks import call_back
from outbox.replies.deadlines import is_reached
from outbox.replies.recording import Locked, keep, lock, settle
from outbox.replies.telling import tell, withdraw
from outbox.replies.waking import wake_on_commit
from outbox.states import Outcome

logger = logging.getLogger("outbox")

NOT_TOLD = "The message that tells of the deadline was lost, or was not read."
"""Why housekeeping has settled a request."""


def cancel(request_id: str, *, using: str, by: str = "") -> bool:
    """Settle a request as cancelled; tell whether this has done it. Raises UnknownRequest.

    Whoever answers is told, behind the request.
    """
    with _in_transaction(using):
        request = lock(request_id, using, wait=True)
        if request is None:
            raise UnknownRequest(f"There is no request {request_id} in {using!r}.")
        if not _settle(request, Outcome.CANCELLED, using, by=storable(by)):
            return False
        withdraw(Request.objects.using(using).get(pk=request.pk), using)
        return True


def expire(request_id: str, message: Envelope, *, using: str) -> bool:
    """Settle a request whose deadline has passed, if it is pending; tell whether this has done it.

    The deadline is by the clock of the database, whoever says that it has come. If that clock was
    set back since our own `message` about it was delivered, as by a failover, we are told again.
    """
    with _in_transaction(using):
        request = lock(request_id, using, wait=False)
        if request is None:
            return False
        if database_now(using) >= request.deadline or is_reached(request.deadline):
            return _settle(request, Outcome.EXPIRED, using)
        if message.id == str(request.expiry_id):
            _tell_again(request, message, using)
        return False


def give_up(request_id: str, before: datetime, *, using: str, by: str) -> bool:
    """Settle a request as expired whose deadline was before a time; tell whether this has done it.

    That time is by the clock of the database. For a request of whose deadline nobody was told.
    """
    with _in_transaction(using):
        request = lock(request_id, using, wait=False)
        if request is None or request.deadline >= before:
            return False
        return _settle(request, Outcome.EXPIRED, using, reason=NOT_TOLD, by=by)


def fail(request_id: str, reason: str, *, using: str, by: str) -> bool:
    """Settle a request that nobody can answer, if it is pending; tell whether this has done it.

    One that wants several replies goes on without this one: others may answer until the deadline.
    """
    with _in_transaction(using):
        request = lock(request_id, using, wait=False)
        if request is None:
            return False
        if request.wanted > 1:
            logger.warning(
                "One of those who are to answer request %s cannot: %s",
                request.message_id,
                storable(reason),
            )
            return False
        return _settle(request, Outcome.FAILED, using, reason=storable(reason), by=by)


def answer(request_id: str, reply: Envelope, *, using: str, by: str = "") -> bool:
    """Keep a reply; settle its request if that has all it wanted. Tell whether this reply counts.

    What comes late, is the second of a group, is no reply that the request declares, or is there
    already changes nothing.
    """
    with _in_transaction(using):
        request = lock(request_id, using, wait=False)
        if request is None:
            logger.warning(
                "A reply of %s to request %s is dropped: there is no such request here.",
                bounded(reply.source),
                bounded(request_id),
            )
            return False
        declared = _is_declared(request, reply)
        told = _telling(request)
        kept = keep(request, reply, using, counts=declared, by=by, told=told)
        if kept is None:  # receipts in another database cannot commit together with it
            return False
        if not declared:
            logger.warning(
                "A reply of %s to request %s does not count: %s does not declare %s as a reply.",
                bounded(reply.source),
                request.message_id,
                request.type,
                bounded(reply.type),
            )
        elif kept.number is None:
            logger.info(
                "A reply to request %s is late, or the second of its group, and changes nothing.",
                request.message_id,
            )
        if kept.settles:
            _tell(request, told, using)
        return kept.number is not None


def note_progress(request_id: str, event: object, at: datetime | None, *, using: str) -> bool:
    """Keep what somebody has said of progress, as progress.note() says."""
    with _in_transaction(using):
        request = lock(request_id, using, wait=False)
        return request is not None and progress.note(request_id, event, at, using=using)


def _in_transaction(using: str) -> AbstractContextManager[None]:
    """Return the running transaction, or one that begins; no savepoint, as one statement writes."""
    running = connections[using].in_atomic_block
    return nullcontext() if running else transaction.atomic(using=using)


def _is_declared(request: Locked, reply: Envelope) -> bool:
    """Tell whether a request can be answered with a reply; if it is not known here, with any."""
    asked = registry.find(request.type, request.version)
    if asked is None or not asked.is_request:
        return True
    return any(registry.of_class(each).name == reply.type for each in asked.replies)


def _settle(
    request: Locked, outcome: Outcome, using: str, *, reason: str = "", by: str = ""
) -> bool:
    told = _telling(request)
    done = settle(request, outcome, using, reason=reason, by=by, told=told)
    if done:
        _tell(request, told, using)
    return done


def _telling(request: Locked) -> str | None:
    """Return the id of the message that is to tell handlers here of the end; None if none wants."""
    wanted = is_wanted(request.type, request.version) or asked_by(request.owner)
    return uuid7_text() if wanted else None


def _tell(request: Locked, told: str | None, using: str) -> None:
    """Tell those who want to know that a request has ended."""
    if told is not None:
        tell(request, told, using)
    if request.is_called_back:
        call_back(
            Settlement.objects.using(using).select_related("request").get(pk=request.pk), using
        )
    wake_on_commit(using, request.message_id)


def _tell_again(request: Locked, message: Envelope, using: str) -> None:
    """Schedule what says that the deadline has come once more, under another id."""
    again = msgspec.structs.replace(message, id=uuid7_text())
    write_some_later(connections[using], [again], [request.deadline], outbox_settings())
    Request.objects.using(using).filter(pk=request.pk).update(expiry_id=again.id)
