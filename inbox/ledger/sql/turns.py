"""What is due: find it, note that calls begin, take it."""

from inbox.ledger.sql.parts import clock, in_utc, later, one_of, rows, table, transaction_id
from inbox.states import OPEN

NOTED_SECONDS = 1.0
"""How long a note that calls begin keeps others away, who after that see it by its locks."""
TAKEN_COLUMNS = {"id": "bigint", "begun": "smallint"}


def due(handlers: int, vendor: str) -> str:
    """Find what is due for some handlers, each by a range of an index, however much is not due.

    Receipts without an order come locked, so that each has one taker; the others are locked by
    their line. Not what somebody has begun with a moment ago. Parameters: the handlers, a limit
    for each, all this twice.
    """
    names = rows(1, handlers)
    columns = (
        "receipt.id, receipt.handler, receipt.source, receipt.key, receipt.place, "
        "COALESCE(receipt.begun, 0) AS begun"
    )
    wanted = f"receipt.next_attempt_at <= {clock(vendor)} AND NOT {_rests(vendor)}"
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


def first_due(handlers: int, vendor: str) -> str:
    """Tell when the first of what is planned for some handlers is due, in UTC.

    One lookup for each handler, however much is planned. Parameters: the handlers.
    """
    return (
        f"WITH {table('wanted', {'handler': 'text'}, handlers, vendor)} "
        f"SELECT {in_utc('min(first)', vendor)} FROM (SELECT ("
        "SELECT receipt.next_attempt_at FROM django_inbox_receipt AS receipt "
        "WHERE receipt.handler = wanted.handler AND receipt.next_attempt_at IS NOT NULL "
        "ORDER BY receipt.next_attempt_at LIMIT 1) AS first FROM wanted) AS planned"
    )


def ahead(vendor: str) -> str:
    """Find the first receipts of a line, and what is noted of calls for them."""
    stops = f"state = 'dead' OR (state = 'retrying' AND next_attempt_at > {clock(vendor)})"
    return (
        f"SELECT id, COALESCE(begun, 0), {_rests(vendor)}, {stops} "
        "FROM django_inbox_receipt AS receipt "
        f'WHERE handler = %s AND source = %s AND "key" = %s AND state {one_of(OPEN)} '
        "ORDER BY place, id LIMIT %s"
    )


def begin(count: int, vendor: str) -> str:
    """Note that calls begin for receipts which are locked, or whose lines are."""
    return (
        "UPDATE django_inbox_receipt SET begun = COALESCE(begun, 0) + 1, "
        f"begun_at = {clock(vendor)} WHERE id IN ({', '.join(['%s'] * count)})"
    )


def take(count: int, vendor: str) -> str:
    """Lock receipts by the note that we made, if they are due still; each with our transaction.

    Not SKIP LOCKED: who looks for what is due locks for a moment what he then leaves alone.
    """
    locked = " FOR UPDATE OF receipt" if vendor == "postgresql" else ""
    return (
        f"WITH {table('wanted', TAKEN_COLUMNS, count, vendor)} "
        f"SELECT receipt.id, {transaction_id(vendor)} FROM django_inbox_receipt AS receipt "
        "JOIN wanted ON receipt.id = wanted.id AND receipt.begun = wanted.begun "
        f"WHERE receipt.next_attempt_at <= {clock(vendor)} ORDER BY receipt.id{locked}"
    )


def transaction(vendor: str) -> str:
    """Read the running transaction's id, which is assigned if it has none."""
    return f"SELECT {transaction_id(vendor)}"


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
        f"AND receipt.next_attempt_at <= {clock(vendor)} AND {_rests(vendor)} LIMIT 1"
    )


def _rests(vendor: str) -> str:
    """Tell whether a call was noted so short a time ago that its transaction may not be there."""
    noted = f"receipt.begun_at > {later(str(-NOTED_SECONDS), vendor)}"
    return f"(receipt.begun_at IS NOT NULL AND {noted})"
