"""Every statement that the relay runs. Values are parameters, names are fixed here."""

from relay.snapshots import EMPTY

MESSAGE = "django_outbox_message"
CHECKPOINT_TABLE = "django_relay_checkpoint"
PARKED_TABLE = "django_relay_parked"

# In the order of Envelope's fields, so that a row becomes one without a detour.
_ENVELOPE = (
    "source, type, data, content_type, version, topic, subject, key, time, "
    "correlation_id, causation_id, trace_parent, trace_state, attributes"
)  # after message_id

_NEWEST = f"""
    SELECT * FROM {CHECKPOINT_TABLE}
    WHERE relay = %(relay)s AND lane = {{lane}}
    ORDER BY previous DESC LIMIT 1
"""

# Where a relay has started, in all lanes: its first checkpoint, which has an index of its own.
_START = f"""
    SELECT * FROM {CHECKPOINT_TABLE}
    WHERE relay = {{relay}} AND previous = 0
    ORDER BY id LIMIT 1
"""
_MY_START = _START.format(relay="%(relay)s")

# Past this many messages in a window, looking up where the next one starts is cheaper than
# scanning this one again.
LARGE_WINDOW = 10_000

CHECKPOINT_COLUMNS = (
    "relay",
    "lane",
    "previous",
    "floor",
    "ceiling",
    "position",
    "complete",
    "sequence",
    "window_start",
    "next_start",
    "window_previous",
    "window_count",
    "system_identifier",
    "first_position",
    "count",
    "published_by",
    "duration",
    "created",
)

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
_PG_NOW = "statement_timestamp()"
_SQLITE_NOW = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"  # what Django's Now() is there

# --- PostgreSQL ---------------------------------------------------------------------------

# The idle poll: all lanes in one statement, by index, whatever the size of the log. New rows
# belong to transactions from xmax on of what a lane has seen, or to those in flight in it. A lane
# without a chain has seen what the relay's start saw; to start from now is done in one lane, so
# that all processes agree. Lanes beyond LANES have rows if there were more of them once. Not
# EXISTS: that would drop the ORDER BY, which is what keeps the planner on the index of
# transaction ids; with `=` instead of BETWEEN it could prefer to walk the index of positions.
PG_LANES = f"""
SELECT lanes.lane
FROM generate_series(
    0, greatest(%(lanes)s - 1, (SELECT max(lane) FROM {MESSAGE}))) AS lanes (lane)
LEFT JOIN LATERAL ({_NEWEST.format(lane="lanes.lane")}) AS c ON true
CROSS JOIN LATERAL (SELECT coalesce(
    c.ceiling,
    (SELECT start.floor FROM ({_MY_START}) AS start),
    CASE WHEN %(from_beginning)s THEN '{EMPTY}'::pg_snapshot END)) AS seen (snapshot)
WHERE NOT c.complete
   OR (seen.snapshot IS NULL AND lanes.lane = 0)
   OR (SELECT m.transaction_id FROM {MESSAGE} AS m
       WHERE m.lane = lanes.lane AND m.transaction_id >= pg_snapshot_xmax(seen.snapshot)
       ORDER BY m.transaction_id LIMIT 1) IS NOT NULL
   OR (SELECT landed.position FROM pg_snapshot_xip(seen.snapshot) AS flying (xid)
       CROSS JOIN LATERAL (
           SELECT m.position FROM {MESSAGE} AS m
           WHERE m.lane = lanes.lane AND m.transaction_id BETWEEN flying.xid AND flying.xid
           ORDER BY m.transaction_id LIMIT 1) AS landed
       LIMIT 1) IS NOT NULL
   OR {_RETRIES.format(lane="lanes.lane", now=_PG_NOW)}
"""

# A statement of its own: the snapshot that reads the cursor must be younger than the lock, or it
# could miss the checkpoint of the process that held it. The sequence is read before this
# transaction gets an id; see PostgreSQLLog. Until the page is read, the planner must walk the
# index of positions: on a table without fresh statistics it would rather collect the whole
# window and sort it, for every page of it. Where nothing can be written, nothing may be
# published: without checkpoints it would be the same page again and again.
PG_ACQUIRE = f"""
SELECT pg_try_advisory_xact_lock(%(relay_key)s, %(lane)s),
       coalesce(pg_sequence_last_value(
           pg_get_serial_sequence('{MESSAGE}', 'position')::regclass), 0),
       current_setting('transaction_read_only')::boolean,
       set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)
"""

