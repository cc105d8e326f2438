"""Follow the log without checkpoints, all lanes at once; see relay.log.following."""

from relay.sql.tables import CHECKPOINT_TABLE, MESSAGE, PG_HERE, PG_POSITIONS

# The snapshot of this statement is taken first: what it sees stands before that end of the log. And
# a bound for the window above it, by the newest checkpoint of any relay: that read the sequence and
# then got its id, so later ids have later positions only; see relay.log.postgresql. No bound holds
# where the sequence was set back.
PG_NOW = f"""
SELECT here.system_identifier, pg_current_snapshot()::text,
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
       pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint,
       coalesce((SELECT newest.sequence FROM (
           SELECT c.* FROM {CHECKPOINT_TABLE} AS c ORDER BY c.id DESC LIMIT 1) AS newest
        WHERE newest.system_identifier = here.system_identifier
          AND newest.transaction_id < pg_snapshot_xmax(pg_current_snapshot())
          AND newest.sequence <= pg_sequence_last_value({PG_POSITIONS})), 0)
FROM {PG_HERE}
"""

_LANES = f"""
generate_series(0, (SELECT max(lane) FROM {MESSAGE})) AS lanes (lane)
"""

# Where the rows of a window's new transactions begin, and how many there are. By the index of
# transaction ids, of which it reads the part that is newer than the floor, up to a limit.
PG_LOWEST = f"""
SELECT min(new.position), count(*) FROM {_LANES} CROSS JOIN LATERAL (
    SELECT m.position FROM {MESSAGE} AS m
    WHERE m.lane = lanes.lane AND m.transaction_id >= pg_snapshot_xmax(%(floor)s::pg_snapshot)
    ORDER BY m.transaction_id LIMIT %(large)s + 1) AS new
"""

# Both snapshots are filters on purpose: position order is walked on its own index.
_NEW = f"""
SELECT m.position FROM {MESSAGE} AS m
WHERE m.position > %(after)s
  AND pg_visible_in_snapshot(m.transaction_id, %(ceiling)s::pg_snapshot)
  AND NOT pg_visible_in_snapshot(m.transaction_id, %(floor)s::pg_snapshot)
ORDER BY m.position LIMIT %(size)s + 1
"""

# What was in flight at the floor, and stands below its new transactions: by exact id.
_LANDED = f"""
SELECT landed.position FROM unnest(%(stragglers)s::xid8[]) AS straggler (xid)
CROSS JOIN {_LANES} CROSS JOIN LATERAL (
    SELECT m.position FROM {MESSAGE} AS m
    WHERE m.lane = lanes.lane
      AND (m.transaction_id, m.position) > (straggler.xid, %(last)s)
      AND (m.transaction_id, m.position) <= (straggler.xid, %(start)s)
    ORDER BY m.transaction_id, m.position LIMIT %(size)s + 1) AS landed
"""

PG_PAGE = f"""
SELECT position FROM (({_NEW}) UNION ALL ({_LANDED})) AS merged
ORDER BY position LIMIT %(size)s + 1
"""

SQLITE_LAST = f"SELECT coalesce(max(position), 0) FROM {MESSAGE}"

SQLITE_PAGE = f"""
SELECT position FROM {MESSAGE} WHERE position > %(last)s ORDER BY position LIMIT %(size)s + 1
"""
