"""What the checkpoints say about messages, for the admin and reports; reads only."""

from relay.snapshots import EMPTY
from relay.sql.tables import (
    CHECKPOINT_TABLE,
    MESSAGE,
    PARKED_TABLE,
    PG_HERE,
    PG_MOVED,
    START,
    pg_moved,
)

# Whether a relay had published a message by checkpoint c. Once true, it is true for every later
# checkpoint of the chain.
PG_COVERS = """
(pg_visible_in_snapshot({transaction_id}, c.floor)
 OR (pg_visible_in_snapshot({transaction_id}, c.ceiling)
     AND (c.complete OR {position} <= c.position)))
"""
_SQLITE_COVERS = "({position} <= c.position)"

# Whether a message was there before the window of checkpoint c.
_PG_SKIPS = "pg_visible_in_snapshot({transaction_id}, c.floor)"
_SQLITE_SKIPS = "({position} <= c.window_start)"

# Whether a relay that started from "now" has left a message behind. That start is looked up once
# for a whole statement. One of another cluster knows no ids of this one: there the position
# decides, and is wrong only for what was in flight when the relay started.
_PG_LEFT_BEHIND = f"""
CASE WHEN (SELECT NOT {PG_MOVED} FROM ({{start}}) AS c CROSS JOIN {PG_HERE})
     THEN pg_visible_in_snapshot({{transaction_id}}, (SELECT floor FROM ({{start}}) AS start))
     ELSE {{position}} <= (SELECT start.sequence FROM ({{start}}) AS start
                         WHERE start.floor::text <> '{EMPTY}') END
"""
# The same, where c is that start.
_PG_LEAVES = f"""
CASE WHEN NOT (SELECT {PG_MOVED} FROM here) THEN {_PG_SKIPS}
     ELSE c.floor::text <> '{EMPTY}' AND {{position}} <= c.sequence END
"""
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

# Which of some checkpoints were written in another cluster.
PG_ELSEWHERE = f"""
SELECT c.id FROM (SELECT *, xmin AS written FROM {CHECKPOINT_TABLE}) AS c CROSS JOIN {PG_HERE}
WHERE c.id = ANY(%(ids)s) AND {PG_MOVED}
"""

# How to join the first checkpoint in some order, as c, of those that fulfil a condition on p. With
# LATERAL the planner has no choice but one index lookup for each row; SQLite has neither.
_PG_ONE = f"""
LATERAL (SELECT p.*, p.xmin AS written FROM {CHECKPOINT_TABLE} AS p WHERE {{where}}
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
NAMES = f"""
names (relay) AS (
    SELECT min(relay) FROM {CHECKPOINT_TABLE}
    UNION ALL
    SELECT (SELECT min(c.relay) FROM {CHECKPOINT_TABLE} AS c WHERE c.relay > names.relay)
    FROM names WHERE names.relay IS NOT NULL
)
"""

# The newest checkpoint of every relay and lane, found in the same way.
_CURSORS = f"""
WITH RECURSIVE {NAMES}, chains (relay, lane) AS (
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
# Checkpoints that were written in another cluster than the newest say nothing: the first that
# covers what was published before a move is the rebased cursor.
_COVERING = f"""
WITH RECURSIVE {{here}}{NAMES}, search (relay, low, high, cluster, moved) AS (
    SELECT c.relay, CAST(0 AS bigint), c.previous, c.system_identifier, {{moved}}
    FROM names JOIN {{newest}} WHERE {{covers}}
    UNION ALL
    SELECT search.relay,
           CASE WHEN c.id IS NULL THEN (low + high) / 2 + 1 ELSE low END,
           coalesce(c.previous, high), cluster, moved
    FROM search LEFT JOIN {{middle}} AND {{covers}}
    WHERE low < high
)
SELECT c.*, {{skips}} AS skips FROM search JOIN {{found}} WHERE low >= high
UNION ALL
SELECT c.*, true FROM names JOIN {{start}} WHERE {{leaves}}
ORDER BY relay
"""
_OF_NAME = "p.relay = names.relay AND p.lane = %(lane)s"
_MIDDLE = (
    "p.relay = search.relay AND p.lane = %(lane)s"
    " AND p.previous BETWEEN search.low AND (search.low + search.high) / 2"
    " AND p.system_identifier = search.cluster"
)
_PG_SAME = f" AND (SELECT {pg_moved('p', 'p.xmin')} FROM here) = search.moved"
_FOUND = "p.relay = search.relay AND p.lane = %(lane)s AND p.previous = search.high"

_OF_START = "p.relay = names.relay AND p.previous = 0"


def state(vendor: str, *, lane: str, transaction_id: str, position: str) -> str:
    """Return the expression for a message's state; each %s in it is the relay's name."""
    columns = {"transaction_id": transaction_id, "position": position}
    is_pg = vendor == "postgresql"
    left_behind = _PG_LEFT_BEHIND if is_pg else _SQLITE_LEFT_BEHIND
    start = START.format(columns="*, xmin AS written" if is_pg else "*", relay="%s")
    return _STATE.format(
        lane=lane,
        position=position,
        left_behind=left_behind.format(start=start, **columns),
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
    is_pg = vendor == "postgresql"
    cast = "::xid8" if is_pg else ""
    columns = {"transaction_id": f"%(transaction_id)s{cast}", "position": "%(position)s"}
    return _COVERING.format(
        here=f"here AS MATERIALIZED (SELECT * FROM {PG_HERE}), " if is_pg else "",
        moved=f"(SELECT {PG_MOVED} FROM here)" if is_pg else "false",
        newest=_one(vendor, _OF_NAME),
        middle=_one(vendor, _MIDDLE + _PG_SAME if is_pg else _MIDDLE),
        found=_one(vendor, _FOUND),
        start=_one(vendor, _OF_START, order="p.id"),
        **_conditions(vendor, columns),
    )


def _one(vendor: str, where: str, order: str = "p.previous DESC") -> str:
    return (_PG_ONE if vendor == "postgresql" else _SQLITE_ONE).format(where=where, order=order)


def _conditions(vendor: str, columns: dict[str, str]) -> dict[str, str]:
    if vendor == "postgresql":
        conditions = {"covers": PG_COVERS, "skips": _PG_SKIPS, "leaves": _PG_LEAVES}
    else:
        conditions = {"covers": _SQLITE_COVERS, "skips": _SQLITE_SKIPS, "leaves": _SQLITE_SKIPS}
    return {name: condition.format(**columns) for name, condition in conditions.items()}