# The cursor and, in the same snapshot, the ceiling of a new window and, after a large one, a
# bound from below for its new rows, by what is said in PostgreSQLLog of the checkpoint that opened
# the large one. A lane without a chain goes on where the relay has started, as if it had come that
# far with that very checkpoint.
# OFFSET 0 is a fence: to look for the minimum along the positions would be to read all history.
PG_CURSOR = f"""
SELECT pg_current_snapshot()::text,
       (SELECT system_identifier FROM pg_control_system()),
       {_PARKED}, {_RETRIES.format(lane="%(lane)s", now=_PG_NOW)},
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
                AND c.complete AND c.window_count > %(large)s) AS opened)
FROM (SELECT) AS one
LEFT JOIN LATERAL ({_NEWEST.format(lane="%(lane)s")}) AS own ON true
LEFT JOIN LATERAL (SELECT * FROM ({_MY_START}) AS start WHERE own.id IS NULL) AS start ON true
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
           coalesce(own.system_identifier, start.system_identifier) AS system_identifier
    ) AS c
"""

_PG_FIELDS = f"m.position, m.message_id::text, {_ENVELOPE}"

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
# them through a range would cost more the longer the oldest transaction stays open.
_PG_LANDED = f"""
SELECT m.* FROM unnest(%(stragglers)s::xid8[]) AS straggler (xid)
CROSS JOIN LATERAL (
    SELECT {_PG_FIELDS} FROM {MESSAGE} AS m
    WHERE m.lane = %(lane)s AND m.transaction_id BETWEEN straggler.xid AND straggler.xid
      AND m.position > %(last)s AND m.position <= %(window_start)s
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

# Planned by now, so handlers that run in this transaction get the planner back as it was.
_PG_PLANNER = """
AND (SELECT set_config('enable_bitmapscan', 'on', true) || set_config('enable_sort', 'on', true)
) IS NOT NULL"""


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

# --- SQLite (development): one writer at a time, so position order is commit order --------

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
WHERE p.relay = %(relay)s AND p.state = 'parked' AND p.next_attempt_at <= {_SQLITE_NOW}
"""

SQLITE_PARKED = f"SELECT {_PARKED}, {_RETRIES.format(lane='%(lane)s', now=_SQLITE_NOW)}"

# The cursor, or where the relay has started, and where it would start now.
SQLITE_CURSOR = f"""
SELECT own.id, coalesce(own.position, start.window_start),
       (SELECT coalesce(max(position), 0) FROM {MESSAGE})
FROM (SELECT 1) AS one
LEFT JOIN ({_NEWEST.format(lane="%(lane)s")}) AS own ON true
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

# --- Admin and reports: what the checkpoints say about messages; reads only ---------------

# Whether a relay had published a message by checkpoint c. Once true, it is true for every later
# checkpoint of the chain.
_PG_COVERS = """
(pg_visible_in_snapshot({transaction_id}, c.floor)
 OR (pg_visible_in_snapshot({transaction_id}, c.ceiling)
     AND (c.complete OR {position} <= c.position)))
"""
_SQLITE_COVERS = "({position} <= c.position)"

# Whether a message was there before the window of checkpoint c.
_PG_SKIPS = "pg_visible_in_snapshot({transaction_id}, c.floor)"
_SQLITE_SKIPS = "({position} <= c.window_start)"

# Whether a relay that started from "now" has left a message behind. That start is looked up once
# for a whole statement.
_PG_LEFT_BEHIND = "pg_visible_in_snapshot({transaction_id}, (SELECT floor FROM ({start}) AS start))"
_SQLITE_LEFT_BEHIND = "({position} <= (SELECT window_start FROM ({start}) AS start))"

# The lowest position of those transactions that had an id and were not seen when a relay started.
# Lanes and ids are given one by one, so that the planner knows how few they are.
PG_EARLIEST = f"""
SELECT min(early.position) FROM unnest(%(lanes)s::smallint[]) AS lanes (lane)
CROSS JOIN LATERAL (
    (SELECT m.position FROM {MESSAGE} AS m
     WHERE m.lane = lanes.lane AND m.transaction_id BETWEEN %(first)s::xid8 AND %(last)s::xid8
     ORDER BY m.transaction_id OFFSET 0)
    UNION ALL
    SELECT m.position FROM unnest(%(in_flight)s::xid8[]) AS flying (xid)
    CROSS JOIN LATERAL (
        SELECT m.position FROM {MESSAGE} AS m
        WHERE m.lane = lanes.lane AND m.transaction_id BETWEEN flying.xid AND flying.xid
        ORDER BY m.transaction_id, m.position LIMIT 1) AS m) AS early
