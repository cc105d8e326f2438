"""Forget totals of buckets, and breaks that are over, after as long as messages are kept."""

from datetime import datetime

from outbox.extensions.pruning import register_pruner
from outbox.models import Break, BucketTotal
from outbox.states import BreakState

OVER = (BreakState.REPAIRED, BreakState.ACCEPTED)


class Totals:
    """Deletes, or only counts, totals that were made before a time: a pruning.Prune."""

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        rows = BucketTotal.objects.using(using)
        old = rows.filter(made__lt=before)
        if not self._delete:
            return old[:limit].count()
        found = list(old.order_by("made").values_list("pk", flat=True)[:limit])
        return rows.filter(pk__in=found).delete()[0]


class Breaks:
    """Deletes, or only counts, breaks that were repaired or accepted before a time.

    One that is open stays, whatever its age.
    """

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        rows = Break.objects.using(using)
        old = rows.filter(changed__lt=before, state__in=OVER)
        if not self._delete:
            return old[:limit].count()
        found = list(old.order_by("changed").values_list("pk", flat=True)[:limit])
        return rows.filter(pk__in=found).delete()[0]


def oldest_total(using: str) -> datetime | None:
    """Return when the oldest total was made."""
    rows = BucketTotal.objects.using(using).order_by("made")
    return rows.values_list("made", flat=True).first()


def oldest_break(using: str) -> datetime | None:
    """Return since when the oldest break is over."""
    rows = Break.objects.using(using).filter(state__in=OVER).order_by("changed")
    return rows.values_list("changed", flat=True).first()


def register() -> None:
    """Let outbox_prune and the housekeeping reach what statements leave behind."""
    register_pruner(
        "totals of buckets",
        Totals(delete=True),
        count=Totals(delete=False),
        oldest=oldest_total,
        place=160,
    )
    register_pruner(
        "breaks", Breaks(delete=True), count=Breaks(delete=False), oldest=oldest_break, place=161
    )
