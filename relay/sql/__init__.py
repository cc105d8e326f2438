"""Every statement that the relay runs. Values are parameters, names are fixed here."""

MESSAGE = "django_outbox_message"
CHECKPOINT_TABLE = "django_relay_checkpoint"

# In the order of Envelope's fields, so that a row becomes one without a detour.
_ENVELOPE = (
    "source, type, data, content_type, version, topic, subject, key, time, "
    "correlation_id, causation_id, trace_parent, trace_state, attributes"
)  # after message_id

_NEWEST = f"""
    SELECT *, xmin AS written FROM {CHECKPOINT_TABLE}
    WHERE relay = %(relay)s AND lane = {{lane}}
    ORDER BY previous DESC LIMIT 1
"""

# Past this many messages in a window, finding where the next one starts is cheaper than
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
    "window_count",
    "system_identifier",
    "first_position",
    "count",
    "published_by",
    "duration",
    "created",
)

# The only row that a relay writes for a page.
CHECKPOINT = (
    f"INSERT INTO {CHECKPOINT_TABLE} ({', '.join(CHECKPOINT_COLUMNS)}) "
    f"VALUES ({', '.join(['%s'] * len(CHECKPOINT_COLUMNS))})"
)

# --- PostgreSQL ---------------------------------------------------------------------------

# This cluster, and the lowest id that had not finished when the statement began.
PG_HERE = """
(SELECT system_identifier, pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax
 FROM pg_control_system()) AS here
"""

# Whether checkpoint c was written elsewhere. Within one cluster it got its own id (`written`, of
# which only the lower half is stored) after its ceiling was taken: it is never the older of the
# two. That finds what the identifier does not, a clone that is fed by logical replication.
PG_MOVED = """
coalesce(c.system_identifier <> here.system_identifier
         OR here.xmax - pg_snapshot_xmax(c.ceiling)::text::bigint
            < (here.xmax - c.written::text::bigint) & 4294967295, false)
"""

# The idle poll: all lanes in one statement, by index, whatever the size of the log. New rows
# belong to transactions from xmax(ceiling) on or to those in flight at the ceiling. Not EXISTS:
# that would drop the ORDER BY, which is what keeps the planner on the index of transaction ids;
# with `=` instead of BETWEEN it could prefer to walk the index of positions. The second column
# tells that the cursor, or a row of the lane, can only come from another cluster; see
# relay/log/rebase.py.
PG_LANES = f"""
SELECT lanes.lane, {PG_MOVED} OR (
    SELECT m.transaction_id FROM {MESSAGE} AS m
    WHERE m.lane = lanes.lane AND m.transaction_id >= pg_snapshot_xmax(pg_current_snapshot())
    ORDER BY m.transaction_id LIMIT 1) IS NOT NULL
FROM generate_series(0, %(lanes)s - 1) AS lanes (lane)
CROSS JOIN {PG_HERE}
LEFT JOIN LATERAL ({_NEWEST.format(lane="lanes.lane")}) AS c ON true
WHERE NOT c.complete
   OR {PG_MOVED}
   OR (c.id IS NULL AND %(from_beginning)s AND EXISTS (
        SELECT 1 FROM {MESSAGE} AS m WHERE m.lane = lanes.lane))
   OR (c.id IS NULL AND NOT %(from_beginning)s)
   OR (SELECT m.transaction_id FROM {MESSAGE} AS m
       WHERE m.lane = lanes.lane AND m.transaction_id >= pg_snapshot_xmax(c.ceiling)
       ORDER BY m.transaction_id LIMIT 1) IS NOT NULL
   OR (SELECT landed.position FROM pg_snapshot_xip(c.ceiling) AS flying (xid)
       CROSS JOIN LATERAL (
           SELECT m.position FROM {MESSAGE} AS m
           WHERE m.lane = lanes.lane AND m.transaction_id BETWEEN flying.xid AND flying.xid
           ORDER BY m.transaction_id LIMIT 1) AS landed
       LIMIT 1) IS NOT NULL
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
       coalesce(pg_sequence_last_value(
           pg_get_serial_sequence('{MESSAGE}', 'position')::regclass), 0),
       current_setting('transaction_read_only')::boolean,
       set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
       set_config('jit', 'off', true)
"""

