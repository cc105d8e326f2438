"""Receive one message that a caller gives, and tell what became of it with each handler."""

from collections.abc import Iterable

from django.db import router
from django.db.models import QuerySet
from django.db.models.functions import Now

from inbox.delivery import Delivery
from inbox.handlers.registry import handlers
from inbox.ledger.rows import Settlement
from inbox.models import Receipt
from inbox.receiving.batch import Batch
from inbox.receiving.retries import Retries
from inbox.receiving.settlement import name_of
from inbox.states import State
from outbox.exceptions import UndecodableMessage
from outbox.extensions.handling import Handled
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope


def handle(envelope: Envelope, *, using: str | None, group: str | None) -> list[Handled]:
    """Handle a message with the handlers of a group, or of all; see outbox.extensions.handling."""
    alias = using or router.db_for_write(Receipt)
    wanting = handlers.for_message(envelope, group)
    if not wanting:
        return []
    receipts = Receipt.objects.using(alias).filter(
        message_id=bounded(envelope.id),
        source=bounded(envelope.source),
        handler__in=[each.name for each in wanting],
    )
    before = set(receipts.values_list("handler", flat=True))
    settlements = _retry(receipts, alias, group)
    retried = {each.handler.name for each in settlements if each.message == name_of(envelope)}
    batch = Batch([Delivery.of(envelope)], using=alias, group=group, keep_letters=False)
    batch.receive()
    found = {receipt.handler: receipt for receipt in receipts.all()}
    if batch.unusable and not found:
        raise UndecodableMessage(batch.unusable[0].error)
    raised = _raised([*settlements, *batch.settlements], envelope)
    return [
        Handled(
            handler=each.name,
            state=str(found[each.name].state),
            error=found[each.name].error or "",
            duplicate=each.name in before - retried,
            exc=raised.get(each.name),
        )
        for each in wanting
        if each.name in found
    ]


def _retry(receipts: QuerySet[Receipt], using: str, group: str | None) -> list[Settlement]:
    """Try what has failed again, as if its pause were over, and what waited if it is its turn now.

    Returns what became of it.
    """
    failed = receipts.filter(state=State.RETRYING).update(next_attempt_at=Now())
    turns = receipts.filter(state=State.WAITING, next_attempt_at__lte=Now())
    if not failed and not turns.exists():
        return []
    retries = Retries(using, group)
    retries.turn()
    return retries.settlements


def _raised(
    settlements: Iterable[Settlement], envelope: Envelope
) -> dict[str, BaseException | None]:
    message = name_of(envelope)
    return {each.handler.name: each.exc for each in settlements if each.message == message}
