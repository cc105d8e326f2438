"""Every statement that the producer runs. Values are parameters, names are fixed here."""

from functools import lru_cache

from outbox.database.dialect import PG_STATEMENT_NOW, SQLITE_STATEMENT_NOW

TABLE = "django_outbox_message"
SCHEDULED = "django_outbox_scheduled"

# transaction_id and position are left to their defaults, in that order of evaluation.
COLUMNS = (
    "lane",
    "message_id",
    "type",
    "version",
    "source",
    "topic",
    "subject",
    "key",
    "time",
    "correlation_id",
    "causation_id",
    "trace_parent",
    "trace_state",
    "content_type",
    "data",
    "attributes",
)
NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_ROW = f"({', '.join(['%s'] * len(COLUMNS))})"

# One round trip, however few the messages.
INSERT = f'INSERT INTO "{TABLE}" ({NAMES}) VALUES '

# From some hundred rows on COPY is several times faster than INSERT.
COPY = f'COPY "{TABLE}" ({NAMES}) FROM STDIN'

NOTIFY_BYTES = 7999

# Sent in autocommit, after the emitting transaction: inside it, NOTIFY takes a cluster-wide lock at
# commit. The text says what has committed by now, and up to where the server's log has to be on
# disk so that no crash undoes it; see relay/log/postgresql.py. 8000 bytes would be too long.
NOTIFY = f"""
SELECT pg_notify(
    %s, left(concat(pg_current_wal_insert_lsn(), ' ', pg_current_snapshot()), {NOTIFY_BYTES}))
"""

# --- Scheduled messages: due by the database's clock, so that no other clock matters ----------

_LATER_COLUMNS = ("due_at", "hash", *COLUMNS[1:])
LATER_NAMES = ", ".join(f'"{name}"' for name in _LATER_COLUMNS)
_LATER = f'INSERT INTO "{SCHEDULED}" ({LATER_NAMES}) VALUES '
ENVELOPE = ", ".join(["%s"] * len(COLUMNS))

# A point in time, or a time from now on; the transaction may have begun long before now.
_PG_LATER = f"(coalesce(%s::timestamptz, clock_timestamp() + %s::interval), {ENVELOPE})"
_SQLITE_LATER = f"(coalesce(%s, strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %s)), {ENVELOPE})"

# Whether something is due, and in how many seconds the next is.
PG_NEXT_DUE = f"""
SELECT (SELECT min(due_at) <= {PG_STATEMENT_NOW} FROM {SCHEDULED}),
       (SELECT extract(epoch FROM min(due_at) - {PG_STATEMENT_NOW})::float8 FROM {SCHEDULED}
        WHERE due_at > {PG_STATEMENT_NOW})
"""
SQLITE_NEXT_DUE = f"""
SELECT (SELECT min(due_at) <= {SQLITE_STATEMENT_NOW} FROM {SCHEDULED}),
       (SELECT (julianday(min(due_at)) - julianday('now')) * 86400.0 FROM {SCHEDULED}
        WHERE due_at > {SQLITE_STATEMENT_NOW})
"""

# One process delivers at a time: of two that did, the later messages of a key could commit first.
DELIVER_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"

# What is due enters the log, in the order of being due, which the positions then have. Rows that
# are being cancelled are left alone.
_DELIVERED = ", ".join('"due_at"' if name == "time" else f'"{name}"' for name in COLUMNS[1:])
_INTO_LOG = f"INSERT INTO {TABLE} ({NAMES}) SELECT hash %% %(lanes)s, {_DELIVERED} FROM"
PG_DELIVER = f"""
WITH due AS (
    DELETE FROM {SCHEDULED} WHERE id = ANY (ARRAY(
        SELECT id FROM {SCHEDULED} WHERE due_at <= {PG_STATEMENT_NOW}
        ORDER BY due_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING *)
{_INTO_LOG} due ORDER BY due_at, id
"""

# SQLite has one writer at a time, so copying and then deleting up to the last copied is the same.
_SQLITE_DUE = (
    f"SELECT * FROM {SCHEDULED} WHERE due_at <= %(now)s ORDER BY due_at, id LIMIT %(limit)s"
)
SQLITE_NOW = f"SELECT {SQLITE_STATEMENT_NOW}"
SQLITE_DELIVER = f"{_INTO_LOG} ({_SQLITE_DUE}) ORDER BY due_at, id"
SQLITE_DELIVERED = f"DELETE FROM {SCHEDULED} WHERE id IN (SELECT id FROM ({_SQLITE_DUE}))"

# Waits for a delivery that has the row: then it is gone, and the answer is that it is too late.
CANCEL = f"DELETE FROM {SCHEDULED} WHERE message_id = %s"


# --- Acknowledgements that are waited for, a row for each group --------------------------------

ACKNOWLEDGEMENT = "django_outbox_acknowledgement"
_AWAIT = f"""
INSERT INTO {ACKNOWLEDGEMENT}
    (message_id, "group", type, state, within, most, sent_at, due_at, resends, hold, told_by)
VALUES """
# The time of a message that is scheduled, else now, and so many seconds later.
_PG_AWAITED = (
    "(%s, %s, %s, 'awaited', %s, %s, coalesce(%s::timestamptz, clock_timestamp()), "
    "coalesce(%s::timestamptz, clock_timestamp()) + %s * interval '1 second', 0, '', '')"
)
_SQLITE_TIME = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', coalesce(%s, 'now'){})"
_SQLITE_AWAITED = (
    f"(%s, %s, %s, 'awaited', %s, %s, {_SQLITE_TIME.format('')}, "
    f"{_SQLITE_TIME.format(', %s')}, 0, '', '')"
)
AWAITED_VALUES = 8


# Where commits are told not to wait for the disk: this session, or whoever else connects here.
PG_ASYNCHRONOUS = """
SELECT 'this session' WHERE current_setting('synchronous_commit') = 'off'
UNION ALL
SELECT concat_ws(' in ', 'role ' || quote_ident(r.rolname), 'database ' || quote_ident(d.datname))
FROM pg_db_role_setting AS s
LEFT JOIN pg_roles AS r ON r.oid = s.setrole LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
WHERE (d.datname IS NULL OR d.datname = current_database())
  AND EXISTS (SELECT FROM unnest(s.setconfig) AS each (setting)
              WHERE setting ~* '^synchronous_commit=(off|of|false|f|no|n|0)$')
"""


@lru_cache(maxsize=128)
def schedule(vendor: str, rows: int) -> str:
    """Return the statement that schedules this many messages and says when they are due."""
    row = _PG_LATER if vendor == "postgresql" else _SQLITE_LATER
    # In UTC, which SQLite stores.
    due = "due_at AT TIME ZONE 'UTC'" if vendor == "postgresql" else "due_at"
    return _LATER + ", ".join([row] * rows) + f" RETURNING message_id, {due}"


@lru_cache(maxsize=128)
def insert(rows: int) -> str:
    """Return the statement that inserts this many messages."""
    return INSERT + ", ".join([_ROW] * rows)


@lru_cache(maxsize=128)
def wait_for(vendor: str, rows: int) -> str:
    """Return the statement that inserts this many acknowledgements to be waited for."""
    row = _PG_AWAITED if vendor == "postgresql" else _SQLITE_AWAITED
    return _AWAIT + ", ".join([row] * rows)
