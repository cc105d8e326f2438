"""Settle requests. The row of a settlement is unique: whoever inserts it first has done it."""

import logging
from uuid import UUID

from django.db import connections, transaction

from outbox.database.clock import database_now
from outbox.exceptions import UnknownRequest
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.models import Reply, Request, Settlement
from outbox.producer.scheduling import cancel as cancel_scheduled
from outbox.replies.callbacks import call_back
from outbox.replies.waking import wake_on_commit
from outbox.replies.withdrawing import withdraw
from outbox.states import Outcome

logger = logging.getLogger("outbox")

MAX_REASON = 255


def cancel(request_id: str, *, using: str, by: str = "") -> bool:
    """Settle a request as cancelled; tell whether this has done it. Raises UnknownRequest.

    Whoever answers is told, behind the request.
    """
    with transaction.atomic(using=using):
        request = _locked(request_id, using)
        if request is None:
            raise UnknownRequest(f"There is no request {request_id} in {using!r}.")
        if not _settle(request, Outcome.CANCELLED, using, by=by):
            return False
        withdraw(request, using)
        return True


def expire(request_id: str, *, using: str) -> bool:
    """Settle a request whose deadline has passed, if it is pending; tell whether this has done it.

    The deadline is by the clock of the database, whoever says that it has come.
    """
    with transaction.atomic(using=using):
        request = _locked(request_id, using)
        if request is None or database_now(using) < request.deadline:
            return False
        return _settle(request, Outcome.EXPIRED, using)


def fail(request_id: str, reason: str, *, using: str, by: str) -> bool:
    """Settle a request that nobody can answer, if it is pending; tell whether this has done it."""
    with transaction.atomic(using=using):
        request = _locked(request_id, using)
        return request is not None and _settle(request, Outcome.FAILED, using, reason=reason, by=by)


def answer(request_id: str, reply: Envelope, *, using: str, by: str = "") -> bool:
    """Keep a reply; settle its request if that has all it wanted. Tell whether the reply counts.

    What comes late is kept as well, and changes nothing.
    """
    with transaction.atomic(using=using):
        request = _locked(request_id, using)
        if request is None:
            logger.warning(
                "A reply of %s to request %s is dropped: there is no such request here.",
                bounded(reply.source),
                bounded(request_id),
            )
            return False
        replies = Reply.objects.using(using).filter(request=request)
        same = replies.filter(message_id=bounded(reply.id), source=bounded(reply.source)).first()
        if same is not None:  # receipts in another database cannot commit together with it
            return same.number is not None
        counted = replies.filter(number__isnull=False).count()
        settled = Settlement.objects.using(using).filter(request=request).exists()
        number = None if settled or counted >= request.wanted else counted + 1
        Reply(
            request=request,
            message_id=bounded(reply.id),
            source=bounded(reply.source),
            type=bounded(reply.type),
            version=reply.version,
            content_type=bounded(reply.content_type),
            data=reply.data,
            received_at=database_now(using),
            number=number,
        ).save(using=using, force_insert=True)
        if number is None:
            logger.info("A reply to request %s is late, and changes nothing.", request.message_id)
        elif number == request.wanted:
            _settle(request, Outcome.ANSWERED, using, by=by)
        return number is not None


def _locked(request_id: str, using: str) -> Request | None:
    """Return a request, locked until the transaction ends, so that one at a time settles it."""
    try:
        wanted = UUID(request_id)
    except ValueError:
        return None
    rows = Request.objects.using(using)
    if connections[using].features.has_select_for_update:
        rows = rows.select_for_update()
    return rows.filter(message_id=wanted).first()


def _settle(
    request: Request, outcome: Outcome, using: str, *, reason: str = "", by: str = ""
) -> bool:
    if Settlement.objects.using(using).filter(request=request).exists():
        return False
    settlement = Settlement(
        request=request,
        outcome=outcome,
        settled_at=database_now(using),
        reason=reason[:MAX_REASON],
        by=by[:MAX_REASON],
    )
    settlement.save(using=using, force_insert=True)
    if request.callback_url:
        call_back(settlement, using)
    if outcome is not Outcome.EXPIRED:
        cancel_scheduled(request.expiry_id, using)
    wake_on_commit(using, str(request.message_id))
    return True
