"""Every statement that the inbox runs itself. Values are parameters, names are fixed here.

`vendor` is that of the database: "postgresql", or "sqlite" for development.
"""

from collections.abc import Sequence
from typing import Any

from inbox.states import CLOSED, OPEN, State
from outbox.sql import PG_STATEMENT_NOW, SQLITE_STATEMENT_NOW

NOTED_SECONDS = 1.0
"""How long a note that calls begin keeps others away, who after that see it by its locks."""
CLAIM_COLUMNS = ("handler", "source", "message_id", "type", "correlation_id")
KEPT_COLUMNS = {
    "id": "bigint",
    "state": "text",
    "attempts": "smallint",
    "delay": "float8",
    "reason": "text",
    "error": "text",
    "key": "text",
    "place": "bigint",
    "topic": "text",
    "content_type": "text",
    "headers": "text",
    "body": "bytea",
}
SETTLED_COLUMNS = {
    "id": "bigint",
    "state": "text",
    "attempts": "smallint",
    "delay": "float8",
    "reason": "text",
    "error": "text",
}
TAKEN_COLUMNS = {"id": "bigint", "begun": "smallint"}
LINE_COLUMNS = {"handler": "text", "source": "text", "key": "text"}
WOKEN_COLUMNS = {**LINE_COLUMNS, "delay": "float8"}
SEQUENCE_COLUMNS = {**LINE_COLUMNS, "last": "bigint"}
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
STORED_COLUMNS = (
    "id",
    "handler",
    "source",
    "key",
    "place",
    "message_id",
    "state",
    "attempts",
    "next_attempt_at IS NOT NULL",
    "next_attempt_at IS NOT NULL AND next_attempt_at <= {now}",
    "topic",
    "content_type",
    "headers",
    "body",
)


_KEY = tuple(DEAD_LETTER_COLUMNS.index(name) for name in ("digest", "group", "handler"))


def dead_letter_key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a dead letter is unique by, from the values of its columns."""
    return tuple(row[index] for index in _KEY)


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _rows(width: int, count: int) -> str:
    return ", ".join([f"({', '.join(['%s'] * width)})"] * count)


def _table(name: str, columns: dict[str, str], count: int, vendor: str) -> str:
    """Return `count` rows of parameters as a table; PostgreSQL wants to know their types."""
    if vendor == "postgresql":
        first = f"({', '.join(f'CAST(%s AS {each})' for each in columns.values())})"
        rows = ", ".join([first, *([f"({', '.join(['%s'] * len(columns))})"] * (count - 1))])
    else:
        rows = _rows(len(columns), count)
    return f"{name}({_names(list(columns))}) AS (VALUES {rows})"


def _in(states: Sequence[State]) -> str:
    return f"IN ({', '.join(repr(state.value) for state in states)})"


def _now(vendor: str) -> str:
    """The database's clock, as it is now and not as it was when the transaction began."""
    return PG_STATEMENT_NOW if vendor == "postgresql" else SQLITE_STATEMENT_NOW


def _later(seconds: str, vendor: str) -> str:
    if vendor == "postgresql":
        return f"{PG_STATEMENT_NOW} + {seconds} * interval '1 second'"
    return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', printf('%%+f seconds', {seconds}))"


def _transaction(vendor: str) -> str:
    """The running transaction's id, which is assigned if there is a row; SQLite has none."""
    return "CAST(pg_current_xact_id() AS text)" if vendor == "postgresql" else "NULL"


def _rests(vendor: str) -> str:
    """Tell whether a call was noted so short a time ago that its transaction may not be there."""
    noted = f"receipt.begun_at > {_later(str(-NOTED_SECONDS), vendor)}"
    return f"(receipt.begun_at IS NOT NULL AND {noted})"


def _stored(vendor: str) -> str:
    return ", ".join(STORED_COLUMNS).format(now=_now(vendor))


# --- Receipts ------------------------------------------------------------------------------------


