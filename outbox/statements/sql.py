"""Every statement about the log's side of statements. Values are parameters, names are fixed."""

from outbox.producer.sql import TABLE

# The first 48 bits of an id, in buckets of so many milliseconds.
_TIME = "('x' || encode(substring(uuid_send(message_id) FROM 1 FOR 6), 'hex'))::bit(48)::bigint"
_VERSION = "get_byte(uuid_send(message_id), 6) >> 4"

# By the unique index on message ids: what is in a range of time is a range of ids.
_MINE = f"""
FROM {TABLE}
WHERE message_id >= %(low)s AND message_id < %(high)s AND source = %(source)s
  AND (%(all)s OR topic ~ %(topics)s) AND {_VERSION} = 7
"""

# Counts and digests of all buckets of a range; the server hashes, so that no id is sent. Which
# types are wanted is told of the few totals, not of each message.
PG_TOTALS = f"""
SELECT {_TIME} / %(width)s * %(width)s AS start, type, count(*),
       encode(sha256(string_agg(uuid_send(message_id), ''::bytea ORDER BY message_id)), 'hex')
{_MINE} GROUP BY 1, 2 ORDER BY 1, 2
"""

# The ids themselves, a page after the last one.
PG_IDS = f"""
SELECT message_id, type {_MINE}
  AND type ~ %(types)s AND type ~ %(handles)s AND message_id > %(after)s
ORDER BY message_id LIMIT %(limit)s
"""

SQLITE_IDS = f"""
SELECT message_id, type FROM {TABLE}
WHERE message_id >= %(low)s AND message_id < %(high)s AND source = %(source)s
  AND type REGEXP %(types)s AND type REGEXP %(handles)s AND topic REGEXP %(topics)s
  AND substr(message_id, 13, 1) = '7' AND message_id > %(after)s
ORDER BY message_id LIMIT %(limit)s
"""

# --- When a bucket is closed ------------------------------------------------------------------

# Now, our own id, what this sees, and in which cluster. Whoever has written by now has a lower id;
# the upper end of a snapshot would not do, as there are higher ids among those that have not ended.
PG_MARK = """
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
       pg_current_xact_id()::text, pg_current_snapshot()::text,
       (SELECT system_identifier::text FROM pg_control_system())
"""

# Who has written to the log and has not ended, prepared or not, holds this lock until then, and one
# on the id of the transaction. Every role may read it, unlike pg_stat_activity.
PG_WRITERS = f"""
SELECT mine.transactionid::text
FROM pg_locks AS log
JOIN pg_locks AS mine ON mine.virtualtransaction = log.virtualtransaction
WHERE log.locktype = 'relation' AND log.relation = '{TABLE}'::regclass AND log.granted
  AND log.mode = 'RowExclusiveLock' AND log.pid IS DISTINCT FROM pg_backend_pid()
  AND log.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mine.locktype = 'transactionid' AND mine.mode = 'ExclusiveLock' AND mine.granted
"""

# Buckets that are closed, and have got a row since the last look: what that look did not see.
_LATE = f"""
SELECT DISTINCT {_TIME} / %(width)s * %(width)s FROM {TABLE}
WHERE lane = ANY(%(lanes)s) AND message_id < %(before)s AND {_VERSION} = 7 AND
"""
PG_LATE = f"""
({_LATE} transaction_id >= pg_snapshot_xmax(%(snapshot)s::pg_snapshot) LIMIT %(limit)s)
UNION
({_LATE} transaction_id = ANY(ARRAY(SELECT pg_snapshot_xip(%(snapshot)s::pg_snapshot)))
 LIMIT %(limit)s)
"""
HIGHEST_LANE = f"SELECT max(lane) FROM {TABLE}"
SQLITE_LATE = f"""
SELECT message_id FROM {TABLE}
WHERE position > %(position)s AND message_id < %(before)s AND substr(message_id, 13, 1) = '7'
"""
SQLITE_POSITION = f"SELECT coalesce(max(position), 0) FROM {TABLE}"
