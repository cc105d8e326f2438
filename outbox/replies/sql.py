"""The statements that write requests and how they end, on PostgreSQL. Values are parameters."""

from functools import lru_cache

from outbox.producer import sql

REQUEST, REPLY = "django_outbox_request", "django_outbox_reply"
SETTLEMENT = "django_outbox_settlement"


@lru_cache(maxsize=4)
def ask(columns: tuple[str, ...]) -> str:
    """Return the statement that writes a request, its message and its deadline, or none of them.

    `columns` of the request besides asked_at and deadline, of which the first parameter says how
    far apart they are. If its idempotency key is taken, it waits for whoever has taken it, and
    returns no row.
    """
    return f"""
WITH asked AS (
    INSERT INTO {REQUEST} (asked_at, deadline, {", ".join(columns)})
    SELECT now.at, now.at + %s, {", ".join(["%s"] * len(columns))}
    FROM (SELECT clock_timestamp() AS at) AS now
    ON CONFLICT (once) DO NOTHING RETURNING deadline),
sent AS (
    INSERT INTO {sql.TABLE} ({sql.NAMES}) SELECT {sql.ENVELOPE} FROM asked),
later AS (
    INSERT INTO {sql.SCHEDULED} ({sql.LATER_NAMES})
    SELECT asked.deadline, {sql.ENVELOPE} FROM asked)
SELECT FROM asked
"""


# So that one at a time settles it. Who must not wait takes nothing that another has locked.
LOCK = f"""
SELECT id, message_id, type, version, correlation_id, wanted, deadline AT TIME ZONE 'UTC',
       expiry_id, callback_url <> '', owner
FROM {REQUEST} WHERE message_id = %s FOR UPDATE
"""
TRY_LOCK = f"{LOCK} SKIP LOCKED"

IS_ASKED = f"SELECT EXISTS (SELECT FROM {REQUEST} WHERE message_id = %s)"

# Takes the deadline back, unless that is what it ends with.
SETTLE = f"""
WITH settled AS (
    INSERT INTO {SETTLEMENT} (request_id, outcome, settled_at, reason, "by", told_id)
    VALUES (%(request)s, %(outcome)s, clock_timestamp(), %(reason)s, %(by)s, CAST(%(told)s AS uuid))
    ON CONFLICT (request_id) DO NOTHING RETURNING request_id),
unscheduled AS (
    DELETE FROM {sql.SCHEDULED}
    WHERE message_id = %(expiry)s AND EXISTS (SELECT FROM settled))
SELECT FROM settled
"""

# Of a locked request: keeps a reply, gives it its number if it counts, and settles the request if
# that was the last it wanted. One of each group that answers counts. A reply that is there already
# is left alone.
ANSWER = f"""
WITH had AS (
    SELECT count(number) AS counted,
           EXISTS (SELECT FROM {SETTLEMENT} WHERE request_id = %(request)s) AS ended,
           coalesce(bool_or(number IS NOT NULL AND source = %(source)s AND "group" = %(group)s),
                    false) AS second
    FROM {REPLY} WHERE request_id = %(request)s),
kept AS (
    INSERT INTO {REPLY} (request_id, message_id, source, type, version, content_type, data,
                         "group", received_at, number)
    SELECT %(request)s, %(message_id)s, %(source)s, %(type)s, %(version)s, %(content_type)s,
           %(data)s, %(group)s, clock_timestamp(),
           CASE WHEN %(counts)s AND NOT ended AND NOT second AND counted < %(wanted)s
                THEN counted + 1 END
    FROM had
    ON CONFLICT (request_id, message_id, source) DO NOTHING RETURNING number),
settled AS (
    INSERT INTO {SETTLEMENT} (request_id, outcome, settled_at, reason, "by", told_id)
    SELECT %(request)s, %(outcome)s, clock_timestamp(), '', %(by)s, CAST(%(told)s AS uuid)
    FROM kept WHERE number = %(wanted)s RETURNING request_id),
unscheduled AS (
    DELETE FROM {sql.SCHEDULED}
    WHERE message_id = %(expiry)s AND EXISTS (SELECT FROM settled))
SELECT number, EXISTS (SELECT FROM settled) FROM kept
"""
