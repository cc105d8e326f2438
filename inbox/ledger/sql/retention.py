"""What is over, and old enough to be deleted."""

from inbox.ledger.sql.parts import in_utc, one_of
from inbox.states import CLOSED


def old_receipts(vendor: str) -> str:
    """Find what retention may delete, oldest first, from where the last look ended."""
    return _old("django_inbox_receipt", "changed", vendor)


def old_letters(vendor: str) -> str:
    """Find dead letters that are over, as with receipts."""
    return _old("django_inbox_deadletter", "received", vendor)


def _old(table: str, stamp: str, vendor: str) -> str:
    locked = " FOR UPDATE SKIP LOCKED" if vendor == "postgresql" else ""
    return (
        f"SELECT id, {in_utc(stamp, vendor)} FROM {table} WHERE state {one_of(CLOSED)} "
        f"AND {stamp} >= %s AND {stamp} < %s ORDER BY {stamp} LIMIT %s{locked}"
    )
