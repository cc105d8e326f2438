"""The log: read it, and write checkpoints. Values are parameters, names are fixed here."""

from outbox.database.dialect import PG_STATEMENT_NOW, SQLITE_STATEMENT_NOW
from relay.snapshots import EMPTY
from relay.sql.tables import (
    CHECKPOINT_COLUMNS,
    CHECKPOINT_TABLE,
    MESSAGE,
    PARKED_TABLE,
    PG_FULL,
    PG_HERE,
    PG_MOVED,
    PG_POSITIONS,
    PG_STRANGER,
    START,
)

# In the order of Envelope's fields, so that a row becomes one without a detour.
_ENVELOPE = (
    "source, type, data, content_type, version, topic, subject, key, time, "
    "correlation_id, causation_id, trace_parent, trace_state, attributes"
)  # after message_id

_NEWEST = f"""
    SELECT {{columns}} FROM {CHECKPOINT_TABLE}
    WHERE relay = %(relay)s AND lane = {{lane}}
    ORDER BY previous DESC LIMIT 1
"""

_MY_START = START.format(columns="*", relay="%(relay)s")

# Past this many messages in a window, looking up where the next one starts is cheaper than
# scanning this one again.
LARGE_WINDOW = 10_000

# The only row that a relay writes for a page; its transaction id is the column's default.
CHECKPOINT = (
    f"INSERT INTO {CHECKPOINT_TABLE} ({', '.join(CHECKPOINT_COLUMNS)}) "
    f"VALUES ({', '.join(['%s'] * len(CHECKPOINT_COLUMNS))})"
)

# Whether a relay has parked anything, which a page's keys may have to wait for; and whether some of
# the lane is due. By partial indexes, so nothing but a look where nothing is parked.
_PARKED = f"""
EXISTS (SELECT 1 FROM {PARKED_TABLE} AS p
        WHERE p.relay = %(relay)s AND p.state IN ('parked', 'waiting', 'dead'))
"""

_RETRIES = f"""
EXISTS (SELECT 1 FROM {PARKED_TABLE} AS p
        WHERE p.relay = %(relay)s AND p.lane = {{lane}} AND p.state = 'parked'
          AND p.next_attempt_at <= {{now}})
"""

_DRAWN = PG_FULL.format(xmin="drawn.xmin")

_PG_COLUMNS = "*, xmin AS written"

_PG_MY_START = START.format(columns=_PG_COLUMNS, relay="%(relay)s")

_PG_MY_NEWEST = _NEWEST.replace("{columns}", _PG_COLUMNS)

# The idle poll: all lanes in one statement, by index, whatever the size of the log. New rows
# belong to transactions from xmax on of what a lane has seen, or to those in flight in it. A lane
# without a chain has seen what the relay's start saw; to start from now is done in one lane, so
# that all processes agree. Lanes beyond LANES have rows if there were more of them once. Not
# EXISTS: that would drop the ORDER BY, which is what keeps the planner on the index of
# transaction ids; with `=` instead of BETWEEN it could prefer to walk the index of positions. The
# second column tells that the lane's cursor or some row can only come from another cluster; see
# relay/log/rebase.py. The third tells that the relay has never published anything.
PG_LANES = f"""
SELECT lanes.lane, {PG_MOVED} OR {PG_STRANGER}, c.transaction_id IS NULL
FROM generate_series(
    0, greatest(%(lanes)s - 1, (SELECT max(lane) FROM {MESSAGE}))) AS lanes (lane)
CROSS JOIN {PG_HERE}
LEFT JOIN LATERAL ({_PG_MY_NEWEST.format(lane="lanes.lane")}) AS own ON true
LEFT JOIN ({_PG_MY_START}) AS start ON own.id IS NULL
CROSS JOIN LATERAL (
    SELECT own.complete,
           coalesce(own.ceiling, start.floor,
                    CASE WHEN %(from_beginning)s THEN '{EMPTY}'::pg_snapshot END) AS ceiling,
           coalesce(own.system_identifier, start.system_identifier) AS system_identifier,
           coalesce(own.transaction_id, start.transaction_id) AS transaction_id,
           coalesce(own.written, start.written) AS written
    ) AS c
WHERE NOT c.complete
   OR {PG_MOVED}
   OR (c.ceiling IS NULL AND (lanes.lane = 0 OR {PG_STRANGER}))
   OR (SELECT m.transaction_id FROM {MESSAGE} AS m
       WHERE m.lane = lanes.lane AND m.transaction_id >= pg_snapshot_xmax(c.ceiling)
       ORDER BY m.transaction_id LIMIT 1) IS NOT NULL
   OR (SELECT landed.position FROM pg_snapshot_xip(c.ceiling) AS flying (xid)
       CROSS JOIN LATERAL (
           SELECT m.position FROM {MESSAGE} AS m
           WHERE m.lane = lanes.lane AND m.transaction_id BETWEEN flying.xid AND flying.xid
           ORDER BY m.transaction_id LIMIT 1) AS landed
       LIMIT 1) IS NOT NULL
   OR {_RETRIES.format(lane="lanes.lane", now=PG_STATEMENT_NOW)}
"""

