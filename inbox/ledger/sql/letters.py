"""Dead letters."""

from typing import Any

from inbox.ledger.sql.parts import names

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
    "size",
    "sha256",
    "received",
)


_KEY = tuple(DEAD_LETTER_COLUMNS.index(name) for name in ("digest", "group", "handler"))


def dead_letter_key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a dead letter is unique by, from the values of its columns."""
    return tuple(row[index] for index in _KEY)


def bury(count: int) -> str:
    """Keep dead letters; one that came before is kept as it was, and is dead again if it was not.

    What a person has discarded stays so.
    """
    return (
        f"INSERT INTO django_inbox_deadletter ({names(DEAD_LETTER_COLUMNS)}, state) VALUES "
        + ", ".join([f"({', '.join(['%s'] * len(DEAD_LETTER_COLUMNS))}, 'dead')"] * count)
        + ' ON CONFLICT (digest, "group", handler) DO UPDATE SET state = EXCLUDED.state, '
        "changed = EXCLUDED.received "
        "WHERE django_inbox_deadletter.state = 'processed'"
    )
