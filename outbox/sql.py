"""Every statement that the producer runs. Values are parameters, names are fixed here."""

from functools import lru_cache

TABLE = "django_outbox_message"

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
_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_ROW = f"({', '.join(['%s'] * len(COLUMNS))})"

# One round trip, however few the messages.
INSERT = f'INSERT INTO "{TABLE}" ({_NAMES}) VALUES '

# From some hundred rows on COPY is several times faster than INSERT.
COPY = f'COPY "{TABLE}" ({_NAMES}) FROM STDIN'

# Sent in autocommit, after the emitting transaction: inside it, NOTIFY takes a cluster-wide
# lock at commit.
NOTIFY = "SELECT pg_notify(%s, '')"


@lru_cache(maxsize=128)
def insert(rows: int) -> str:
    """Return the statement that inserts this many messages."""
    return INSERT + ", ".join([_ROW] * rows)
