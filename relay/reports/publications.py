"""When and by whom a message was published: the first checkpoint of a chain that covers it."""

from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS, connections

from outbox.models import Message
from relay.models import Checkpoint, Parked
from relay.reports.state import State
from relay.sql import reports as sql


@dataclass(frozen=True, slots=True)
class Publication:
    """What the chain of one relay says about one message.

    `checkpoint` belongs to the page that settled it; None if it is pending, if that page's
    checkpoint is no longer kept, or if it was `before_move`: checkpoints from before the database
    was restored or moved do not tell which of them it was. `parked` is what became of it apart
    from any page.
    """

    relay: str
    state: State
    checkpoint: Checkpoint | None = None
    before_move: bool = False
    parked: Parked | None = None


def publications(message: Message, relays: list[str]) -> list[Publication]:
    """Return what `relays`, and all others that have checkpoints, did with a message.

    Two statements, a few dozen index lookups for each relay, however long the chains are.
    """
    using = message._state.db or DEFAULT_DB_ALIAS
    parameters = {
        "lane": message.lane,
        "transaction_id": str(message.transaction_id),
        "position": message.position,
    }
    covering = sql.covering(connections[using].vendor)
    found: dict[str, Publication] = {}
    for checkpoint in Checkpoint.objects.using(using).raw(covering, parameters):
        publication = _publication(message, checkpoint)
        if publication.state == State.SKIPPED or checkpoint.relay not in found:
            found[checkpoint.relay] = publication
    for row in Parked.objects.using(using).filter(position=message.position):
        page = found[row.relay].checkpoint if row.relay in found else None
        found[row.relay] = Publication(row.relay, State(row.state), page, parked=row)
    names = dict.fromkeys([*relays, *found])
    return [found.get(name, Publication(name, State.PENDING)) for name in names]


def _publication(message: Message, covering: Checkpoint) -> Publication:
    skips = vars(covering)["skips"]
    if skips and covering.previous == 0:
        return Publication(covering.relay, State.SKIPPED)
    page = range(covering.first_position, covering.position + 1)
    if skips or message.position not in page:
        return Publication(covering.relay, State.PUBLISHED, before_move=_is_rebased(covering))
    return Publication(covering.relay, State.PUBLISHED, covering)


def _is_rebased(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint is a cursor that was carried over from another cluster."""
    return (
        checkpoint.previous > 0
        and checkpoint.count == 0
        and checkpoint.floor == checkpoint.ceiling != ""
    )
