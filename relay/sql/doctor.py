"""What the doctor asks the server about its sessions; reads only."""

from relay.sql.tables import MESSAGE

_PG_SESSION = """
SELECT a.pid, a.usename, a.application_name, host(a.client_addr), a.state,
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

# Who is connected, and since when; sessions of the same kind together.
PG_CONNECTED = """
SELECT a.application_name, a.usename, host(a.client_addr),
       coalesce(a.query LIKE 'LISTEN "' || %(channel)s || '"%%', false) AS listens,
       count(*), count(*) FILTER (WHERE a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()),
       min(a.backend_start) AT TIME ZONE 'UTC'
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.backend_type = 'client backend'
GROUP BY 1, 2, 3, 4 ORDER BY listens DESC, count(*) DESC, 1, 2, 3 LIMIT 50
"""
