"""What people do about acknowledgements that are missing."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db import connections

from outbox.database.clock import database_now
from outbox.database.transactions import own_transaction
from outbox.models import Acknowledgement
from outbox.operations import Operation
from outbox.states import Acknowledged

LOST = (Acknowledged.MISSING, Acknowledged.GIVEN_UP)
OPEN = (Acknowledged.AWAITED, Acknowledged.MISSING)


def _resend(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
    """Let messages be sent again with the next turn, with all their resends before them."""
    due = database_now(using)
    return _change(numbers, LOST, using, state=Acknowledged.AWAITED, due_at=due, resends=0, hold="")


def _give_up(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
    """Wait for acknowledgements no longer."""
    return _change(numbers, OPEN, using, state=Acknowledged.GIVEN_UP, due_at=None, hold="")


def _change(
    numbers: Collection[int], states: Sequence[str], using: str, **values: Any
) -> Collection[int]:
    with own_transaction(using, durable=False):
        rows = Acknowledgement.objects.using(using)
        found = rows.filter(pk__in=numbers, state__in=states)
        if connections[using].features.has_select_for_update:
            found = found.select_for_update()  # what is told meanwhile stands
        changed = list(found.order_by("pk").values_list("pk", flat=True))
        rows.filter(pk__in=changed).update(**values)
    return changed


OF_ACKNOWLEDGEMENTS: Mapping[str, Operation] = {
    "resend": Operation(
        model=Acknowledgement,
        verb="resend",
        perform=_resend,
        written="To be sent again.",
        states=LOST,
        target=Acknowledged.AWAITED,
    ),
    "give_up": Operation(
        model=Acknowledgement,
        verb="give_up",
        perform=_give_up,
        written="Given up.",
        states=OPEN,
        target=Acknowledged.GIVEN_UP,
    ),
}