"""

# How to join the first checkpoint in some order, as c, of those that fulfil a condition on p. With
# LATERAL the planner has no choice but one index lookup for each row; SQLite has neither.
_PG_ONE = f"""
LATERAL (SELECT p.* FROM {CHECKPOINT_TABLE} AS p WHERE {{where}}
         ORDER BY {{order}} LIMIT 1) AS c ON true
"""
_SQLITE_ONE = f"""
{CHECKPOINT_TABLE} AS c ON c.id = (
    SELECT p.id FROM {CHECKPOINT_TABLE} AS p WHERE {{where}} ORDER BY {{order}} LIMIT 1)
"""

# The state of one message: two index lookups for each relay. One that was parked and published
# after all counts as published.
_STATE = f"""
CASE WHEN coalesce({{left_behind}}, false) THEN 'skipped'
     ELSE coalesce(
        (SELECT p.state FROM {PARKED_TABLE} AS p
         WHERE p.relay = %s AND p.position = {{position}} AND p.state <> 'published'),
        (SELECT CASE WHEN {{covers}} THEN 'published' END FROM {CHECKPOINT_TABLE} AS c
         WHERE c.relay = %s AND c.lane = {{lane}} ORDER BY c.previous DESC LIMIT 1),
        'pending') END
"""

# The names of all relays that ever published, by hopping from one to the next on the index of the
# chain: the cost is that of the names, not of the checkpoints.
_NAMES = f"""
names (relay) AS (
    SELECT min(relay) FROM {CHECKPOINT_TABLE}
    UNION ALL
    SELECT (SELECT min(c.relay) FROM {CHECKPOINT_TABLE} AS c WHERE c.relay > names.relay)
    FROM names WHERE names.relay IS NOT NULL
)
"""

# The newest checkpoint of every relay and lane, found in the same way.
_CURSORS = f"""
WITH RECURSIVE {_NAMES}, chains (relay, lane) AS (
    SELECT relay, (SELECT min(c.lane) FROM {CHECKPOINT_TABLE} AS c WHERE c.relay = names.relay)
    FROM names WHERE relay IS NOT NULL
    UNION ALL
    SELECT relay, (SELECT min(c.lane) FROM {CHECKPOINT_TABLE} AS c
                   WHERE c.relay = chains.relay AND c.lane > chains.lane)
    FROM chains WHERE lane IS NOT NULL
)
SELECT c.* FROM chains JOIN {{newest}} ORDER BY c.relay, c.lane
"""
_OF_CHAIN = "p.relay = chains.relay AND p.lane = chains.lane"

# For every relay, the first checkpoint that covers a message: a binary search along the chain,
# over the values of `previous`, by one index lookup a step. `high` always covers; nothing below
# `low` does. It takes about log2(newest id) steps, whatever the number of checkpoints. And the
# relay's start, if that left the message behind: the message's lane may be without a chain.
_COVERING = f"""
WITH RECURSIVE {_NAMES}, search (relay, low, high) AS (
    SELECT c.relay, CAST(0 AS bigint), c.previous
    FROM names JOIN {{newest}} WHERE {{covers}}
    UNION ALL
    SELECT search.relay,
           CASE WHEN c.id IS NULL THEN (low + high) / 2 + 1 ELSE low END,
           coalesce(c.previous, high)
    FROM search LEFT JOIN {{middle}} AND {{covers}}
    WHERE low < high
)
SELECT c.*, {{skips}} AS skips FROM search JOIN {{found}} WHERE low >= high
UNION ALL
SELECT c.*, {{skips}} AS skips FROM names JOIN {{start}} WHERE {{skips}}
ORDER BY relay
"""
_OF_NAME = "p.relay = names.relay AND p.lane = %(lane)s"
_MIDDLE = (
    "p.relay = search.relay AND p.lane = %(lane)s"
    " AND p.previous BETWEEN search.low AND (search.low + search.high) / 2"
)
_FOUND = "p.relay = search.relay AND p.lane = %(lane)s AND p.previous = search.high"

# --- Health -----------------------------------------------------------------------------------

PG_SYSTEM_IDENTIFIER = "SELECT system_identifier FROM pg_control_system()"

_PG_SESSION = """
SELECT a.pid, a.usename, a.application_name, a.client_addr::text, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8, left(a.query, 1024)
FROM pg_stat_activity AS a
"""

# Who has written to the log and not committed: nobody sees these messages before they do.
PG_EMITTERS = f"""
{_PG_SESSION} JOIN pg_locks AS l ON l.pid = a.pid
WHERE l.locktype = 'relation' AND l.relation = '{MESSAGE}'::regclass AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode = 'RowExclusiveLock' AND a.backend_type = 'client backend'
  AND a.xact_start < clock_timestamp() - %(age)s::interval
