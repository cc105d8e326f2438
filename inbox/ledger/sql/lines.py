"""Lines of ordered handlers: the messages of a key, and how far its sequence has come."""

from inbox.ledger.sql.parts import clock, later, names, one_of, rows, table
from inbox.states import OPEN

LINE_COLUMNS = {"handler": "text", "source": "text", "key": "text"}
WOKEN_COLUMNS = {**LINE_COLUMNS, "delay": "float8"}
SEQUENCE_COLUMNS = {**LINE_COLUMNS, "last": "bigint"}


def lock(count: int) -> str:
    """Keep other consumers out of lines until the commit, in one order, so that none deadlock."""
    return f"SELECT pg_advisory_xact_lock(number) FROM (VALUES {rows(1, count)}) AS line(number)"


def try_lock(count: int) -> str:
    """Lock those lines that no other consumer is in."""
    return (
        "SELECT number, pg_try_advisory_xact_lock(number) "
        f"FROM (VALUES {rows(1, count)}) AS line(number)"
    )


def lines(count: int, vendor: str) -> str:
    """Read the ends of lines and their sequences, each by an index, however long a line is."""
    here = (
        "FROM django_inbox_receipt AS receipt WHERE receipt.handler = line.handler "
        'AND receipt.source = line.source AND receipt."key" = line."key" '
        f"AND receipt.state {one_of(OPEN)} "
        "ORDER BY receipt.place {order}, receipt.id {order} LIMIT 1"
    )
    head, tail = here.format(order="ASC"), here.format(order="DESC")
    return (
        f"WITH {table('line', LINE_COLUMNS, count, vendor)} "
        'SELECT line.handler, line.source, line."key", '
        f"(SELECT receipt.state {head}), (SELECT receipt.place {head}), "
        f"(SELECT receipt.place {tail}), (SELECT number.last FROM django_inbox_keysequence AS "
        "number WHERE number.handler = line.handler AND number.source = line.source AND "
        'number."key" = line."key") FROM line'
    )


def move() -> str:
    """Give a receipt another place in its line."""
    return "UPDATE django_inbox_receipt SET place = %s WHERE id = %s"


def wake(count: int, vendor: str) -> str:
    """Let the heads of lines be due after some seconds, if they wait."""
    return (
        f"WITH {table('line', WOKEN_COLUMNS, count, vendor)}, head(id, delay) AS (SELECT "
        "(SELECT receipt.id FROM django_inbox_receipt AS receipt "
        "WHERE receipt.handler = line.handler AND receipt.source = line.source AND "
        f'receipt."key" = line."key" AND receipt.state {one_of(OPEN)} '
        "ORDER BY receipt.place, receipt.id LIMIT 1), line.delay FROM line) "
        "UPDATE django_inbox_receipt AS receipt "
        f"SET next_attempt_at = {later('head.delay', vendor)} "
        "FROM head WHERE receipt.id = head.id AND receipt.state = 'waiting'"
    )


def overdue(vendor: str) -> str:
    """Tell whether something in a line behind a place has waited for as long as it was to."""
    return (
        "SELECT 1 FROM django_inbox_receipt "
        'WHERE handler = %s AND source = %s AND "key" = %s AND place > %s '
        f"AND state = 'waiting' AND next_attempt_at <= {clock(vendor)} LIMIT 1"
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
    row = f"({', '.join(['%s'] * len(SEQUENCE_COLUMNS))}, {clock(vendor)})"
    return (
        f"INSERT INTO django_inbox_keysequence ({names(list(SEQUENCE_COLUMNS))}, changed) "
        f"VALUES {', '.join([row] * count)} "
        'ON CONFLICT (handler, source, "key") DO UPDATE '
        "SET last = EXCLUDED.last, changed = EXCLUDED.changed "
        "WHERE django_inbox_keysequence.last < EXCLUDED.last"
    )
