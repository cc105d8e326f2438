"""The statements of a rebase, all of PostgreSQL; what they mean is told in relay/log/rebase.py."""

from relay.snapshots import EMPTY
from relay.sql.reports import NAMES, PG_COVERS, cursors
from relay.sql.tables import (
    CHECKPOINT_TABLE,
    MESSAGE,
    PARKED_TABLE,
    PG_BORN,
    PG_FULL,
    PG_HERE,
    PG_MOVED,
    PG_POSITIONS,
    PG_STRANGER,
)

# Waits for pages at work, and no longer: pages that would begin are refused meanwhile. No
# timeout of the server's may cut short what grows with the log.
LOCK = """
SELECT set_config('lock_timeout', '2s', true), set_config('statement_timeout', '0', true),
       pg_advisory_xact_lock(%(rebase_key)s, 0)
"""

# For the two statements that read the whole log. Statistics that were taken while a restore was
# still writing say that the table is empty, and what is joined row by row then takes the square of
# its rows: 5 s for 4,000, 125 s for 20,000 instead of 0.2 s.
WHOLE_LOG = """
SELECT set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true)
"""

# The snapshot that becomes every cursor, and the highest position in use, read before this
# transaction gets an id; see PostgreSQLLog. What the lock needed is no longer needed.
SITE = f"""
SELECT pg_current_snapshot()::text, here.system_identifier,
       coalesce(pg_sequence_last_value({PG_POSITIONS}), 0),
       set_config('lock_timeout', '0', true)
FROM {PG_HERE}
"""

_WRITTEN = f"(SELECT *, xmin AS written FROM {CHECKPOINT_TABLE})"

# The cursor of every relay and lane, whether it was written elsewhere, and what extends it. A
# lane without one has come as far as a relay that started from "now" had at its start; it will
# need a cursor of its own, as the start of the chain means nothing here.
CHAINS = f"""
WITH RECURSIVE {NAMES}
SELECT c.id, c.relay, c.lane, c.system_identifier, {PG_MOVED}, c.id
FROM ({cursors("postgresql")}) AS newest
JOIN {_WRITTEN} AS c ON c.id = newest.id CROSS JOIN {PG_HERE}
UNION ALL
SELECT c.id, c.relay, lanes.lane, c.system_identifier, {PG_MOVED}, 0
FROM names CROSS JOIN LATERAL (
    SELECT * FROM {_WRITTEN} AS first
    WHERE first.relay = names.relay AND first.previous = 0 ORDER BY first.id LIMIT 1) AS c
CROSS JOIN generate_series(
    0, greatest(%(lanes)s - 1, (SELECT max(lane) FROM {MESSAGE}))) AS lanes (lane)
CROSS JOIN {PG_HERE}
WHERE c.floor::text <> '{EMPTY}' AND NOT EXISTS (
    SELECT FROM {CHECKPOINT_TABLE} AS own WHERE own.relay = c.relay AND own.lane = lanes.lane)
ORDER BY 1, 3
"""

# Whether a row carries an id that this cluster has not given out: one index look-up a lane.
STRANGERS = f"""
WITH RECURSIVE lanes (lane) AS (
    SELECT min(lane) FROM {MESSAGE}
    UNION ALL
    SELECT (SELECT min(m.lane) FROM {MESSAGE} AS m WHERE m.lane > lanes.lane)
    FROM lanes WHERE lane IS NOT NULL
)
SELECT EXISTS (SELECT FROM lanes WHERE {PG_STRANGER})
"""

# An id of this cluster that no row carries: the statement is a transaction of its own.
BURN = "SELECT pg_current_xact_id()::text::bigint"

# Whether the transaction of message m may have run here: see docs/decisions/0003. A row is inserted
# by its transaction or by one of its savepoints, which have higher ids, and no two transactions
# share the id of an insert. Only if a dump brought the checkpoint may its transaction be older than
# the table.
_NATIVE = f"""
(m.transaction_id::text::bigint <= {PG_FULL.format(xmin="m.xmin")}
 AND (m.transaction_id::text::bigint >= here.born
      OR (c.dumped AND m.xmin::text::bigint NOT IN (SELECT loaded.xmin FROM loaded))))
"""

