"""Every statement that the receiver runs itself. Values are parameters, names are fixed here."""

from typing import Any

RECEIPT_COLUMNS = ("handler", "source", "message_id", "type", "correlation_id", "processed")
DEAD_LETTER_COLUMNS = (
    "group",
    "handler",
    "reason",
    "error",
    "source",
    "message_id",
    "type",
    "topic",
    "content_type",
    "headers",
    "body",
    "digest",
    "received",
)


_KEY = tuple(DEAD_LETTER_COLUMNS.index(name) for name in ("digest", "group", "handler"))


def dead_letter_key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a dead letter is unique by, from the values of its columns."""
    return tuple(row[index] for index in _KEY)


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _rows(columns: tuple[str, ...], count: int) -> str:
    return ", ".join([f"({', '.join(['%s'] * len(columns))})"] * count)


def claim(count: int) -> str:
    """Insert receipts, skipping what is there; waits for a concurrent claim of the same."""
    return (
        f"INSERT INTO django_inbox_receipt ({_names(RECEIPT_COLUMNS)}) "
        f"VALUES {_rows(RECEIPT_COLUMNS, count)} "
        "ON CONFLICT DO NOTHING RETURNING message_id, handler, source"
    )


def release(count: int) -> str:
    """Take back the receipts of handlers that failed, in the transaction that claimed them."""
    return (
        "DELETE FROM django_inbox_receipt WHERE (message_id, handler, source) IN "
        f"(VALUES {_rows(('message_id', 'handler', 'source'), count)})"
    )


def bury(count: int) -> str:
    """Keep dead letters; one that came before is kept as it was."""
    return (
        f"INSERT INTO django_inbox_deadletter ({_names(DEAD_LETTER_COLUMNS)}) "
        f"VALUES {_rows(DEAD_LETTER_COLUMNS, count)} ON CONFLICT DO NOTHING"
    )
