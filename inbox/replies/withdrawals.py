"""Take note that whoever asked wants no answer any more: what was not handled yet is skipped.

That a request is cancelled comes as a message behind it. What becomes of the request is written at
the end of the transaction in which that is received, when everything else is written: it may have
been received in the same one. A request that has not come yet gets its receipts already, so that
it is skipped whenever it comes. A handler that is at it is waited for.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from django.db import connections, router
from django.db.models import Q
from django.db.models.functions import Now

from inbox.handlers.ordering import LineKey
from inbox.handlers.registry import Handler, handlers
from inbox.ledger.ledger import Ledger
from inbox.ledger.rows import Claim, Kept, MessageName, Row, Settled, Settlement
from inbox.models import OpenRequest, Receipt
from inbox.replies.answering import answers
from inbox.states import Event, Reason, State, after, states_before
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.message.requests import CANCELLED, IN_REPLY_TO

NAME = "outbox.withdrawals"
MAX_DATA = 10_000
"""Bytes of what says that a request is cancelled; of more nothing is read."""
TOLD = "Whoever asked has cancelled the request."


def _note(event: Any, message: Envelope) -> None:
    """Do nothing yet: what follows is written with the receipt."""


WITHDRAWALS = Handler(name=NAME, pattern=CANCELLED, function=_note, in_every_group=True)


class Target(NamedTuple):
    """A request that is cancelled, with one of the handlers that were to answer it."""

    handler: Handler
    source: str
    message_id: str
    type: str
    correlation_id: str | None
    key: str | None

    @property
    def claim(self) -> Claim:
        """What the receipt of the handler is unique by."""
        return (self.message_id, self.handler.name, self.source)

    @property
    def row(self) -> Row:
        """What Ledger.claim() takes."""
        return (self.handler.name, self.source, self.message_id, self.type, self.correlation_id)

    @property
    def line(self) -> LineKey | None:
        """The line in which the handler keeps the request, if any."""
        if not self.handler.ordered or self.key is None:
            return None
        return LineKey(self.handler.name, self.source, self.key)

    def settlement(self, state: State | None) -> Settlement:
        """Return what follows for a request in a state, None for one that comes in."""
        return Settlement(
            self.handler,
            MessageName(self.message_id, self.type),
            after(state, Event.CANCELLED),
            reason=Reason.CANCELLED,
            error=TOLD,
        )


def targets(envelope: Envelope) -> list[Target]:
    """Return what a message cancels: requests of its own source alone.

    Handlers with a sequence are left out, for they would wait for the number of the request.
    """
    if envelope.type != CANCELLED or len(envelope.data) > MAX_DATA:
        return []
    request_id = envelope.attributes.get(IN_REPLY_TO)
    try:
        about = json.loads(envelope.data)
        event_type, version = about["type"], about["version"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return []
    if (
        not isinstance(request_id, str)
        or not isinstance(event_type, str)
        or type(version) is not int
    ):
        return []
    return [
        Target(
            handler=each,
            source=bounded(envelope.source),
            message_id=bounded(request_id),
            type=event_type,
            correlation_id=envelope.correlation_id and bounded(envelope.correlation_id),
            key=envelope.key and bounded(envelope.key),
        )
        for each in handlers
        if each.sequence is None and answers(each, event_type, version) is not None
    ]


def in_advance(found: Iterable[Target], claims: dict[Claim, int]) -> list[Kept]:
    """Return the receipts of requests that have not come yet; take them out of the claims."""
    return [
        Kept(number, each.settlement(None))
        for each in found
        if (number := claims.pop(each.claim, None)) is not None
    ]


def apply(ledger: Ledger, withdrawn: Sequence[Envelope]) -> bool:
    """Skip what is cancelled and not handled yet, and close what was to be answered later.

    When everything else of the transaction is written. Returns whether others may go on now.
    """
    found = {target.claim: target for each in withdrawn for target in targets(each)}
    if not found:
        return False
    lines = {line for each in found.values() if (line := each.line) is not None}
    ledger.lock(lines)
    claims = ledger.claim([found[claim].row for claim in sorted(found)])
    ledger.keep(in_advance([found[claim] for claim in sorted(claims)], dict(claims)))
    known = {claim: each for claim, each in found.items() if claim not in claims}
    if not known:
        return False
    _skip(ledger, known)
    _close(ledger, known)
    ledger.wake(dict.fromkeys(lines, 0.0))
    return bool(lines)


def _skip(ledger: Ledger, known: dict[Claim, Target]) -> None:
    rows = Receipt.objects.using(ledger.using).filter(
        _named(known), state__in=states_before(Event.CANCELLED)
    )
    if connections[ledger.using].features.has_select_for_update:
        rows = rows.select_for_update()
    columns = ("pk", "message_id", "handler", "source", "state", "attempts", "last_attempts")
    ledger.settle(
        [
            Settled(number, target.settlement(State(state)).following(attempts, last))
            for number, *claim, state, attempts, last in rows.order_by("pk").values_list(*columns)
            if (target := known.get((claim[0], claim[1], claim[2]))) is not None
        ]
    )


def _close(ledger: Ledger, known: dict[Claim, Target]) -> None:
    """Delete open requests. Their receipts stay processed, since their handlers have run."""
    using = router.db_for_write(OpenRequest)
    rows = OpenRequest.objects.using(using)
    named = rows.filter(_named(known)).order_by("pk")
    found = [
        (number, (message_id, handler, source))
        for number, message_id, handler, source in named.values_list(
            "pk", "message_id", "handler", "source"
        )
        if (message_id, handler, source) in known
    ]
    if not found:
        return
    rows.filter(pk__in=[number for number, _ in found]).delete()
    claims = {claim for _, claim in found}
    receipts = Receipt.objects.using(ledger.using).filter(_named(claims), state=State.PROCESSED)
    receipts.update(reason=Reason.CANCELLED, error=TOLD, changed=Now())


def _named(claims: Collection[Claim]) -> Q:
    """Select the rows of claims, and perhaps those of other handlers of theirs."""
    names = {handler for _, handler, _ in claims}
    wanted = Q(pk__in=[])
    for message_id, source in sorted({(message_id, source) for message_id, _, source in claims}):
        wanted |= Q(message_id=message_id, source=source)
    return wanted & Q(handler__in=names)
