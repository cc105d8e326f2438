"""Wait for acknowledgements: a row for each group that is to acknowledge a message."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.database.instants import parameter
from outbox.database.privileges import add_remedy
from outbox.message.acknowledgements import TO, Acknowledge
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType, registry
from outbox.producer import sql
from outbox.producer.addresses import own_address
from outbox.producer.delivery_time import Due


def asking(event_type: EventType) -> dict[str, str]:
    """Return the attributes with which messages of a type ask for acknowledgements, if it does.

    Raises ConfigurationError if nobody here takes them.
    """
    wanted = event_type.acknowledge
    return {} if wanted is None else wanted.attributes(own_address())


def wait_for(
    connection: BaseDatabaseWrapper,
    envelopes: Sequence[Envelope],
    dues: Sequence[Due | None],
) -> None:
    """Write what is to be acknowledged of messages in the running transaction: one statement.

    The time begins now by the clock of the database; for what is scheduled, when it is due.
    """
    rows = [
        _row(connection, each, group, wanted, None if due is None else each.time)
        for each, due in zip(envelopes, dues, strict=True)
        if (wanted := _wanted(each)) is not None
        for group in wanted.groups
    ]
    size = max(1, (connection.features.max_query_params or 10**9) // sql.AWAITED_VALUES)
    with connection.cursor() as cursor:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            values: list[Any] = [value for row in part for value in row]
            try:
                cursor.execute(sql.wait_for(connection.vendor, len(part)), values)
            except ProgrammingError as exc:
                add_remedy(exc, "emit", connection.alias)
                raise


def is_asking(envelope: Envelope) -> bool:
    """Tell whether a message that is emitted here asks for acknowledgements."""
    return TO in envelope.attributes


def _wanted(envelope: Envelope) -> Acknowledge | None:
    if not is_asking(envelope):
        return None
    event_type = registry.find(envelope.type, envelope.version)
    return None if event_type is None else event_type.acknowledge


def _row(
    connection: BaseDatabaseWrapper,
    envelope: Envelope,
    group: str,
    wanted: Acknowledge,
    begins: datetime | None,
) -> tuple[object, ...]:
    seconds = wanted.within / timedelta(seconds=1)
    name: object = UUID(envelope.id)
    time: object = None if begins is None else parameter(begins, connection)
    after: object = seconds
    if connection.vendor != "postgresql":
        name, after = UUID(envelope.id).hex, f"+{seconds:.6f} seconds"
    return (name, group, envelope.type, seconds, wanted.resends, time, time, after)
