"""What the doctor asks about requests: whether they are answered."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta

from outbox.database import instants
from outbox.extensions.diagnosis import Finding, Level
from outbox.models import Request, Settlement
from outbox.states import Outcome

COUNTED = 1000
"""Ends that are looked at, the newest."""
RECENT = timedelta(days=1)
FEW = 3
"""Ends of a type that say nothing yet."""


def examine(using: str) -> Iterator[Finding]:
    """Tell of types of requests that have failed or expired more often than they were answered."""
    rows = Settlement.objects.using(using).filter(settled_at__gt=instants.now() - RECENT)
    newest = rows.order_by("-settled_at").values_list("request__type", "outcome")[:COUNTED]
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for request_type, outcome in newest:
        ends[request_type][outcome] += 1
    for request_type, found in sorted(ends.items()):
        failed, expired = found[Outcome.FAILED], found[Outcome.EXPIRED]
        if failed + expired < FEW or failed + expired <= found[Outcome.ANSWERED]:
            continue
        yield Finding(
            level=Level.WARNING,
            id="outbox.unanswered",
            about=request_type,
            rows=f"{Request._meta.label_lower}?type:{request_type} state:expired,failed age:<1d",
            title=f"Requests {request_type} are seldom answered",
            text=f"Of the newest of the last day {expired:,} have expired, {failed:,} have failed, "
            f"and {found[Outcome.ANSWERED]:,} were answered.",
            hint="If they expire: is a service there that answers them, is its queue read, and is "
            "within= long enough? If they fail: the reason stands at each, in the admin under "
            "Requests; mend the handler there.",
            figures={
                "expired": expired,
                "failed": failed,
                "answered": found[Outcome.ANSWERED],
            },
        )
