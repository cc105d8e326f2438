"""The clock that all processes of the service share: that of the database."""

from datetime import UTC, datetime

from django.db import connections

from outbox import sql


def database_now(using: str) -> datetime:
    """Return the time of a database, in UTC; on SQLite that is the time of this machine."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute(sql.PG_NOW)
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)
