"""What brokers have refused, for the page of failures."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime

from django.db.models import QuerySet
from django.db.models.functions import Left
from django.utils.translation import gettext_lazy as _

from outbox.conf import outbox_settings
from outbox.error_text import masked
from outbox.extensions.failures import (
    LIMIT,
    Came,
    Example,
    Failure,
    FailureSource,
    Sample,
    register_source,
)
from outbox.filtering.grammar import term
from outbox.producer.writing import write_database
from relay.models import Parked
from relay.states import OPEN, ParkedState

READ_ERROR = 300
"""Characters of an error that are read to group it."""
LOOKED_AT = 50_000
"""Open rows that are looked at: those that wait behind others stand among them."""
REFUSED = (ParkedState.PARKED, ParkedState.DEAD)
"""States of what was refused itself."""
_COLUMNS = ("pk", "relay", "topic", "reason", "text", "state", "parked_at", "changed")


class ParkedFailures(FailureSource):
    """Parked messages, by relay, topic and what the broker says."""

    name = "parked"
    title = _("Parked messages")
    by_title = _("Relay")
    empty = _("No message is parked.")
    model = Parked
    place = 30
    retry = "requeue"

    def database(self) -> str:
        return write_database()

    def newest(self, using: str, limit: int = LIMIT) -> Sample:
        rows = _refused(using).filter(pk__in=_open(using).values("pk")).order_by("-pk")
        found = [_of_row(*row) for row in rows.values_list(*_COLUMNS)[: limit + 1]]
        more = len(found) > limit or _open(using, LOOKED_AT).exists()
        return Sample(found[:limit], more)

    def between(self, after: int, until: int, *, most: int, using: str) -> Sequence[Failure]:
        rows = _refused(using).filter(pk__in=_open(using).values("pk"))
        chosen = rows.filter(pk__gt=after, pk__lte=until).order_by("pk")
        return [_of_row(*row) for row in chosen.values_list(*_COLUMNS)[:most]]

    def named(self, numbers: Collection[int], using: str) -> Sequence[Failure]:
        rows = _refused(using).filter(pk__in=numbers)
        return [_of_row(*row) for row in rows.values_list(*_COLUMNS)]

    def came(self, numbers: Collection[int], using: str) -> Came:
        rows = Parked.objects.using(using).filter(pk__in=numbers)
        counts: Counter[str] = Counter()
        error = ""
        for state, attempts, said in rows.values_list("state", "attempts", Left("error", 400)):
            if state in REFUSED and (attempts or state == ParkedState.DEAD):
                counts["failed"] += 1
                error = error or said
            elif state in REFUSED:
                counts["untried"] += 1
            else:
                counts["behind" if state == ParkedState.WAITING else "handled"] += 1
        return Came(**counts, error=error)

    def example(self, number: int, using: str) -> Example | None:
        found = Parked.objects.using(using).filter(pk=number)
        error = found.values_list("error", flat=True).first()
        return None if error is None else Example(masked(error, tuple(outbox_settings().REDACT)))

    def filter(self, failure: Failure) -> str:
        relay = failure.by.partition(" → ")[0]
        terms = (("state", failure.state), ("relay", relay), ("reason", failure.error_class))
        return " ".join(term(name, value) for name, value in terms)


def _open(using: str, start: int = 0) -> QuerySet[Parked]:
    """Return a bounded part of what is open, in the index that has it and in no order.

    By number, all that was ever parked would be looked through.
    """
    return Parked.objects.using(using).filter(state__in=OPEN)[start : start + LOOKED_AT]


def _refused(using: str) -> QuerySet[Parked]:
    return (
        Parked.objects.using(using)
        .filter(state__in=REFUSED)
        .annotate(text=Left("error", READ_ERROR))
    )


def _of_row(
    number: int,
    relay: str,
    topic: str,
    reason: str,
    text: str,
    state: str,
    parked_at: datetime,
    changed: datetime | None,
) -> Failure:
    return Failure(
        number=number,
        by=f"{relay} → {topic}",
        error_class=reason,
        text=text,
        state=state,
        began=parked_at,
        failed=changed or parked_at,
    )


def register() -> None:
    """Show what brokers have refused on the page of failures."""
    register_source(ParkedFailures())
