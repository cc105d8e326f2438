"""Parked messages: by one index look-up for each key, however much waits behind it."""

from outbox.database.dialect import PG_STATEMENT_NOW, SQLITE_STATEMENT_NOW
from relay.sql.tables import (
    PARKED_TABLE,
)

_OPEN = "p.state IN ('parked', 'waiting', 'dead')"

_KEYS = {
    "postgresql": "unnest(%(keys)s::text[]) AS wanted (key)",
    "sqlite": "(SELECT value AS key FROM json_each(%(keys)s)) AS wanted",
}

_FIRST_OF_KEY = f"""
(SELECT p.id FROM {PARKED_TABLE} AS p
 WHERE p.relay = %(relay)s AND p.key = wanted.key AND {_OPEN} ORDER BY p.position LIMIT 1)
"""

# The keys that have something open.
HELD = {
    vendor: f"SELECT wanted.key FROM {keys} WHERE {_FIRST_OF_KEY} IS NOT NULL"
    for vendor, keys in _KEYS.items()
}

# The first open message of each key has its turn now, if it was waiting for it.
REACH = {
    vendor: f"""
UPDATE {PARKED_TABLE} SET state = 'parked', next_attempt_at = {now}, changed = {now}
WHERE state = 'waiting' AND id IN (SELECT {_FIRST_OF_KEY} FROM {_KEYS[vendor]})
"""
    for vendor, now in (("postgresql", PG_STATEMENT_NOW), ("sqlite", SQLITE_STATEMENT_NOW))
}

# The first open messages of each key, so many of each.
BEHIND = {
    "postgresql": f"""
SELECT behind.* FROM {_KEYS["postgresql"]} CROSS JOIN LATERAL (
    SELECT p.* FROM {PARKED_TABLE} AS p
    WHERE p.relay = %(relay)s AND p.key = wanted.key AND {_OPEN}
    ORDER BY p.position LIMIT %(each)s) AS behind
""",
    "sqlite": f"""
SELECT * FROM (
    SELECT p.*, row_number() OVER (PARTITION BY p.key ORDER BY p.position) AS place
    FROM {_KEYS["sqlite"]} JOIN {PARKED_TABLE} AS p
      ON p.relay = %(relay)s AND p.key = wanted.key AND {_OPEN}) AS p
WHERE p.place <= %(each)s
""",
}

# For people, who wait for the page that is being published; a relay never waits.
PG_LOCK_LANE = "SELECT pg_advisory_xact_lock(%(relay_key)s, %(lane)s)"
