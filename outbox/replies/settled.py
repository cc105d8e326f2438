"""How a request has ended, as it is told to whoever goes on from there."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from outbox.message import codec
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.message.requests import IN_REPLY_TO
from outbox.replies.asked import event_of
from outbox.states import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A request that has ended: its id, its `state`, and the replies that count, in their order.

    `state` is "answered", "failed", "expired" or "cancelled"; `reason` says what has failed, `by`
    whose source, or who, has settled it, `at` when. `owner` is what ask() was given.
    """

    id: str
    type: str
    state: str
    replies: tuple[Any, ...]
    reason: str
    by: str
    at: datetime
    owner: str
    correlation_id: str

    @property
    def reply(self) -> Any:
        """The first of the replies; None if there is none."""
        return self.replies[0] if self.replies else None


def told_by(message: Envelope, *, using: str) -> Settled | None:
    """Return the end that a message tells of; None if it is not the one that was sent for it.

    So nobody else's message can tell it again. Two statements.
    """
    from outbox.models import Reply, Settlement  # noqa: PLC0415 - models are not loaded at import

    request_id, told = _uuid(message.attributes.get(IN_REPLY_TO)), _uuid(message.id)
    if request_id is None or told is None:
        return None
    rows = Settlement.objects.using(using).select_related("request")
    found = rows.filter(request__message_id=request_id, told_id=told).first()
    if found is None:
        return None
    replies = Reply.objects.using(using).filter(request=found.pk, number__isnull=False)
    return Settled(
        id=str(request_id),
        type=found.request.type,
        state=Outcome(found.outcome).value,
        replies=tuple(event_of(each) for each in replies.order_by("number")),
        reason=found.reason,
        by=found.by,
        at=found.settled_at,
        owner=found.request.owner,
        correlation_id=found.request.correlation_id,
    )


def request_of(settled: Settled, *, using: str) -> Any:
    """Return what was asked, of its class if that is known; None if the log has forgotten it."""
    from outbox.models import Message  # noqa: PLC0415 - models are not loaded at import

    row = Message.objects.using(using).filter(message_id=UUID(settled.id)).first()
    if row is None:
        return None
    return codec.decode(row.as_envelope(), registry.find(row.type, row.version))


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
