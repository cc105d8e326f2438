"""What people do about requests."""

from collections.abc import Collection

from outbox.models import Request
from outbox.operations import Operation
from outbox.replies.settling import cancel
from outbox.states import Outcome


def _cancel(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
    """Settle requests as cancelled that have not ended."""
    asked = Request.objects.using(using).filter(pk__in=numbers).order_by("pk")
    ids = asked.values_list("pk", "message_id")
    return [number for number, name in ids if cancel(str(name), using=using, by=by)]


CANCEL = Operation(
    model=Request,
    verb="cancel",
    perform=_cancel,
    written="Cancelled.",
    target=Outcome.CANCELLED,
)