ORDER BY a.xact_start LIMIT 5
"""

# Who keeps vacuum from removing dead rows: snapshots of this database, transactions of any.
PG_PINS = f"""
{_PG_SESSION}
WHERE (a.backend_xid IS NOT NULL
       OR (a.backend_xmin IS NOT NULL AND a.datname = current_database()))
  AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
  AND a.xact_start < clock_timestamp() - %(age)s::interval
ORDER BY a.xact_start LIMIT 5
"""

# The same without a session: transactions prepared and forgotten, and slots nobody reads.
PG_PREPARED = """
SELECT gid, owner, extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < clock_timestamp() - %(age)s::interval
ORDER BY prepared LIMIT 5
"""
PG_SLOTS = """
SELECT slot_name, slot_type, xmin IS NOT NULL OR catalog_xmin IS NOT NULL,
       CASE WHEN NOT pg_is_in_recovery()
            THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END
FROM pg_replication_slots
WHERE NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL OR restart_lsn IS NOT NULL)
ORDER BY slot_name LIMIT 5
"""

# Traces of relay processes: one that listens, of whatever name, or one that has a lane of this.
PG_PRESENCE = """
SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database()
                 AND query LIKE 'LISTEN "' || %(channel)s || '"%%'),
       EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND classid::bigint = %(relay_key)s::bigint & 4294967295)
"""

# --- Retention ------------------------------------------------------------------------------

# The lanes that the log has messages in, by hopping on the index from one to the next.
LANES_OF_LOG = f"""
WITH RECURSIVE lanes (lane) AS (
    SELECT min(lane) FROM {MESSAGE}
    UNION ALL
    SELECT (SELECT min(m.lane) FROM {MESSAGE} AS m WHERE m.lane > lanes.lane)
    FROM lanes WHERE lane IS NOT NULL
)
SELECT lane FROM lanes WHERE lane IS NOT NULL ORDER BY lane
"""

# What must hold before a message m is deleted, besides its age and the cursors of all relays: a
# parked message has left the flow, so the cursors have passed it. Not EXISTS: as a join the
# planner might read all that is parked, and sort it.
NOT_PARKED = f"""
(SELECT 1 FROM {PARKED_TABLE} AS p
 WHERE p.position = m.position AND p.state IN ('parked', 'waiting', 'dead') LIMIT 1) IS NULL
