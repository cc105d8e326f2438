"""Who is first of its key now: what a waiting message waits behind, derived and stored nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, OuterRef, Subquery

from outbox.conf import outbox_settings
from outbox.error_text import masked
from relay.models import Parked
from relay.parking.store import open_rows
from relay.states import ParkedState

SHOWN = 10
"""Keys that are told, those with most messages waiting first."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first open message of a key, and how many wait behind it."""

    row: Parked
    waiting: int

    def __str__(self) -> str:
        error = masked(self.row.error, tuple(outbox_settings().REDACT))
        return (
            f"{self.waiting:,} wait behind {self.row.type} {self.row.message_id} of key "
            f"{self.row.key!r}, {self.row.state}: {self.row.reason}: {error}"
        )


def heads(rows: Sequence[Parked], using: str) -> dict[int, Parked]:
    """Return what each of these rows waits behind now, by its id; only of those that wait.

    One that nothing is left before, which its next turn will show, is its own head. Two statements,
    by index, or none.
    """
    waiting = [row.pk for row in rows if row.state == ParkedState.WAITING]
    if not waiting:
        return {}
    first = open_rows(using).filter(relay=OuterRef("relay"), key=OuterRef("key"))
    found = dict(
        Parked.objects.using(using)
        .filter(pk__in=waiting, key__isnull=False)
        .values_list("pk", Subquery(first.order_by("position").values("pk")[:1]))
    )
    by_id = Parked.objects.using(using).in_bulk(set(found.values()) - {None})
    return {pk: by_id[head] for pk, head in found.items() if head in by_id}


def longest(using: str, relay: str | None = None, limit: int = SHOWN) -> list[Head]:
    """Return the heads that most messages wait behind, those first. Two statements."""
    waiting = open_rows(using).filter(state=ParkedState.WAITING, key__isnull=False)
    if relay is not None:
        waiting = waiting.filter(relay=relay)
    first = open_rows(using).filter(relay=OuterRef("relay"), key=OuterRef("key"))
    counted = (
        waiting.values("relay", "key")
        .annotate(count=Count("pk"))
        .order_by("-count", "relay", "key")
        .values_list("count", Subquery(first.order_by("position").values("pk")[:1]))
    )
    found = list(counted[:limit])
    by_id = Parked.objects.using(using).in_bulk([head for _, head in found])
    return [
        # One that waits in vain is its own head.
        Head(by_id[head], count - (by_id[head].state == ParkedState.WAITING))
        for count, head in found
        if head in by_id
    ]
