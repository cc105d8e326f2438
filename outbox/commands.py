"""What the management commands share: arguments, and errors of the database in words."""

import argparse
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError, connections

from outbox.exceptions import AccessDenied
from outbox.outages import is_outage, refusal

INSUFFICIENT_PRIVILEGE = "42501"
"""The SQLSTATE of a statement that the user may not run."""


def check_access(using: str) -> None:
    """Connect to a database, if it is there; raise AccessDenied if it does not let us in."""
    try:
        connections[using].ensure_connection()
    except OperationalError as exc:
        connections[using].close()
        if refused := refusal(exc):
            raise AccessDenied(
                f"The database does not let us in (database {using!r}): {refused}."
            ) from exc


@contextmanager
def settled() -> Iterator[None]:
    """Keep the garbage collector from looking, in the block, at what is loaded by now.

    For work that makes many small objects: it took a tenth of a relay's time.
    """
    others = gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if not others:
            gc.unfreeze()


def database_alias(text: str) -> str:
    """Return an alias of DATABASES, for the `type` of an argument; refuse any other."""
    if text not in connections:
        known = ", ".join(connections)
        raise argparse.ArgumentTypeError(f"there is no {text!r} in DATABASES; known: {known}")
    return text


@contextmanager
def database_errors_explained() -> Iterator[None]:
    """Raise CommandError for a database that is away or was not migrated."""
    try:
        yield
    except (ProgrammingError, OperationalError) as exc:
        if isinstance(exc, ProgrammingError) or not is_outage(exc):
            denied = getattr(exc.__cause__, "sqlstate", None) == INSUFFICIENT_PRIVILEGE
            hint = (
                "Grant it to the user in DATABASES"
                if denied
                else "Has it been migrated? Run: manage.py migrate"
            )
            raise CommandError(f"The database refuses: {str(exc).strip()}\n{hint}") from exc
        if refused := refusal(exc):
            raise CommandError(f"The database does not let us in: {refused}.") from exc
        raise CommandError(f"The database is away: {str(exc).strip()}") from exc
