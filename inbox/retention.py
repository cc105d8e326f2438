"""Forget what is over: receipts and dead letters that no late copy of a message can need."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, router
from django.db.models import Model

from inbox.conf import inbox_settings
from inbox.ledger.ledger import Ledger
from inbox.ledger.sql import retention as sql
from inbox.ledger.sql.parts import delete
from inbox.models import DeadLetter, Receipt
from inbox.states import CLOSED
from outbox.database.instants import parameter, read
from outbox.database.transactions import own_transaction
from outbox.extensions.pruning import BATCH, Pruner, cutoff, pruners, register_pruner

BEGINNING: Any = "0001-01-01"

OWNED: dict[str, type[Receipt | DeadLetter]] = {"receipts": Receipt, "dead letters": DeadLetter}
"""What is pruned, by the name that people call it."""


class Closed:
    """Deletes, or only counts, rows that have been over for long: an extensions.pruning.Prune.

    Those that are processed, skipped or discarded, and no others, whatever their age. Never what
    is younger than INBOX["RETENTION"], since a copy that comes later than its receipt is deleted
    is handled again.
    """

    def __init__(self, model: type[Receipt | DeadLetter], *, delete: bool) -> None:
        self._model = model
        self._delete = delete
        self._run: tuple[str, datetime] | None = None
        self._reached: Any = BEGINNING

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        keep = window()
        if keep is None:
            return 0
        before, run = min(before, cutoff(using, keep)), before
        if self._delete:
            return self.take(using, before, limit, run=run)
        column = _column(self._model)
        old = self._model._default_manager.using(using).filter(
            **{f"{column}__lt": before}, state__in=CLOSED
        )
        return old[:limit].count()

    def take(self, using: str, before: datetime, limit: int, *, run: datetime) -> int:
        """Delete rows that are over since before `before`; calls of a run go on from the last."""
        if (using, run) != self._run:
            self._run, self._reached = (using, run), BEGINNING
        ledger = Ledger(using)
        old = sql.old_receipts if self._model is Receipt else sql.old_letters
        values = [self._reached, parameter(before, connections[using]), limit]
        rows = ledger.run(old(ledger.vendor), values)
        if rows:
            numbers = [row[0] for row in rows]
            originals = delete("django_inbox_original", _reference(self._model), len(rows))
            ledger.run(originals, numbers, reads=False)
            ledger.run(delete(self._model._meta.db_table, "id", len(rows)), numbers, reads=False)
            # Not from the start each time: what is deleted stays in the index until a vacuum.
            self._reached = parameter(read(rows[-1][1]), connections[using])
        return len(rows)


def prune(using: str, older_than: timedelta | None = None, limit: int = 100_000) -> int:
    """Delete what has been over for longer than INBOX["RETENTION"]; return how many rows.

    Oldest first, in small transactions beside live traffic, at most `limit` rows. `older_than`
    takes the place of the setting, and may be shorter. The housekeeping of consumers and relays,
    and outbox_prune, do the same without being asked.
    """
    keep = window() if older_than is None else older_than
    if keep is None:
        return 0
    before, deleted = cutoff(using, keep), 0
    for model in (Receipt, DeadLetter):
        closed = Closed(model, delete=True)
        while deleted < limit:
            step = min(BATCH, limit - deleted)
            with own_transaction(using, durable=False):
                found = closed.take(using, before, step, run=before)
            deleted += found
            if found < step:
                break
    return deleted


def register() -> None:
    """Let outbox_prune and all housekeeping reach what the inbox owns."""
    for name, model in OWNED.items():
        register_pruner(
            name,
            Closed(model, delete=True),
            count=Closed(model, delete=False),
            database=_database_of(model),
            window=window,
            oldest=_oldest_of(model),
        )


def owned() -> list[Pruner]:
    """Return the pruners of what the inbox owns."""
    return [each for each in pruners() if each.name in OWNED]


def window() -> timedelta | None:
    """Return INBOX["RETENTION"]; None is for ever."""
    return inbox_settings().retention


def _database_of(model: type[Model]) -> Any:
    return lambda: router.db_for_write(model)


def _oldest_of(model: type[Receipt | DeadLetter]) -> Callable[[str], datetime | None]:
    """Return what tells since when the first row is over that is not deleted yet."""
    column = _column(model)

    def oldest(using: str) -> datetime | None:
        rows = model.objects.using(using).filter(state__in=CLOSED).order_by(column)
        return rows.values_list(column, flat=True).first()

    return oldest


def _column(model: type[Model]) -> str:
    """Return since when a row is over."""
    return "changed" if model is Receipt else "received"


def _reference(model: type[Model]) -> str:
    return "receipt_id" if model is Receipt else "dead_letter_id"
