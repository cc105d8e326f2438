"""The tables of log and relays, and how PostgreSQL tells where their rows were written."""

from relay.snapshots import EMPTY

MESSAGE = "django_outbox_message"

CHECKPOINT_TABLE = "django_relay_checkpoint"

PARKED_TABLE = "django_relay_parked"

# Where a relay has started, in all lanes: its first checkpoint, which has an index of its own.
START = f"""
    SELECT {{columns}} FROM {CHECKPOINT_TABLE}
    WHERE relay = {{relay}} AND previous = 0
    ORDER BY id LIMIT 1
"""

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
    "window_previous",
    "window_count",
    "system_identifier",
    "first_position",
    "count",
    "published_by",
    "duration",
    "created",
)

# This cluster, and the lowest id that had not finished when the statement began.
PG_HERE = """
(SELECT system_identifier, pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax
 FROM pg_control_system()) AS here
"""

# Whether row m or checkpoint c is not of the running transaction, whose id has not finished either
# and could not be told from one of another cluster. A relay reads before it has an id.
PG_NOT_OURS = "{0}.transaction_id IS DISTINCT FROM pg_current_xact_id_if_assigned()"


def pg_moved(checkpoint: str, written: str) -> str:
    """Return the condition that a checkpoint was written elsewhere; `here` has to be joined.

    Within one cluster it got its own id (`written`, its xmin, of which only the lower half is
    stored) after its ceiling was taken: it is never the older of the two. That finds what the
    identifier does not, a clone that is fed by logical replication. A relay that has started from
    the beginning has seen nothing anywhere.
    """
    return f"""
coalesce({checkpoint}.ceiling::text <> '{EMPTY}' AND (
    {checkpoint}.system_identifier <> here.system_identifier
    OR (here.xmax - pg_snapshot_xmax({checkpoint}.ceiling)::text::bigint
        < (here.xmax - {written}::text::bigint) & 4294967295
        AND {PG_NOT_OURS.format(checkpoint)})), false)
"""


PG_MOVED = pg_moved("c", "c.written")

# The sequence that positions are drawn from.
PG_POSITIONS = f"pg_get_serial_sequence('{MESSAGE}', 'position')::regclass"

# A 32-bit xmin as a full id: the highest that this cluster has given out with this lower half.
PG_FULL = "greatest(0, here.xmax - ((here.xmax - {xmin}::text::bigint) & 4294967295))"

# The id that created the log here: the system columns of a table are written then, and never since.
PG_BORN = f"""
(SELECT {PG_FULL.format(xmin="a.xmin")} FROM pg_attribute AS a
 WHERE a.attrelid = '{MESSAGE}'::regclass AND a.attnum = -1)
"""

# A row whose id this cluster has not given out.
PG_STRANGER = f"""
(SELECT m.transaction_id FROM {MESSAGE} AS m
 WHERE m.lane = lanes.lane AND m.transaction_id >= pg_snapshot_xmax(pg_current_snapshot())
   AND {PG_NOT_OURS.format("m")}
 ORDER BY m.transaction_id LIMIT 1) IS NOT NULL
"""
