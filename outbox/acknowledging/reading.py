"""How a message stands with the groups that are to acknowledge it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asgiref.sync import sync_to_async

from outbox.database.event_loop import no_coroutine
from outbox.exceptions import InvalidMessageId
from outbox.producer.writing import write_database


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """How a message stands with one group. All times are in UTC, by the clock of the database.

    `state` is "awaited"; what the group has told: "handled", "skipped" or "dead"; "missing" if it
    has told nothing and the message was sent again as often as is allowed; or "given_up". `sent_at`
    is when it was emitted, `told_at` when the group told, `due_at` when it is looked at again,
    `resends` how often it was sent again, `hold` why it was not when that was due, "" if it was.
    """

    group: str
    state: str
    sent_at: datetime
    told_at: datetime | None
    due_at: datetime | None
    resends: int
    hold: str


def acknowledgements(message_id: str | UUID, *, using: str | None = None) -> list[GroupState]:
    """Return how a message stands with each group that is to acknowledge it, by their names.

    Nothing for a message whose event type does not ask for it, or that is not known any more. One
    statement. Raises InvalidMessageId for what is no message id.
    """
    from outbox.models import Acknowledgement  # noqa: PLC0415 - models are not loaded at import

    try:
        wanted = UUID(str(message_id))
    except ValueError:
        raise InvalidMessageId(
            f"{message_id!r} is no message id, which is a UUID: give acknowledgements() the `id` "
            "of what emit() has returned."
        ) from None
    with no_coroutine("acknowledgements()", "aacknowledgements()"):
        rows = Acknowledgement.objects.using(using or write_database())
        return [
            GroupState(
                group=row.group,
                state=str(row.state),
                sent_at=row.sent_at,
                told_at=row.told_at,
                due_at=row.due_at,
                resends=row.resends,
                hold=str(row.hold),
            )
            for row in rows.filter(message_id=wanted).order_by("group")
        ]


async def aacknowledgements(
    message_id: str | UUID, *, using: str | None = None
) -> list[GroupState]:
    """Run acknowledgements() in the thread that holds this task's database connections."""
    return await sync_to_async(acknowledgements)(message_id, using=using)
