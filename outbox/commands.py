"""What the management commands share: arguments, and errors of the database in words."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError, connections


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
    except ProgrammingError as exc:
        raise CommandError(
            f"The database refuses: {str(exc).strip()}\n"
            "Has it been migrated? Run: manage.py migrate"
        ) from exc
    except OperationalError as exc:
        raise CommandError(f"The database is away: {str(exc).strip()}") from exc
