"""Forget requests that nobody has answered for as long as receipts are kept."""

from datetime import datetime

from django.db import router

from inbox.conf import inbox_settings
from inbox.models import OpenRequest
from outbox.extensions.pruning import cutoff, register_pruner


class Unanswered:
    """Deletes, or only counts, open requests that came in before a time: a pruning.Prune.

    Whoever asked has seen its deadline pass; an answer would find no request there.
    """

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        keep = inbox_settings().retention
        if keep is None:
            return 0
        rows = OpenRequest.objects.using(using)
        old = rows.filter(opened_at__lt=min(before, cutoff(using, keep)))
        if not self._delete:
            return old[:limit].count()
        found = list(old.order_by("opened_at").values_list("pk", flat=True)[:limit])
        return rows.filter(pk__in=found).delete()[0]


def oldest(using: str) -> datetime | None:
    """Return since when the first open request is there."""
    rows = OpenRequest.objects.using(using).order_by("opened_at")
    return rows.values_list("opened_at", flat=True).first()


def register() -> None:
    """Let outbox_prune and all housekeeping reach open requests."""
    register_pruner(
        "open requests",
        Unanswered(delete=True),
        count=Unanswered(delete=False),
        database=lambda: router.db_for_write(OpenRequest),
        window=lambda: inbox_settings().retention,
        oldest=oldest,
        place=150,
    )
