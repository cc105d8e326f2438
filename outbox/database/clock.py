"""The clock that all processes of the service share: that of the database."""

from datetime import UTC, datetime

from django.db import connections

from outbox.database.instants import read

# In UTC, whatever the zone of the session.
_NOW = "SELECT clock_timestamp() AT TIME ZONE 'UTC'"


def database_now(using: str) -> datetime:
    """Return the time of a database, in UTC; on SQLite that is the time of this machine."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute(_NOW)
        return read(cursor.fetchone()[0])
