"""When and by whom a message was published: the first checkpoint of a chain that covers it."""

from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS, connections

from outbox.models import Message
from relay import sql
from relay.models import Checkpoint, Parked
from relay.states import State


@dataclass(frozen=True, slots=True)
class Publication:
    """What the chain of one relay says about one message.

    `checkpoint` belongs to the page that settled it; None if it is pending, or if that
    page's checkpoint is no longer kept. `parked` is what became of it apart from any page.
    """

    relay: str
    state: State
    checkpoint: Checkpoint | None = None
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
        found[row.relay] = Publication(row.relay, State(row.state), page, row)
    names = dict.fromkeys([*relays, *found])
    return [found.get(name, Publication(name, State.PENDING)) for name in names]


def _publication(message: Message, covering: Checkpoint) -> Publication:
    skips = vars(covering)["skips"]
    if skips and covering.previous == 0:
        return Publication(covering.relay, State.SKIPPED)
    if skips or message.position < covering.first_position:
        return Publication(covering.relay, State.PUBLISHED)
    return Publication(covering.relay, State.PUBLISHED, covering)
