"""Receipts with their messages, as far as those are not too much to read."""

from inbox.ledger.sql.parts import clock, one_of, seconds_since
from inbox.states import OPEN

STORED_COLUMNS = (
    "id",
    "handler",
    "source",
    "key",
    "place",
    "message_id",
    "state",
    "attempts",
    "last_attempts",
    "next_attempt_at IS NOT NULL",
    "next_attempt_at IS NOT NULL AND next_attempt_at <= {now}",
    "topic",
    "content_type",
    "CASE WHEN {ahead} < {most} THEN headers END",
    "CASE WHEN {ahead} < {most} THEN body END",
    "{ahead} >= {most}",
    "{waited}",
)
MESSAGE_BYTES = 8 * 1024 * 1024
"""Of the messages that one statement writes, or reads."""


def stored(count: int, vendor: str) -> str:
    """Read receipts with their messages."""
    return (
        f"SELECT {_stored(vendor, 'id')} FROM django_inbox_receipt "
        f"WHERE id IN ({', '.join(['%s'] * count)}) ORDER BY id"
    )


def line(vendor: str) -> str:
    """Read the first receipts of a line with their messages, in their order."""
    return (
        f"SELECT {_stored(vendor, 'place, id')} FROM (SELECT * FROM django_inbox_receipt "
        f'WHERE handler = %s AND source = %s AND "key" = %s AND state {one_of(OPEN)} '
        "ORDER BY place, id LIMIT %s) AS line ORDER BY place, id"
    )


def _stored(vendor: str, order: str) -> str:
    """The columns of receipts with their messages, as far as those are not too much to read.

    What is asked for first comes in any case. Neither database reads a value to tell its length.
    """
    length = "octet_length" if vendor == "postgresql" else "length"
    size = f"COALESCE({length}(headers), 0) + COALESCE({length}(body), 0)"
    ahead = (
        f"COALESCE(SUM({size}) OVER "
        f"(ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)"
    )
    columns = ", ".join(STORED_COLUMNS)
    return columns.format(
        now=clock(vendor), ahead=ahead, most=MESSAGE_BYTES, waited=seconds_since("received", vendor)
    )