def claim(count: int, vendor: str) -> str:
    """Insert receipts, skipping what is there; waits for a concurrent claim of the same."""
    row = f"({', '.join(['%s'] * len(CLAIM_COLUMNS))}, 'processed', 1, {_now(vendor)})"
    return (
        f"INSERT INTO django_inbox_receipt ({_names(CLAIM_COLUMNS)}, state, attempts, changed) "
        f"VALUES {', '.join([row] * count)} "
        f"ON CONFLICT DO NOTHING RETURNING message_id, handler, source, id, {_transaction(vendor)}"
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
        f"WITH {_table('kept', KEPT_COLUMNS, count, vendor)} "
        "UPDATE django_inbox_receipt AS receipt SET state = kept.state, "
        "attempts = kept.attempts, reason = kept.reason, error = kept.error, "
        '"key" = kept."key", place = kept.place, topic = kept.topic, '
        "content_type = kept.content_type, headers = kept.headers, body = kept.body, "
        f"received = receipt.changed, changed = {_now(vendor)}, "
        f"next_attempt_at = CASE WHEN kept.delay IS NOT NULL THEN {_later('kept.delay', vendor)} "
        "END FROM kept WHERE receipt.id = kept.id"
    )


def keep_result() -> str:
    """Keep what a task has returned, for a second run of it."""
    return "UPDATE django_inbox_receipt SET result = %s WHERE id = %s"


def settle(count: int, vendor: str) -> str:
    """Write what became of receipts that were due; of what is over the message is not kept."""
    over = f"settled.state {_in((State.PROCESSED, State.SKIPPED))}"
    cleared = ", ".join(
        f'"{name}" = CASE WHEN {over} THEN NULL ELSE receipt."{name}" END'
        for name in ("key", "place", "topic", "content_type", "headers", "body")
    )
    return (
        f"WITH {_table('settled', SETTLED_COLUMNS, count, vendor)} "
        "UPDATE django_inbox_receipt AS receipt SET state = settled.state, "
        "attempts = settled.attempts, reason = settled.reason, error = settled.error, "
        f"{cleared}, begun = NULL, begun_at = NULL, changed = {_now(vendor)}, "
        "next_attempt_at = CASE WHEN settled.delay IS NOT NULL "
        f"THEN {_later('settled.delay', vendor)} END FROM settled WHERE receipt.id = settled.id"
    )


def due(handlers: int, vendor: str) -> str:
    """Find what is due for some handlers, each by a range of an index, however much is not due.

    Receipts without an order come locked, so that each has one taker; the others are locked by
    their line. Not what somebody has begun with a moment ago. Parameters: the handlers, a limit
    for each, all this twice.
    """
    names = _rows(1, handlers)
    columns = (
        "receipt.id, receipt.handler, receipt.source, receipt.key, receipt.place, "
        "COALESCE(receipt.begun, 0) AS begun"
    )
    wanted = f"receipt.next_attempt_at <= {_now(vendor)} AND NOT {_rests(vendor)}"
    table = "django_inbox_receipt AS receipt"
    if vendor != "postgresql":
        branch = (
            f"SELECT * FROM (SELECT {columns} FROM {table} "
            f"WHERE receipt.handler IN ({names}) AND {wanted} AND receipt.place {{place}} "
            "ORDER BY receipt.next_attempt_at LIMIT %s)"
        )
        return f"{branch.format(place='= 0')} UNION ALL {branch.format(place='<> 0')}"
    branch = (
        f"SELECT * FROM (SELECT one.* FROM (VALUES {names}) "
        f"AS wanted(handler) CROSS JOIN LATERAL (SELECT {columns} FROM {table} "
        f"WHERE receipt.handler = wanted.handler AND {wanted} AND "
        "receipt.place {place} ORDER BY receipt.next_attempt_at LIMIT %s {lock}) AS one) AS {name}"
    )
    free = branch.format(place="= 0", lock="FOR UPDATE SKIP LOCKED", name="free")
    lined = branch.format(place="<> 0", lock="", name="lined")
    return f"{free} UNION ALL {lined}"


def ahead(vendor: str) -> str:
    """Find the first receipts of a line, and what is noted of calls for them."""
    stops = f"state = 'dead' OR (state = 'retrying' AND next_attempt_at > {_now(vendor)})"
    return (
        f"SELECT id, COALESCE(begun, 0), {_rests(vendor)}, {stops} "
        "FROM django_inbox_receipt AS receipt "
        f'WHERE handler = %s AND source = %s AND "key" = %s AND state {_in(OPEN)} '
        "ORDER BY place, id LIMIT %s"
    )