# A statement of its own: the snapshot that reads the cursor must be younger than the lock, or it
# could miss the checkpoint of the process that held it. The sequence is read before this
# transaction gets an id; see PostgreSQLLog. Until the page is read, the planner must walk the
# index of positions: on a table without fresh statistics it would rather collect the whole
# window and sort it, for every page of it. Where nothing can be written, nothing may be
# published: without checkpoints it would be the same page again and again. During a rebase, which
# holds its lock for itself, nobody gets a lane. A sort that can't be avoided looks so costly then
# that the server would compile the statement for longer than it runs.
PG_ACQUIRE = f"""
SELECT pg_try_advisory_xact_lock_shared(%(rebase_key)s, 0)
       AND pg_try_advisory_xact_lock(%(relay_key)s, %(lane)s),
       coalesce(pg_sequence_last_value(positions.oid), 0), positions.oid::bigint,
       current_setting('transaction_read_only')::boolean,
       set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
       set_config('jit', 'off', true)
FROM (SELECT {PG_POSITIONS} AS oid) AS positions
"""

# The cursor and, in the same snapshot, the ceiling of a new window and, after a large one, a
# bound from below for its new rows, by what is said in PostgreSQLLog of the checkpoint that opened
# the large one. A lane without a chain goes on where the relay has started, as if it had come that
# far with that very checkpoint.
# OFFSET 0 is a fence: to look for the minimum along the positions would be to read all history.
# No bound holds if the sequence was set back since the cursor was taken, which the column behind it
# tells: TRUNCATE ... RESTART IDENTITY, ALTER SEQUENCE and a restored table give it a new row in the
# catalog.
# How the page is best read depends on where it starts, so it is planned each time.
PG_CURSOR = f"""
SELECT pg_current_snapshot()::text, here.system_identifier, {PG_MOVED},
       {_PARKED}, {_RETRIES.format(lane="%(lane)s", now=PG_STATEMENT_NOW)},
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
       pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint,
       c.transaction_id::text::bigint,
       own.id, c.floor::text, c.ceiling::text, c.position, c.complete, c.sequence,
       c.window_start, c.next_start, c.window_previous, c.window_count, c.system_identifier,
       (SELECT least(opened.sequence, (
               SELECT min(landed.position) - 1 FROM (
                   SELECT m.position FROM {MESSAGE} AS m
                   WHERE m.lane = %(lane)s AND m.transaction_id
                       BETWEEN pg_snapshot_xmax(c.ceiling) AND opened.transaction_id
                   ORDER BY m.transaction_id OFFSET 0) AS landed))
        FROM (SELECT o.sequence, o.transaction_id FROM {CHECKPOINT_TABLE} AS o
              WHERE o.relay = %(relay)s AND o.lane = c.lane AND o.previous = c.window_previous
                AND c.complete AND c.window_count > %(large)s) AS opened),
       (SELECT NOT pg_visible_in_snapshot({_DRAWN}::text::xid8, c.ceiling)
        FROM pg_class AS drawn WHERE drawn.oid = %(positions)s::oid),
       set_config('plan_cache_mode', 'force_custom_plan', true)
FROM {PG_HERE}
LEFT JOIN LATERAL ({_PG_MY_NEWEST.format(lane="%(lane)s")}) AS own ON true
LEFT JOIN LATERAL (SELECT * FROM ({_PG_MY_START}) AS start WHERE own.id IS NULL) AS start ON true
CROSS JOIN LATERAL (
    SELECT coalesce(own.lane, start.lane) AS lane,
           coalesce(own.floor, start.floor) AS floor,
           coalesce(own.ceiling, start.floor) AS ceiling,
           coalesce(own.position, 0) AS position,
           coalesce(own.complete, true) AS complete,
           coalesce(own.sequence, start.sequence) AS sequence,
           coalesce(own.window_start, 0) AS window_start,
           coalesce(own.next_start, 0) AS next_start,
           coalesce(own.window_previous, 0) AS window_previous,
           -- Counted as large, unless it is all there is, so that the lane's start is looked up.
           coalesce(own.window_count, CASE WHEN start.floor::text <> '{EMPTY}'
                                           THEN %(large)s + 1 ELSE 0 END) AS window_count,
           coalesce(own.system_identifier, start.system_identifier) AS system_identifier,
           coalesce(own.transaction_id, start.transaction_id) AS transaction_id,
           coalesce(own.written, start.written) AS written
    ) AS c
"""