# The cursor and, in the same snapshot, the ceiling of a new window and where its rows start.
# OFFSET 0 is a fence: to look for the minimum along the positions would be to read all history.
PG_CURSOR = f"""
SELECT pg_current_snapshot()::text, here.system_identifier, {PG_MOVED},
       c.id, c.floor::text, c.ceiling::text, c.position, c.complete, c.sequence,
       c.window_start, c.next_start, c.window_count, c.system_identifier,
       CASE WHEN c.complete AND c.window_count > {LARGE_WINDOW} THEN (
           SELECT min(landed.position) FROM (
               SELECT m.position FROM {MESSAGE} AS m
               WHERE m.lane = %(lane)s AND m.transaction_id >= pg_snapshot_xmax(c.ceiling)
               ORDER BY m.transaction_id OFFSET 0) AS landed) END
FROM {PG_HERE}
LEFT JOIN LATERAL ({_NEWEST.format(lane="%(lane)s")}) AS c ON true
"""

_PG_FIELDS = f"m.position, m.message_id::text, {_ENVELOPE}"

# The rows of a window above a position. Both snapshots are filters on purpose: position order
# is walked on its own index.
_PG_NEW = f"""
SELECT {_PG_FIELDS} FROM {MESSAGE} AS m
WHERE m.lane = %(lane)s AND m.position > %(after)s
  AND pg_visible_in_snapshot(m.transaction_id, %(ceiling)s::pg_snapshot)
  AND NOT pg_visible_in_snapshot(m.transaction_id, %(floor)s::pg_snapshot)
ORDER BY m.position LIMIT %(limit)s
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
    ORDER BY m.transaction_id, m.position LIMIT %(limit)s) AS m
"""

# Planned by now, so handlers that run in this transaction get the planner back as it was.
_PG_PLANNER = """
(SELECT set_config('enable_bitmapscan', 'on', true) || set_config('enable_sort', 'on', true)
) IS NOT NULL
"""
PG_PAGE = f"SELECT * FROM ({_PG_NEW}) AS page WHERE {_PG_PLANNER}"
PG_PAGE_WITH_STRAGGLERS = f"""
SELECT * FROM (({_PG_LANDED}) UNION ALL ({_PG_NEW})) AS page WHERE {_PG_PLANNER}
ORDER BY position LIMIT %(limit)s
"""

# --- SQLite (development): one writer at a time, so position order is commit order --------

SQLITE_LANES = f"""
SELECT DISTINCT m.lane FROM {MESSAGE} AS m
WHERE m.lane < %(lanes)s AND m.position > coalesce((
    SELECT c.position FROM {CHECKPOINT_TABLE} AS c
    WHERE c.relay = %(relay)s AND c.lane = m.lane ORDER BY c.previous DESC LIMIT 1),
    %(nothing_yet)s)
"""

SQLITE_CURSOR = f"""
SELECT c.id, c.position FROM {CHECKPOINT_TABLE} AS c
WHERE c.relay = %(relay)s AND c.lane = %(lane)s ORDER BY c.previous DESC LIMIT 1
"""

SQLITE_PAGE = f"""
SELECT m.position, m.message_id, {_ENVELOPE} FROM {MESSAGE} AS m
WHERE m.lane = %(lane)s AND m.position > %(after)s ORDER BY m.position LIMIT %(limit)s
"""

SQLITE_SEQUENCE = f"SELECT coalesce(max(position), 0) FROM {MESSAGE}"

# --- Admin and reports: what the checkpoints say about messages; reads only ---------------

# Whether a relay had published a message by checkpoint c. Once true, it is true for every later
# checkpoint of the chain.
PG_COVERS = """
(pg_visible_in_snapshot({transaction_id}, c.floor)
 OR (pg_visible_in_snapshot({transaction_id}, c.ceiling)
     AND (c.complete OR {position} <= c.position)))
"""
_SQLITE_COVERS = "({position} <= c.position)"

# Whether the window of checkpoint c begins behind a message.
_PG_SKIPS = "pg_visible_in_snapshot({transaction_id}, c.floor)"
_SQLITE_SKIPS = "({position} < c.first_position)"

# Whether a relay that started from "now" has left a message behind: c is the first of its chain.
# A first checkpoint of another cluster knows no ids of this one: there the position decides, and
# is wrong only for what was in flight when the relay started.
_PG_SKIPPED = f"""
CASE WHEN c.system_identifier = (SELECT system_identifier FROM pg_control_system())
     THEN {_PG_SKIPS}
     ELSE pg_snapshot_xmax(c.floor) > '1'::xid8 AND {{position}} <= c.sequence END
"""
_SQLITE_SKIPPED = _SQLITE_SKIPS

