"""Forget what is over: receipts that no late copy can need any more."""

from collections.abc import Callable
from datetime import timedelta

from django.db import transaction

from inbox import sql
from inbox.conf import inbox_settings
from inbox.ledger import Ledger

STEP = 1_000
"""Rows of one transaction."""


def prune(using: str, older_than: timedelta | None = None, limit: int = 100_000) -> int:
    """Delete receipts and dead letters that have been over for longer than INBOX["RETENTION"].

    Those that are processed, skipped or discarded, and no others; oldest first, in small
    transactions beside live traffic, at most `limit` rows. Returns how many. `older_than` takes
    the place of the setting. A copy of a message that comes after that is handled again.
    """
    window = inbox_settings().retention if older_than is None else older_than
    if window is None:
        return 0
    ledger = Ledger(using)
    deleted = _prune("receipt", sql.old_receipts, ledger, using, window, limit)
    return deleted + _prune("deadletter", sql.old_letters, ledger, using, window, limit - deleted)


def _prune(
    table: str,
    old: Callable[[str], str],
    ledger: Ledger,
    using: str,
    window: timedelta,
    limit: int,
) -> int:
    column = {"receipt": "receipt_id", "deadletter": "dead_letter_id"}[table]
    # Not from the start each time: deleted rows stay in the index until they are vacuumed.
    reached: object = "0001-01-01"
    deleted = 0
    while deleted < limit:
        step = min(STEP, limit - deleted)
        with transaction.atomic(using=using):
            rows = ledger.run(old(ledger.vendor), [reached, window.total_seconds(), step])
            if rows:
                numbers = [row[0] for row in rows]
                ledger.run(
                    sql.delete("django_inbox_original", column, len(rows)), numbers, reads=False
                )
                ledger.run(
                    sql.delete(f"django_inbox_{table}", "id", len(rows)), numbers, reads=False
                )
        deleted += len(rows)
        if len(rows) < step:
            break
        reached = rows[-1][1]
    return deleted