# A transaction of its own that writes to the server's log next to nothing, and commits when that is
# on disk, together with everything before it; for this server alone, without waiting for others.
PG_FLUSH = (
    "BEGIN; SET LOCAL synchronous_commit = local; "
    "SELECT pg_logical_emit_message(true, 'django_outbox', ''); COMMIT"
)

# The lowest position of a window's new transactions, where no bound is to be trusted: reads their
# part of the index.
PG_LOWEST = f"""
SELECT min(new.position) FROM (
    SELECT m.position FROM {MESSAGE} AS m
    WHERE m.lane = %(lane)s AND m.transaction_id >= pg_snapshot_xmax(%(floor)s::pg_snapshot)
    ORDER BY m.transaction_id OFFSET 0) AS new
"""

# Where positions begin anew, what is known of parked messages must not be taken for what comes to
# their places.
PG_DETACH = f"""
UPDATE {PARKED_TABLE} AS p SET position = -p.position
WHERE p.relay = %(relay)s AND p.lane = %(lane)s AND p.position > 0
  AND NOT EXISTS (SELECT FROM {MESSAGE} AS m
                  WHERE m.position = p.position AND m.message_id = p.message_id)
"""

# In UTC without saying so, and as text: Python is slow at time zones, UUIDs and JSON, of which the
# relay needs none.
_PG_FIELDS = "m.position, m.message_id::text, " + _ENVELOPE.replace(
    " time,", " m.time AT TIME ZONE 'UTC' AS time,"
).replace("attributes", "attributes::text")

# The rows of a window above a position. Both snapshots are filters on purpose: position order
# is walked on its own index.
_PG_NEW = f"""
SELECT {_PG_FIELDS} FROM {MESSAGE} AS m
WHERE m.lane = %(lane)s AND m.position > %(after)s
  AND pg_visible_in_snapshot(m.transaction_id, %(ceiling)s::pg_snapshot)
  AND NOT pg_visible_in_snapshot(m.transaction_id, %(floor)s::pg_snapshot)
ORDER BY m.position LIMIT %(size)s + 1
"""

# The rows of transactions that were in flight at the floor, fetched by exact id: reaching for
# them through a range would cost more the longer the oldest transaction stays open. Pairs are
# compared, so that each page of a straggler with many rows starts where the last one ended.
_PG_LANDED = f"""
SELECT m.* FROM unnest(%(stragglers)s::xid8[]) AS straggler (xid)
CROSS JOIN LATERAL (
    SELECT {_PG_FIELDS} FROM {MESSAGE} AS m
    WHERE m.lane = %(lane)s
      AND (m.transaction_id, m.position) > (straggler.xid, %(last)s)
      AND (m.transaction_id, m.position) <= (straggler.xid, %(window_start)s)
    ORDER BY m.transaction_id, m.position LIMIT %(size)s + 1) AS m
"""

