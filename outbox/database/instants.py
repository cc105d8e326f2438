"""Points in time: aware and in UTC, whatever USE_TZ, TIME_ZONE and the zone of a session say."""

from datetime import UTC, datetime

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone


def now() -> datetime:
    """Return the time of this machine."""
    return utc(timezone.now())


def utc(moment: datetime) -> datetime:
    """Return a point in time in UTC; without a zone it is in that of TIME_ZONE.

    As Django has it where USE_TZ is off. `fold` tells the two hours of a night apart that have
    the same name, and Django and psycopg keep it.
    """
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment, timezone.get_default_timezone())
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def as_django(moment: datetime) -> datetime:
    """Return a point in time as Django's own code has it: without a zone where USE_TZ is off."""
    if settings.USE_TZ:
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())


def parameter(moment: datetime, connection: BaseDatabaseWrapper) -> datetime | str:
    """Return a point in time as a statement takes it.

    SQLite has no zones. UTC is stored there, to be compared with its own clock.
    """
    if connection.vendor == "postgresql":
        return moment
    return utc(moment).replace(tzinfo=None).isoformat(sep=" ")


def read(value: datetime | str) -> datetime:
    """Return a point in time that a statement gave in UTC, without saying so; SQLite's is text."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found.replace(tzinfo=UTC)
