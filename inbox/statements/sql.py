"""Every statement about the inbox's side of statements. Values are parameters, names are fixed."""

# An id as the library writes it: a UUIDv7 in small letters.
_FORM = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"

# By the unique index on receipts, of which the message id comes first: a range of time is a range
# of ids. Dead letters too are what a group has had.
_HAD = """
SELECT message_id, type, state FROM django_inbox_receipt
WHERE message_id >= %(low)s AND message_id < %(high)s AND source = %(source)s
  AND handler {one_of}{of_type}
UNION ALL
SELECT message_id, type, state FROM django_inbox_deadletter
WHERE message_id >= %(low)s AND message_id < %(high)s AND source = %(source)s
  AND "group" = %(group)s{of_type}
"""
_PG_HAD = _HAD.format(one_of="= ANY(%(handlers)s)", of_type=" AND type ~ %(types)s")
# Which types are wanted is told of the few totals, not of each message.
_PG_ALL = _HAD.format(one_of="= ANY(%(handlers)s)", of_type="")
_PG_FORM = """
length(message_id) = 36 AND substr(message_id, 15, 1) = '7' AND substr(message_id, 9, 1) = '-'
AND substr(message_id, 14, 1) = '-' AND substr(message_id, 19, 1) = '-'
AND substr(message_id, 24, 1) = '-'
AND length(translate(message_id, '0123456789abcdef', '')) = 4
"""

# Bucket by bucket, the ids of each type in one text, of which the form is told at once: to look at
# each id by itself takes three times as long as all the rest. What is not `plain`, since an id has
# another form or something is not over, has no digest, and is left to PG_SETTLED.
_IDS = "^([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})*$"
_IN_BUCKET = _PG_ALL.replace("%(low)s", "bucket.low").replace("%(high)s", "bucket.high")
PG_TOTALS = f"""
SELECT bucket.start, had.type, length(had.ids) / 36,
       CASE WHEN had.plain AND had.ids ~ '{_IDS}'
            THEN encode(sha256(decode(replace(had.ids, '-', ''), 'hex')), 'hex') END
FROM unnest(%(starts)s::bigint[], %(lows)s::text[], %(highs)s::text[]) AS bucket (start, low, high)
CROSS JOIN LATERAL (
    SELECT type,
           string_agg(DISTINCT message_id::text COLLATE "C", ''
                      ORDER BY message_id::text COLLATE "C") AS ids,
           bool_and(octet_length(message_id) = 36 AND state = ANY(%(closed)s)) AS plain
    FROM ({_IN_BUCKET}) AS had GROUP BY type
) AS had
ORDER BY 1, 2
"""

# Settled: all that is there of a message is over. The time are the first 48 bits of the id.
_TIME = "('x' || substr(message_id, 1, 8) || substr(message_id, 10, 4))::bit(48)::bigint"
PG_SETTLED = f"""
SELECT {_TIME} / %(width)s * %(width)s AS start, type, count(*),
       encode(sha256(string_agg(
           decode(replace(message_id, '-', ''), 'hex'), ''::bytea ORDER BY message_id COLLATE "C"
       )), 'hex')
FROM (
    SELECT message_id, min(type) AS type FROM ({_PG_ALL}) AS had
    WHERE {_PG_FORM}
    GROUP BY message_id HAVING bool_and(state = ANY(%(closed)s))
) AS settled
GROUP BY 1, 2 ORDER BY 1, 2
"""

# Message by message, a page after the last one: what is not over counts more than what is.
PG_STATES = f"""
SELECT message_id, min(type),
       coalesce(min(state) FILTER (WHERE NOT state = ANY(%(closed)s)), 'settled')
FROM ({_PG_HAD}) AS had
WHERE {_PG_FORM} AND message_id > %(after)s
GROUP BY message_id ORDER BY message_id LIMIT %(limit)s
"""


def sqlite_states(handlers: int, closed: int) -> str:
    """Return PG_STATES for SQLite, for so many handlers and closed states."""
    one_of = f"IN ({_names('handler', handlers)})"
    had = _HAD.format(one_of=one_of, of_type=" AND type REGEXP %(types)s")
    over = _names("closed", closed)
    return f"""
SELECT message_id, min(type),
       coalesce(min(CASE WHEN state NOT IN ({over}) THEN state END), 'settled')
FROM ({had}) AS had
WHERE message_id REGEXP '{_FORM}' AND message_id > %(after)s
GROUP BY message_id ORDER BY message_id LIMIT %(limit)s
"""


# Messages that one handler has handled under two sources: the sender has taken another name.
_TWICE = """
SELECT message_id, min(type) FROM django_inbox_receipt
WHERE message_id >= %(low)s AND message_id < %(high)s AND handler {one_of}
GROUP BY message_id, handler
HAVING count(*) > 1 AND sum(CASE WHEN source = %(source)s THEN 1 ELSE 0 END) > 0
LIMIT %(limit)s
"""
PG_TWICE = _TWICE.format(one_of="= ANY(%(handlers)s)")


def sqlite_twice(handlers: int) -> str:
    """Return PG_TWICE for SQLite, for so many handlers."""
    return _TWICE.format(one_of=f"IN ({_names('handler', handlers)})")


def _names(name: str, count: int) -> str:
    return ", ".join(f"%({name}{number})s" for number in range(count)) or "NULL"
