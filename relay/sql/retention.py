"""What may be deleted, and its deletion."""

from relay.sql.reports import PG_COVERS
from relay.sql.tables import CHECKPOINT_TABLE, MESSAGE, PARKED_TABLE, PG_HERE, PG_MOVED, START

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
_START = START.format(columns="*, xmin AS written", relay="wanted.relay")
_PG_EXAMINED = f"""
WITH readers AS MATERIALIZED (
    SELECT coalesce(own.floor, start.floor) AS floor,
           coalesce(own.ceiling, start.floor) AS ceiling,
           coalesce(own.complete, true) AS complete,
           coalesce(own.position, 0) AS position,
           coalesce(own.sequence, start.sequence) AS sequence,
           coalesce(own.system_identifier, start.system_identifier) AS system_identifier,
           coalesce(own.transaction_id, start.transaction_id) AS transaction_id,
           coalesce(own.written, start.written) AS written
    FROM (SELECT unnest(%(owing)s::text[]), true
          UNION ALL SELECT unnest(%(from_now)s::text[]), false) AS wanted (relay, owing)
    LEFT JOIN LATERAL (
        SELECT p.*, p.xmin AS written FROM {CHECKPOINT_TABLE} AS p
        WHERE p.relay = wanted.relay AND p.lane = %(lane)s ORDER BY p.previous DESC LIMIT 1
    ) AS own ON true
    LEFT JOIN LATERAL ({_START}) AS start ON true
    WHERE wanted.owing OR start.id IS NOT NULL
), bound AS MATERIALIZED (
    SELECT CASE
        WHEN bool_or(c.floor IS NULL OR {PG_MOVED}) THEN -1
        ELSE coalesce(min(greatest(c.position, c.sequence)), 9223372036854775807) END AS position
    FROM readers AS c CROSS JOIN {PG_HERE}
), examined AS MATERIALIZED (
    SELECT m.position, m.time < %(before)s AS old,
        m.time < %(before)s AND {NOT_PARKED} AND NOT EXISTS (
            SELECT FROM readers AS c WHERE {{covers}} IS NOT TRUE) AS done
    FROM {MESSAGE} AS m
    WHERE m.lane = %(lane)s AND m.position > %(after)s
      AND m.position <= (SELECT bound.position FROM bound)
    ORDER BY m.position LIMIT %(limit)s
)
""".format(covers=PG_COVERS.format(transaction_id="m.transaction_id", position="m.position"))
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