def begin(count: int, vendor: str) -> str:
    """Note that calls begin for receipts which are locked, or whose lines are."""
    return (
        "UPDATE django_inbox_receipt SET begun = COALESCE(begun, 0) + 1, "
        f"begun_at = {_now(vendor)} WHERE id IN ({', '.join(['%s'] * count)})"
    )


def take(count: int, vendor: str) -> str:
    """Lock receipts by the note that we made, if they are due still; each with our transaction.

    Not SKIP LOCKED: who looks for what is due locks for a moment what he then leaves alone.
    """
    locked = " FOR UPDATE OF receipt" if vendor == "postgresql" else ""
    return (
        f"WITH {_table('wanted', TAKEN_COLUMNS, count, vendor)} "
        f"SELECT receipt.id, {_transaction(vendor)} FROM django_inbox_receipt AS receipt "
        "JOIN wanted ON receipt.id = wanted.id AND receipt.begun = wanted.begun "
        f"WHERE receipt.next_attempt_at <= {_now(vendor)} ORDER BY receipt.id{locked}"
    )


def transaction(vendor: str) -> str:
    """Read the running transaction's id, which is assigned if it has none."""
    return f"SELECT {_transaction(vendor)}"


def unbegin(count: int, vendor: str) -> str:
    """Take the note back where no call was made; what another has in work it will settle itself."""
    numbers = ", ".join(["%s"] * count)
    if vendor == "postgresql":
        numbers = (
            f"SELECT id FROM django_inbox_receipt WHERE id IN ({numbers}) FOR UPDATE SKIP LOCKED"
        )
    return (
        "UPDATE django_inbox_receipt SET begun = CASE WHEN begun > 1 THEN begun - 1 END, "
        f"begun_at = CASE WHEN begun > 1 THEN begun_at END WHERE id IN ({numbers})"
    )


def resting(handlers: int, vendor: str) -> str:
    """Tell whether something is due that somebody has begun with a moment ago."""
    return (
        "SELECT 1 FROM django_inbox_receipt AS receipt "
        f"WHERE receipt.handler IN ({', '.join(['%s'] * handlers)}) "
        f"AND receipt.next_attempt_at <= {_now(vendor)} AND {_rests(vendor)} LIMIT 1"
    )


def stored(count: int, vendor: str) -> str:
    """Read receipts with their messages."""
    return (
        f"SELECT {_stored(vendor)} FROM django_inbox_receipt "
        f"WHERE id IN ({', '.join(['%s'] * count)}) ORDER BY id"
    )


def unfinished(handlers: int) -> str:
    """Tell whether any receipt of these handlers came to be retrying or dead since some time."""
    return (
        "SELECT 1 FROM django_inbox_receipt "
        f"WHERE handler IN ({', '.join(['%s'] * handlers)}) "
        f"AND state {_in(OPEN)} AND state <> 'waiting' AND changed >= %s LIMIT 1"
    )


def now(vendor: str) -> str:
    """Read the database's clock."""
    return f"SELECT {_now(vendor)}"


# --- Lines ---------------------------------------------------------------------------------------


def lock(count: int) -> str:
    """Keep other consumers out of lines until the commit, in one order, so that none deadlock."""
    return f"SELECT pg_advisory_xact_lock(number) FROM (VALUES {_rows(1, count)}) AS line(number)"


def try_lock(count: int) -> str:
    """Lock those lines that no other consumer is in."""
    return (
        "SELECT number, pg_try_advisory_xact_lock(number) "
        f"FROM (VALUES {_rows(1, count)}) AS line(number)"
    )


def lines(count: int, vendor: str) -> str:
    """Read the ends of lines and their sequences, each by an index, however long a line is."""
    here = (
        "FROM django_inbox_receipt AS receipt WHERE receipt.handler = line.handler "
        'AND receipt.source = line.source AND receipt."key" = line."key" '
        f"AND receipt.state {_in(OPEN)} "
        "ORDER BY receipt.place {order}, receipt.id {order} LIMIT 1"
    )
    head, tail = here.format(order="ASC"), here.format(order="DESC")
    return (
        f"WITH {_table('line', LINE_COLUMNS, count, vendor)} "
        'SELECT line.handler, line.source, line."key", '
        f"(SELECT receipt.state {head}), (SELECT receipt.place {head}), "
        f"(SELECT receipt.place {tail}), (SELECT number.last FROM django_inbox_keysequence AS "
        "number WHERE number.handler = line.handler AND number.source = line.source AND "
        'number."key" = line."key") FROM line'
    )