# How to join the newest checkpoint, as c, of those that fulfil a condition on p. With LATERAL the
# planner has no choice but one index lookup for each row; SQLite has neither.
_PG_NEWEST = f"""
LATERAL (SELECT p.* FROM {CHECKPOINT_TABLE} AS p WHERE {{where}}
         ORDER BY p.previous DESC LIMIT 1) AS c ON true
"""
_SQLITE_NEWEST = f"""
{CHECKPOINT_TABLE} AS c ON c.id = (
    SELECT p.id FROM {CHECKPOINT_TABLE} AS p WHERE {{where}} ORDER BY p.previous DESC LIMIT 1)
"""

# The state of one message: two index lookups for each relay.
_STATE = f"""
CASE WHEN NOT coalesce((
        SELECT {{covers}} FROM {CHECKPOINT_TABLE} AS c
        WHERE c.relay = %s AND c.lane = {{lane}} ORDER BY c.previous DESC LIMIT 1), false)
     THEN 'pending'
     WHEN coalesce((
        SELECT {{skipped}} FROM {CHECKPOINT_TABLE} AS c
        WHERE c.relay = %s AND c.lane = {{lane}} AND c.previous = 0), false)
     THEN 'skipped'
     ELSE 'published' END
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
# `low` does. It takes about log2(newest id) steps, whatever the number of checkpoints. Those that
# were written in another cluster than the newest say nothing: the first that covers what was
# published before a move is the rebased cursor.
_COVERING = f"""
WITH RECURSIVE {_NAMES}, search (relay, low, high, cluster) AS (
    SELECT c.relay, CAST(0 AS bigint), c.previous, c.system_identifier
    FROM names JOIN {{newest}} WHERE {{covers}}
    UNION ALL
    SELECT search.relay,
           CASE WHEN c.id IS NULL THEN (low + high) / 2 + 1 ELSE low END,
           coalesce(c.previous, high), cluster
    FROM search LEFT JOIN {{middle}} AND {{covers}}
    WHERE low < high
)
SELECT found.*, coalesce((
    SELECT {{skipped}} FROM {CHECKPOINT_TABLE} AS c
    WHERE c.relay = found.relay AND c.lane = found.lane AND c.previous = 0), false) AS skipped
FROM (SELECT c.*, {{skips}} AS skips FROM search JOIN {{found}} WHERE low >= high) AS found
ORDER BY found.relay
"""
_OF_NAME = "p.relay = names.relay AND p.lane = %(lane)s"
_MIDDLE = (
    "p.relay = search.relay AND p.lane = %(lane)s"
    " AND p.previous BETWEEN search.low AND (search.low + search.high) / 2"
    " AND p.system_identifier = search.cluster"
)
_FOUND = "p.relay = search.relay AND p.lane = %(lane)s AND p.previous = search.high"


def state(vendor: str, *, lane: str, transaction_id: str, position: str) -> str:
    """Return the expression for a message's state; it takes the relay's name twice."""
    columns = {"transaction_id": transaction_id, "position": position}
    return _STATE.format(lane=lane, **_conditions(vendor, columns))


def cursors(vendor: str) -> str:
    """Return the query for the newest checkpoint of every relay and lane."""
    return _CURSORS.format(newest=_newest(vendor).format(where=_OF_CHAIN))


def covering(vendor: str) -> str:
    """Return the query for the first checkpoint of each relay that covers a message.

    It takes the message's lane, transaction_id and position; its column `skips` tells whether
    that checkpoint's window begins behind the message, `skipped` whether the relay's start does.
    """
    cast = "::xid8" if vendor == "postgresql" else ""
    columns = {"transaction_id": f"%(transaction_id)s{cast}", "position": "%(position)s"}
    newest = _newest(vendor)
    return _COVERING.format(
        newest=newest.format(where=_OF_NAME),
        middle=newest.format(where=_MIDDLE),
        found=newest.format(where=_FOUND),
        **_conditions(vendor, columns),
    )


def _newest(vendor: str) -> str:
    return _PG_NEWEST if vendor == "postgresql" else _SQLITE_NEWEST


def _conditions(vendor: str, columns: dict[str, str]) -> dict[str, str]:
    if vendor == "postgresql":
        conditions = {"covers": PG_COVERS, "skips": _PG_SKIPS, "skipped": _PG_SKIPPED}
    else:
        conditions = {"covers": _SQLITE_COVERS, "skips": _SQLITE_SKIPS, "skipped": _SQLITE_SKIPPED}
    return {name: condition.format(**columns) for name, condition in conditions.items()}
