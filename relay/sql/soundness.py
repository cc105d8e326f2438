"""What is asked of PostgreSQL to tell whether the log can be read as it stands; reads only."""

from relay.snapshots import EMPTY
from relay.sql.reports import cursors
from relay.sql.tables import (
    CHECKPOINT_TABLE,
    MESSAGE,
    PARKED_TABLE,
    PG_BORN,
    PG_HERE,
    PG_MOVED,
)

_TABLES = (MESSAGE, CHECKPOINT_TABLE, PARKED_TABLE)
_LOG = ", ".join(f"'{table}'::regclass" for table in _TABLES)

# Tables without a primary key: a restore adds keys when it has loaded what they are of.
UNFINISHED = f"""
SELECT log.oid::regclass::text FROM unnest(ARRAY[{_LOG}]) AS log (oid)
WHERE NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = log.oid AND i.indisprimary)
   OR (log.oid = '{CHECKPOINT_TABLE}'::regclass AND NOT EXISTS (
           SELECT FROM pg_constraint AS c WHERE c.conrelid = log.oid AND c.contype = 'u'))
"""

# Subscriptions that write to the log, by logical replication.
SUBSCRIPTIONS = f"""
SELECT DISTINCT s.subname::text FROM pg_subscription_rel AS r JOIN pg_subscription AS s
ON s.oid = r.srsubid WHERE r.srrelid IN ({_LOG}) AND s.subenabled ORDER BY 1
"""


def _numbers(table: str, column: str) -> str:
    return f"""
SELECT '{table}'::text AS log, '{column}'::text AS named,
       pg_get_serial_sequence('{table}', '{column}')::regclass AS oid,
       (SELECT coalesce(max({column}), 0) FROM {table}) AS highest
"""


# How far sequences and tables have come, each by a look at the end of an index; the answer to
# whether we may see it is no for a sequence that is not there.
SEQUENCES = f"""
SELECT numbers.log, numbers.named, numbers.highest,
       CASE WHEN seen.may THEN coalesce(pg_sequence_last_value(numbers.oid), 0) END,
       numbers.oid IS NOT NULL, s.seqcache, s.seqincrement, s.seqcycle
FROM ({_numbers(MESSAGE, "position")} UNION ALL {_numbers(CHECKPOINT_TABLE, "id")}
      UNION ALL {_numbers(PARKED_TABLE, "id")}) AS numbers
CROSS JOIN LATERAL (SELECT coalesce(
    has_sequence_privilege(numbers.oid, 'USAGE, SELECT'), false) AS may) AS seen
LEFT JOIN pg_sequence AS s ON s.seqrelid = numbers.oid
"""

# The highest position that cursors know from before the log came here; one that had read nothing
# knows how far the sequence had come. And a chain that its newest checkpoint does not extend, whose
# id is not above that of the one before.
CURSORS = f"""
SELECT max(CASE WHEN c.position > 0 THEN c.position ELSE c.sequence END) FILTER (
           WHERE c.ceiling::text <> '{EMPTY}'
             AND ({PG_MOVED}
                  OR NOT pg_visible_in_snapshot({PG_BORN}::text::xid8, c.ceiling))),
       min(c.id) FILTER (WHERE c.id <= c.previous)
FROM ({cursors("postgresql")}) AS c CROSS JOIN {PG_HERE}
"""

# Sessions that load rows into the log and have not committed. A relay's own schedule does not COPY.
LOADING = f"""
SELECT DISTINCT held.pid, held.virtualtransaction FROM pg_locks AS held
JOIN pg_stat_progress_copy AS copying ON copying.pid = held.pid
WHERE held.relation IN ({_LOG}) AND held.mode = 'RowExclusiveLock' AND held.granted
  AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# Lanes of a relay in which one of the first new rows stands below what had been drawn before its
# transaction got an id: of ids above a checkpoint's own, all positions are above its `sequence`.
ASTRAY = f"""
SELECT c.lane FROM ({cursors("postgresql")}) AS c CROSS JOIN {PG_HERE}
CROSS JOIN LATERAL (
    SELECT min(first.position) AS lowest FROM (
        SELECT m.position FROM {MESSAGE} AS m
        WHERE m.lane = c.lane AND m.transaction_id > c.transaction_id
        ORDER BY m.transaction_id, m.position LIMIT %(limit)s) AS first) AS new
WHERE c.relay = %(relay)s AND new.lowest <= c.sequence AND NOT {PG_MOVED}
"""