def line(vendor: str) -> str:
    """Read the first receipts of a line with their messages, in their order."""
    return (
        f"SELECT {_stored(vendor)} FROM django_inbox_receipt WHERE handler = %s AND source = %s "
        f'AND "key" = %s AND state {_in(OPEN)} ORDER BY place, id LIMIT %s'
    )


def wake(count: int, vendor: str) -> str:
    """Let the heads of lines be due after some seconds, if they wait."""
    return (
        f"WITH {_table('line', WOKEN_COLUMNS, count, vendor)}, head(id, delay) AS (SELECT "
        "(SELECT receipt.id FROM django_inbox_receipt AS receipt "
        "WHERE receipt.handler = line.handler AND receipt.source = line.source AND "
        f'receipt."key" = line."key" AND receipt.state {_in(OPEN)} '
        "ORDER BY receipt.place, receipt.id LIMIT 1), line.delay FROM line) "
        "UPDATE django_inbox_receipt AS receipt "
        f"SET next_attempt_at = {_later('head.delay', vendor)} "
        "FROM head WHERE receipt.id = head.id AND receipt.state = 'waiting'"
    )


def hush() -> str:
    """Let what waits in a line wait for its head alone, and for no time limit of its own."""
    return (
        "UPDATE django_inbox_receipt SET next_attempt_at = NULL "
        'WHERE handler = %s AND source = %s AND "key" = %s '
        "AND state = 'waiting' AND next_attempt_at IS NOT NULL AND place >= %s"
    )


def advance(count: int, vendor: str) -> str:
    """Note how far handlers have come in the sequences of keys; never backwards."""
    row = f"({', '.join(['%s'] * len(SEQUENCE_COLUMNS))}, {_now(vendor)})"
    return (
        f"INSERT INTO django_inbox_keysequence ({_names(list(SEQUENCE_COLUMNS))}, changed) "
        f"VALUES {', '.join([row] * count)} "
        'ON CONFLICT (handler, source, "key") DO UPDATE '
        "SET last = EXCLUDED.last, changed = EXCLUDED.changed "
        "WHERE django_inbox_keysequence.last < EXCLUDED.last"
    )


# --- Dead letters --------------------------------------------------------------------------------


def bury(count: int) -> str:
    """Keep dead letters; one that came before is kept as it was, and is dead again if it was not.

    What a person has discarded stays so.
    """
    return (
        f"INSERT INTO django_inbox_deadletter ({_names(DEAD_LETTER_COLUMNS)}, state) VALUES "
        + ", ".join([f"({', '.join(['%s'] * len(DEAD_LETTER_COLUMNS))}, 'dead')"] * count)
        + ' ON CONFLICT (digest, "group", handler) DO UPDATE SET state = EXCLUDED.state '
        "WHERE django_inbox_deadletter.state = 'processed'"
    )


# --- Retention -----------------------------------------------------------------------------------


def old_receipts(vendor: str) -> str:
    """Find what retention may delete, oldest first, from where the last look ended."""
    return _old("django_inbox_receipt", "changed", vendor)


def old_letters(vendor: str) -> str:
    """Find dead letters that are over, as with receipts."""
    return _old("django_inbox_deadletter", "received", vendor)


def _old(table: str, stamp: str, vendor: str) -> str:
    locked = " FOR UPDATE SKIP LOCKED" if vendor == "postgresql" else ""
    return (
        f"SELECT id, {stamp} FROM {table} WHERE state {_in(CLOSED)} AND {stamp} >= %s "
        f"AND {stamp} < %s ORDER BY {stamp} LIMIT %s{locked}"
    )


def delete(table: str, column: str, count: int) -> str:
    """Delete rows by their numbers, which were locked before."""
    return f"DELETE FROM {table} WHERE {column} IN ({', '.join(['%s'] * count)})"