# A page ends before the message that would make it too large; its first message it has in any
# case. The sizes are added up on stored values, which reads none of them, and what is behind the
# page never leaves the database, but for the answer whether there is more.
_PAGE = """
SELECT {columns}, more FROM (
    SELECT page.*, lead(position) OVER w IS NOT NULL AS more,
           lag(position) OVER w IS NULL AS first, sum({length}(data)) OVER w AS bytes
    FROM ({rows}) AS page
    WINDOW w AS (ORDER BY position ROWS UNBOUNDED PRECEDING)) AS page
WHERE (bytes <= %(bytes)s OR first){planner}
ORDER BY position LIMIT %(size)s
"""

_COLUMNS = f"position, message_id, {_ENVELOPE}"

# Planned by now, so handlers that run in this transaction get the planner back as it usually is.
_PG_PLANNER = """
AND (SELECT set_config('enable_bitmapscan', 'on', true) || set_config('enable_sort', 'on', true)
            || set_config('plan_cache_mode', 'auto', true)) IS NOT NULL"""


def _pg_page(rows: str) -> str:
    return _PAGE.format(columns=_COLUMNS, length="octet_length", rows=rows, planner=_PG_PLANNER)


PG_PAGE = _pg_page(_PG_NEW)

PG_PAGE_WITH_STRAGGLERS = _pg_page(f"""
    SELECT * FROM (({_PG_LANDED}) UNION ALL ({_PG_NEW})) AS merged
    ORDER BY position LIMIT %(size)s + 1""")

# Single messages, of which a page is made that is no larger than any other.
PG_FETCH = _PAGE.format(
    columns=_COLUMNS,
    length="octet_length",
    rows=f"SELECT {_PG_FIELDS} FROM {MESSAGE} AS m WHERE m.position = ANY(%(positions)s)",
    planner="",
)

# How these are best read depends on where they start.
PG_PAGES = frozenset({PG_PAGE, PG_PAGE_WITH_STRAGGLERS})

SQLITE_LANES = f"""
SELECT DISTINCT m.lane FROM {MESSAGE} AS m
WHERE m.position > coalesce(
    (SELECT c.position FROM {CHECKPOINT_TABLE} AS c
     WHERE c.relay = %(relay)s AND c.lane = m.lane ORDER BY c.previous DESC LIMIT 1),
    (SELECT start.window_start FROM ({_MY_START}) AS start),
    CASE WHEN %(from_beginning)s THEN 0 END)
UNION
SELECT 0 WHERE NOT %(from_beginning)s AND NOT EXISTS ({_MY_START})
UNION
SELECT p.lane FROM {PARKED_TABLE} AS p
WHERE p.relay = %(relay)s AND p.state = 'parked' AND p.next_attempt_at <= {SQLITE_STATEMENT_NOW}
"""

SQLITE_PARKED = f"SELECT {_PARKED}, {_RETRIES.format(lane='%(lane)s', now=SQLITE_STATEMENT_NOW)}"

# The cursor, or where the relay has started, and where it would start now.
SQLITE_CURSOR = f"""
SELECT own.id, coalesce(own.position, start.window_start),
       (SELECT coalesce(max(position), 0) FROM {MESSAGE})
FROM (SELECT 1) AS one
LEFT JOIN ({_NEWEST.format(columns="*", lane="%(lane)s")}) AS own ON true
LEFT JOIN ({_MY_START}) AS start ON true
"""

_SQLITE_ROWS = f"""
SELECT {_COLUMNS} FROM {MESSAGE}
WHERE lane = %(lane)s AND position > %(after)s ORDER BY position LIMIT %(size)s + 1
"""

SQLITE_PAGE = _PAGE.format(columns=_COLUMNS, length="length", rows=_SQLITE_ROWS, planner="")

SQLITE_FETCH = _PAGE.format(
    columns=_COLUMNS,
    length="length",
    rows=f"""SELECT {_COLUMNS} FROM {MESSAGE}
             WHERE position IN (SELECT value FROM json_each(%(positions)s))""",
    planner="",
)
