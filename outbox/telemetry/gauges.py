"""The outbox's own gauges: the log, what is scheduled, and what the doctor finds."""

from collections.abc import Iterator

from django.db import connections

from outbox.database.clock import database_now
from outbox.extensions.diagnosis import Level, examine
from outbox.extensions.gauges import Gauge, Meter, Reading, register_meter
from outbox.models import Message, Scheduled

COUNTED = 10_000
"""Rows that are counted at most; more are as many and one."""

LOG_BYTES = Gauge("outbox_log_bytes", (), "size of the log with its indexes; PostgreSQL only")
SCHEDULED = Gauge(
    "outbox_scheduled_messages", (), "messages that wait to be due; counted up to 10,001"
)
LATE = Gauge(
    "outbox_scheduled_late_seconds", (), "how long the oldest due message has not been delivered"
)
FINDING = Gauge(
    "outbox_finding", ("id", "level"), "1 for what the doctor finds, but for what is well"
)

_SIZE = "SELECT pg_total_relation_size(%s::regclass)"


def read(using: str) -> Iterator[Reading]:
    """Read what the outbox owns. Three statements."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_SIZE, [connection.ops.quote_name(Message._meta.db_table)])
            yield Reading(LOG_BYTES, (), cursor.fetchone()[0])
    waiting = Scheduled.objects.using(using).order_by("due_at", "pk")
    dues = list(waiting.values_list("due_at", flat=True)[: COUNTED + 1])
    yield Reading(SCHEDULED, (), len(dues))
    late = (database_now(using) - dues[0]).total_seconds() if dues else 0.0
    yield Reading(LATE, (), max(0.0, late))


def findings(using: str) -> Iterator[Reading]:
    """Read what the doctor finds; it asks the brokers as well. One of each id and level."""
    bad = {(each.id, each.level.value) for each in examine(using) if each.level is not Level.OK}
    for labels in sorted(bad):
        yield Reading(FINDING, labels, 1)


def register() -> None:
    """Let metrics have these gauges."""
    register_meter(Meter("outbox", (LOG_BYTES, SCHEDULED, LATE), read))
    register_meter(Meter("doctor", (FINDING,), findings, limit=None, keeps=30.0, slow=True))