# Whether a relay has ever parked message m: one index look-up, and only for what would be pending
# otherwise. Not EXISTS: as a join the planner might read all that was ever parked.
_PARKED = f"""
(SELECT 1 FROM {PARKED_TABLE} AS p
 WHERE p.position = m.position{{relay}} LIMIT 1) IS NOT NULL
"""
_PARKED_BY = _PARKED.format(relay=" AND p.relay = c.relay")
_PARKED_BY_ANYBODY = _PARKED.format(relay="")

# For each message that somebody has yet to publish, the names of those relays. `born` is the
# transaction that created the table here, as the table's system columns tell; `loaded` are the
# transactions that inserted rows of others. A dump brings all checkpoints in one transaction,
# pg_upgrade brings them as older than the table, a replica gets them one by one. The join goes by
# lane, so that a log of any size is read from end to end.
_PENDING = f"""
here AS MATERIALIZED (
    SELECT here.xmax, {PG_BORN} AS born FROM {PG_HERE}),
loaded AS MATERIALIZED (
    SELECT m.xmin::text::bigint AS xmin FROM {MESSAGE} AS m GROUP BY 1
    HAVING min(m.transaction_id::text::bigint) <> max(m.transaction_id::text::bigint)),
chain AS MATERIALIZED (
    SELECT c.relay, given.lane, c.floor, c.position, given.moved,
           CASE WHEN given.started THEN c.floor ELSE c.ceiling END AS ceiling,
           given.started OR c.complete AS complete,
           {PG_FULL.format(xmin="c.xmin")} >= here.born
           AND (EXISTS (SELECT FROM {CHECKPOINT_TABLE} AS other WHERE other.xmin = c.xmin
                        AND other.transaction_id <> c.transaction_id)
                OR NOT EXISTS (SELECT FROM {CHECKPOINT_TABLE} AS other
                               WHERE other.xmin <> c.xmin)) AS dumped
    FROM unnest(%(chains)s::bigint[], %(chain_lanes)s::smallint[], %(moved)s::boolean[],
                %(started)s::boolean[]) AS given (id, lane, moved, started)
    JOIN {CHECKPOINT_TABLE} AS c ON c.id = given.id CROSS JOIN here),
pending AS (
    SELECT m.position, array_agg(c.relay::text ORDER BY c.relay) AS relays
    FROM {MESSAGE} AS m JOIN chain AS c ON c.lane = m.lane CROSS JOIN here
    WHERE (NOT {PG_COVERS.format(transaction_id="m.transaction_id", position="m.position")}
           OR (c.moved AND {_NATIVE}))
      AND NOT {_PARKED_BY}
    GROUP BY m.position)
"""

# Which groups of relays share pending messages: each needs an id of its own.
GROUPS = f"WITH {_PENDING} SELECT DISTINCT relays::text, relays FROM pending"

# The only UPDATE of the log that there ever is. A group that was not there before gets the id that
# is in flight for everyone; the last column tells that a message would come back by that to a
# relay that has parked it. What nobody has to publish is touched only where its id would one day
# look new, or carries what is in flight for somebody from now on.
REWRITE = f"""
WITH {_PENDING},
burned AS (
    SELECT * FROM unnest(%(groups)s::text[], %(ids)s::bigint[]) AS burned (relays, id)),
wanted AS (
    SELECT m.position, pending.relays,
           CASE WHEN pending.relays IS NULL THEN %(nobody)s
                ELSE coalesce(burned.id, %(everyone)s) END AS id,
           pending.relays IS NOT NULL AND burned.id IS NULL AND {_PARKED_BY_ANYBODY} AS returns
    FROM {MESSAGE} AS m
    LEFT JOIN pending ON pending.position = m.position
    LEFT JOIN burned ON burned.relays = pending.relays::text
    WHERE pending.position IS NOT NULL
       OR NOT pg_visible_in_snapshot(m.transaction_id, %(now)s::pg_snapshot)
       OR m.transaction_id = ANY(%(burned)s::xid8[])),
rewritten AS (
    UPDATE {MESSAGE} AS m SET transaction_id = wanted.id::text::xid8
    FROM wanted WHERE wanted.position = m.position
    RETURNING wanted.relays, wanted.returns)
SELECT relays, count(*), bool_or(returns) FROM rewritten GROUP BY relays
"""
