"""What has failed here, for the page of failures: receipts and dead letters."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import router
from django.db.models import BooleanField, ExpressionWrapper, Max, Q, QuerySet
from django.db.models.functions import Left
from django.utils.translation import gettext_lazy as _

from inbox import operator
from inbox.followup import follow
from inbox.handlers.registry import handlers
from inbox.ledger.masking import masked
from inbox.ledger.tracebacks import is_library
from inbox.models import DeadLetter, Receipt
from inbox.states import Reason, State
from outbox.extensions.failures import (
    LIMIT,
    Came,
    Example,
    Failure,
    FailureSource,
    Frame,
    Sample,
    register_source,
)
from outbox.failures.frames import own_frame
from outbox.failures.texts import parted
from outbox.filtering.grammar import term

READ_ERROR = 300
"""Characters of an error that are read to group it."""
LOOKED_AT = 20_000
"""Dead letters, the newest, that are looked at: no index tells which of them are open."""


class ReceiptFailures(FailureSource):
    """Receipts whose handlers have failed: those that are dead, or retrying."""

    name = "receipts"
    title = _("Receipts")
    by_title = _("Handler")
    empty = _("No handler fails.")
    model = Receipt
    place = 10
    states = (State.DEAD, State.RETRYING)

    def database(self) -> str:
        return router.db_for_write(Receipt)

    def newest(self, using: str, limit: int = LIMIT) -> Sample:
        found: list[Failure] = []
        cut = False
        for state in self.states:
            rows = _receipts(using).filter(state=state).order_by("-pk")
            part = [_of_receipt(*row) for row in rows.values_list(*_COLUMNS)[: limit + 1]]
            cut |= len(part) > limit
            found += part[:limit]
        return Sample(found, cut)

    def frames(self, numbers: Collection[int], using: str) -> Mapping[int, Frame | None]:
        rows = Receipt.objects.using(using).filter(pk__in=numbers).values_list("pk", "traceback")
        return {number: own_frame(traceback or "", is_library) for number, traceback in rows}

    def between(self, after: int, until: int, *, most: int, using: str) -> Sequence[Failure]:
        rows = _receipts(using).filter(pk__gt=after, pk__lte=until)
        found: list[Failure] = []
        for state in self.states:
            part = rows.filter(state=state).order_by("pk")
            found += _with_frames(part.values_list(*_COLUMNS, "traceback")[:most])
        found.sort(key=lambda failure: failure.number)
        return found[:most]

    def named(self, numbers: Collection[int], using: str) -> Sequence[Failure]:
        rows = _receipts(using).filter(pk__in=numbers, state__in=self.states)
        return list(_with_frames(rows.values_list(*_COLUMNS, "traceback")))

    def came(self, numbers: Collection[int], using: str) -> Came:
        came = follow(numbers, using=using)
        return Came(
            # What somebody has given up meanwhile, or was skipped, proves nothing.
            handled=came.states[State.PROCESSED],
            failed=came.failed,
            untried=came.untried,
            behind=came.behind + came.states[State.WAITING],
            error=next((error for _handler, error in came.errors), ""),
        )

    def example(self, number: int, using: str) -> Example | None:
        row = (
            Receipt.objects.using(using).filter(pk=number).values_list("error", "traceback").first()
        )
        return Example(masked(row[0] or ""), masked(row[1] or "")) if row else None

    def filter(self, failure: Failure) -> str:
        why = ("reason", failure.error_class)
        if failure.error_class not in Reason.values:
            why = ("error", failure.error_class)
        return _filter(("state", "dead,retrying"), ("handler", failure.by), why)


class LetterFailures(FailureSource):
    """Dead letters: what no handler could use, by their reasons."""

    name = "letters"
    title = _("Dead letters")
    by_title = _("Group")
    empty = _("No message is of no use to all handlers.")
    model = DeadLetter
    place = 20
    step = 20
    at_once = True

    def database(self) -> str:
        return router.db_for_write(DeadLetter)

    def newest(self, using: str, limit: int = LIMIT) -> Sample:
        newest = DeadLetter.objects.using(using).aggregate(newest=Max("pk"))["newest"] or 0
        rows = _letters(using).filter(pk__gt=newest - LOOKED_AT).order_by("-pk")
        found = [_of_letter(*row) for row in rows.values_list(*_OF_LETTER)[: limit + 1]]
        older = DeadLetter.objects.using(using).filter(pk__lte=newest - LOOKED_AT)
        return Sample(found[:limit], len(found) > limit or older.exists())

    def between(self, after: int, until: int, *, most: int, using: str) -> Sequence[Failure]:
        rows = _letters(using).filter(pk__gt=after, pk__lte=until).order_by("pk")
        return [_of_letter(*row) for row in rows.values_list(*_OF_LETTER)[:most]]

    def named(self, numbers: Collection[int], using: str) -> Sequence[Failure]:
        rows = _letters(using).filter(pk__in=numbers)
        return [_of_letter(*row) for row in rows.values_list(*_OF_LETTER)]

    def came(self, numbers: Collection[int], using: str) -> Came:
        letters = DeadLetter.objects.using(using).filter(pk__in=numbers)
        states = dict(letters.values_list("pk", "state"))
        useless = [number for number, state in states.items() if state == State.DEAD]
        error = letters.filter(pk__in=useless[:1]).values_list("error", flat=True).first() or ""
        taken = [number for number, state in states.items() if state != State.DEAD]
        receipts = operator.receipts_of(taken, using=using) if taken else Counter()
        # It was of use; what its handlers have made of it is in their receipts.
        failed = receipts[State.DEAD] + receipts[State.RETRYING]
        if failed and not error:
            error = str(_("Its handlers have failed: see their receipts."))
        return Came(
            handled=max(0, len(taken) - failed),
            failed=len(useless) + min(len(taken), failed),
            behind=0,
            error=error,
        )

    def example(self, number: int, using: str) -> Example | None:
        found = DeadLetter.objects.using(using).filter(pk=number)
        error = found.values_list("error", flat=True).first()
        return None if error is None else Example(masked(error))

    def filter(self, failure: Failure) -> str:
        by = "handler" if handlers.get(failure.by) else "group"
        return _filter(("state", "dead"), ("reason", failure.error_class), (by, failure.by))


_COLUMNS = ("pk", "handler", "reason", "text", "state", "received", "changed", "traced")
_OF_LETTER = ("pk", "group", "handler", "reason", "text", "type", "state", "received", "changed")


def _filter(*terms: tuple[str, str]) -> str:
    return " ".join(term(name, value) for name, value in terms if value)


def _receipts(using: str) -> QuerySet[Receipt]:
    """Return receipts that have an error: one that came again has none before it was tried."""
    return (
        Receipt.objects.using(using)
        .filter(error__isnull=False)
        .annotate(
            text=Left("error", READ_ERROR),
            traced=ExpressionWrapper(Q(traceback__isnull=False), BooleanField()),
        )
    )


def _of_receipt(
    number: int,
    handler: str,
    reason: str | None,
    text: str,
    state: str,
    received: datetime | None,
    changed: datetime,
    traced: bool,
) -> Failure:
    # Of what was not raised, or is a verdict, the error does not begin with a class.
    kind, said = parted(text) if reason == Reason.FAILED else ("", text)
    return Failure(
        number=number,
        by=handler,
        error_class=kind or reason or "",
        text=said,
        state=state,
        began=min(received or changed, changed),
        failed=changed,
        traced=traced,
    )


def _with_frames(rows: Iterable[Sequence[Any]]) -> Iterator[Failure]:
    for *columns, traceback in rows:
        yield replace(_of_receipt(*columns), frame=own_frame(traceback or "", is_library))


def _letters(using: str) -> QuerySet[DeadLetter]:
    return (
        DeadLetter.objects.using(using)
        .filter(state=State.DEAD)
        .annotate(text=Left("error", READ_ERROR))
    )


def _of_letter(
    number: int,
    group: str,
    handler: str,
    reason: str,
    text: str,
    kind: str,
    state: str,
    received: datetime,
    changed: datetime | None,
) -> Failure:
    return Failure(
        number=number,
        by=handler or group,
        error_class=reason,
        text=f"{kind}: {text}" if kind else text,
        state=state,
        began=received,
        failed=changed or received,
    )


def register() -> None:
    """Show what has failed here on the page of failures."""
    register_source(ReceiptFailures())
    register_source(LetterFailures())