"""

# Examine rows of a lane in the order of positions, and delete those that are old and that every
# relay has published. A relay without a checkpoint in the lane has come as far as it was at its
# start; one of `owing` that has not even started, or whose cursor is of another cluster, has
# published nothing; one of `from_now` will begin after all there is. Nothing above the lowest
# cursor is looked at: however large the backlog, it is not walked through. The array keeps the
# planner from joining with the whole table.
_PG_EXAMINED = f"""
WITH readers AS MATERIALIZED (
    SELECT coalesce(own.floor, start.floor) AS floor,
           coalesce(own.ceiling, start.floor) AS ceiling,
           coalesce(own.complete, true) AS complete,
           coalesce(own.position, 0) AS position,
           coalesce(own.sequence, start.sequence) AS sequence,
           coalesce(own.system_identifier, start.system_identifier) AS system_identifier
    FROM (SELECT unnest(%(owing)s::text[]), true
          UNION ALL SELECT unnest(%(from_now)s::text[]), false) AS wanted (relay, owing)
    LEFT JOIN LATERAL (
        SELECT p.* FROM {CHECKPOINT_TABLE} AS p
        WHERE p.relay = wanted.relay AND p.lane = %(lane)s ORDER BY p.previous DESC LIMIT 1
    ) AS own ON true
    LEFT JOIN LATERAL ({_START.format(relay="wanted.relay")}) AS start ON true
    WHERE wanted.owing OR start.id IS NOT NULL
), bound AS MATERIALIZED (
    SELECT CASE
        WHEN bool_or(system_identifier IS DISTINCT FROM (
            SELECT system_identifier FROM pg_control_system())) THEN -1
        ELSE coalesce(min(greatest(position, sequence)), 9223372036854775807) END AS position
    FROM readers
), examined AS MATERIALIZED (
    SELECT m.position, m.time < %(before)s AS old,
        m.time < %(before)s AND {NOT_PARKED} AND NOT EXISTS (
            SELECT FROM readers AS c WHERE {{covers}} IS NOT TRUE) AS done
    FROM {MESSAGE} AS m
    WHERE m.lane = %(lane)s AND m.position > %(after)s
      AND m.position <= (SELECT bound.position FROM bound)
    ORDER BY m.position LIMIT %(limit)s
)
""".format(covers=_PG_COVERS.format(transaction_id="m.transaction_id", position="m.position"))
PG_PRUNE = f"""{_PG_EXAMINED}, gone AS (
    DELETE FROM {MESSAGE} WHERE position = ANY (ARRAY(SELECT position FROM examined WHERE done))
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone), count(*), max(position), bool_or(old) FROM examined
"""
PG_PRUNABLE = f"""{_PG_EXAMINED}
SELECT count(*) FILTER (WHERE done), count(*), max(position), bool_or(old) FROM examined
"""

# SQLite: `bound` is the lowest cursor of all relays in the lane.
_SQLITE_PRUNABLE = f"""
SELECT m.position FROM {MESSAGE} AS m
WHERE m.lane = %(lane)s AND m.position > %(after)s AND m.position <= %(bound)s
  AND m.time < %(before)s AND {NOT_PARKED}
ORDER BY m.position LIMIT %(limit)s
"""
SQLITE_PRUNE = f"DELETE FROM {MESSAGE} WHERE position IN ({_SQLITE_PRUNABLE})"
SQLITE_PRUNABLE = f"SELECT count(*), max(position) FROM ({_SQLITE_PRUNABLE})"


_OF_START = "p.relay = names.relay AND p.previous = 0"


def state(vendor: str, *, lane: str, transaction_id: str, position: str) -> str:
    """Return the expression for a message's state; it takes the relay's name three times."""
    columns = {"transaction_id": transaction_id, "position": position}
    left_behind = _PG_LEFT_BEHIND if vendor == "postgresql" else _SQLITE_LEFT_BEHIND
    return _STATE.format(
        lane=lane,
        position=position,
        left_behind=left_behind.format(start=_START.format(relay="%s"), **columns),
        covers=_conditions(vendor, columns)["covers"],
    )


def cursors(vendor: str) -> str:
    """Return the query for the newest checkpoint of every relay and lane."""
    return _CURSORS.format(newest=_one(vendor, _OF_CHAIN))


def covering(vendor: str) -> str:
    """Return the query for the first checkpoint of each relay that covers a message.

    It takes the message's lane, transaction_id and position; its column `skips` tells whether
    that checkpoint's window begins behind the message. For a message that a relay left behind
    when it started, there is that first checkpoint of the relay as well.
    """
    cast = "::xid8" if vendor == "postgresql" else ""
    columns = {"transaction_id": f"%(transaction_id)s{cast}", "position": "%(position)s"}
    return _COVERING.format(
        newest=_one(vendor, _OF_NAME),
        middle=_one(vendor, _MIDDLE),
        found=_one(vendor, _FOUND),
        start=_one(vendor, _OF_START, order="p.id"),
        **_conditions(vendor, columns),
    )


def _one(vendor: str, where: str, order: str = "p.previous DESC") -> str:
    return (_PG_ONE if vendor == "postgresql" else _SQLITE_ONE).format(where=where, order=order)


def _conditions(vendor: str, columns: dict[str, str]) -> dict[str, str]:
    if vendor == "postgresql":
        return {"covers": _PG_COVERS.format(**columns), "skips": _PG_SKIPS.format(**columns)}
    return {"covers": _SQLITE_COVERS.format(**columns), "skips": _SQLITE_SKIPS.format(**columns)}
