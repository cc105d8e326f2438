"""Forget requests that ended long ago, with their replies."""

from datetime import datetime

from outbox.extensions.pruning import register_pruner
from outbox.models import Request, Settlement


class Ended:
    """Deletes, or only counts, requests that were settled before a time: a pruning.Prune.

    Their idempotency keys are forgotten with them. One that is pending stays, whatever its age.
    """

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        rows = Settlement.objects.using(using).filter(settled_at__lt=before)
        if not self._delete:
            return rows[:limit].count()
        found = list(rows.order_by("settled_at").values_list("request", flat=True)[:limit])
        if found:
            Request.objects.using(using).filter(pk__in=found).delete()
        return len(found)


def oldest(using: str) -> datetime | None:
    """Return when the first request ended that is still known."""
    rows = Settlement.objects.using(using).order_by("settled_at")
    return rows.values_list("settled_at", flat=True).first()


def register() -> None:
    """Let outbox_prune and the housekeeping reach requests."""
    register_pruner(
        "requests",
        Ended(delete=True),
        count=Ended(delete=False),
        oldest=oldest,
        place=150,  # behind messages and receipts, of which there are more
    )
