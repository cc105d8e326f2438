"""Receipts as messages come in and are settled."""

from inbox.ledger.sql.parts import (
    clock,
    delete,
    in_utc,
    later,
    names,
    one_of,
    table,
    transaction_id,
)
from inbox.states import OPEN, State

CLAIM_COLUMNS = ("handler", "source", "message_id", "type", "correlation_id")
SETTLEMENT_COLUMNS = {
    "state": "text",
    "attempts": "smallint",
    "delay": "float8",
    "reason": "text",
    "error": "text",
    "traceback": "text",
    "last_attempts": "text",
}
MESSAGE_COLUMNS = {
    "key": "text",
    "place": "bigint",
    "topic": "text",
    "content_type": "text",
    "headers": "text",
    "body": "bytea",
}
KEPT_COLUMNS = {"id": "bigint", **SETTLEMENT_COLUMNS, **MESSAGE_COLUMNS}
SETTLED_COLUMNS = {"id": "bigint", **SETTLEMENT_COLUMNS}


def claim(count: int, vendor: str) -> str:
    """Insert receipts, skipping what is there; waits for a concurrent claim of the same."""
    row = f"({', '.join(['%s'] * len(CLAIM_COLUMNS))}, 'processed', 1, {clock(vendor)})"
    return (
        f"INSERT INTO django_inbox_receipt ({names(CLAIM_COLUMNS)}, state, attempts, changed) "
        f"VALUES {', '.join([row] * count)} "
        "ON CONFLICT (message_id, handler, source) DO NOTHING "
        f"RETURNING message_id, handler, source, id, {transaction_id(vendor)}"
    )


def forget(count: int) -> str:
    """Delete receipts whose handlers have not run, so that their messages are new again."""
    return delete("django_inbox_receipt", "id", count)


def committed() -> str:
    """Tell whether a transaction has committed; null if that is too long ago."""
    return "SELECT pg_xact_status(CAST(%s AS xid8)) = 'committed'"


def keep(count: int, vendor: str) -> str:
    """Turn receipts that were claimed into those of messages that are not processed."""
    return (
        f"WITH {table('kept', KEPT_COLUMNS, count, vendor)} "
        "UPDATE django_inbox_receipt AS receipt SET state = kept.state, "
        "attempts = kept.attempts, reason = kept.reason, error = kept.error, "
        "traceback = kept.traceback, last_attempts = kept.last_attempts, "
        '"key" = kept."key", place = kept.place, topic = kept.topic, '
        "content_type = kept.content_type, headers = kept.headers, body = kept.body, "
        f"received = receipt.changed, changed = {clock(vendor)}, "
        f"next_attempt_at = CASE WHEN kept.delay IS NOT NULL THEN {later('kept.delay', vendor)} "
        "END FROM kept WHERE receipt.id = kept.id"
    )


def keep_result() -> str:
    """Keep what a task has returned, for a second run of it."""
    return "UPDATE django_inbox_receipt SET result = %s WHERE id = %s"


def settle(count: int, vendor: str) -> str:
    """Write what became of receipts that were due; of what is over the message is not kept."""
    over = f"settled.state {one_of((State.PROCESSED, State.SKIPPED))}"
    cleared = ", ".join(
        f'"{name}" = CASE WHEN {over} THEN NULL ELSE receipt."{name}" END'
        for name in MESSAGE_COLUMNS
    )
    return (
        f"WITH {table('settled', SETTLED_COLUMNS, count, vendor)} "
        "UPDATE django_inbox_receipt AS receipt SET state = settled.state, "
        "attempts = settled.attempts, reason = settled.reason, error = settled.error, "
        "traceback = settled.traceback, last_attempts = settled.last_attempts, "
        f"{cleared}, begun = NULL, begun_at = NULL, changed = {clock(vendor)}, "
        "next_attempt_at = CASE WHEN settled.delay IS NOT NULL "
        f"THEN {later('settled.delay', vendor)} END FROM settled WHERE receipt.id = settled.id"
    )


def unfinished(handlers: int) -> str:
    """Tell whether any receipt of these handlers came to be retrying or dead since some time."""
    return (
        "SELECT 1 FROM django_inbox_receipt "
        f"WHERE handler IN ({', '.join(['%s'] * handlers)}) "
        f"AND state {one_of(OPEN)} AND state <> 'waiting' AND changed >= %s LIMIT 1"
    )


def now(vendor: str) -> str:
    """Read the database's clock, in UTC."""
    return f"SELECT {in_utc(clock(vendor), vendor)}"
