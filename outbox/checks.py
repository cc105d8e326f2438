"""System checks of the producer. Each id stands for one thing to mend."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

from outbox.conf import OutboxSettings, parse
from outbox.emitting import write_database
from outbox.exceptions import ConfigurationError

SUPPORTED = ("postgresql", "sqlite")


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001: OUTBOX is not as it should be."""
    try:
        parse(OutboxSettings, getattr(settings, "OUTBOX", {}), "OUTBOX")
    except ConfigurationError as exc:
        return [Error(str(exc), hint="See the reference of settings.", id="outbox.E001")]
    return []


@register(Tags.database)
def check_database_tagged(databases: Any = None, **_: Any) -> list[CheckMessage]:
    """E003: the server's isolation level, asked of the server, is not READ COMMITTED."""
    alias = write_database()
    if alias not in (databases or ()) or connections[alias].vendor != "postgresql":
        return []
    if _configured_level(alias) is not None:
        return []  # goes before the server's default; check_database looks at it
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW default_transaction_isolation")
        level = str(cursor.fetchone()[0])
    return [] if level == "read committed" else [_isolation_error(alias, level)]


@register
def check_database(**_: Any) -> list[CheckMessage]:
    """E002: the outbox is on a database that cannot hold it. E003: not READ COMMITTED."""
    alias = write_database()
    connection = connections[alias]
    if connection.vendor not in SUPPORTED:
        return [
            Error(
                f"The outbox cannot be on {connection.display_name} (database {alias!r}).",
                hint="Use PostgreSQL, or SQLite for development, and route the outbox there.",
                id="outbox.E002",
            )
        ]
    level = _configured_level(alias)
    # psycopg.IsolationLevel.READ_COMMITTED is 2.
    if connection.vendor == "postgresql" and level not in (None, 2):
        return [_isolation_error(alias, getattr(level, "name", str(level)))]
    return []


@register(deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    """W001: services whose source is a default can take each other's message ids for theirs."""
    raw = getattr(settings, "OUTBOX", {})
    if not isinstance(raw, Mapping) or raw.get("SOURCE"):
        return []  # what is no mapping is E001
    return [
        Warning(
            "OUTBOX['SOURCE'] is not set; the name of the project's package stands in for it.",
            hint="Set it to a URI reference that no other service uses, such as '/shop'.",
            id="outbox.W001",
        )
    ]


def _configured_level(alias: str) -> object:
    return connections[alias].settings_dict.get("OPTIONS", {}).get("isolation_level")


def _isolation_error(alias: str, level: str) -> CheckMessage:
    return Error(
        f"The database {alias!r} runs transactions at {level}; the relay needs READ COMMITTED.",
        hint=(
            "Set OPTIONS['isolation_level'] of the database to IsolationLevel.READ_COMMITTED; "
            "raise it per transaction where you need more."
        ),
        id="outbox.E003",
    )
