"""What the management commands share: arguments, and errors of the database in words."""

import argparse
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, OperationalError, ProgrammingError, connections
from django.db.models import Model

from outbox.database.failures import is_outage, refusal
from outbox.database.privileges import check_rights, is_denied, remedy
from outbox.exceptions import AccessDenied, OutboxError, UnknownName, UnusableFilter
from outbox.filtering.qualifiers import Selection, select


def check_access(using: str, process: str = "") -> None:
    """Connect to a database, if it is there; raise AccessDenied if it does not let us in.

    And if the user lacks a right that the kind of process needs.
    """
    try:
        connections[using].ensure_connection()
        if process:
            check_rights(process, using)
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


def amount(text: str) -> int:
    """Return a number from 1 to 100,000, for the `type` of an argument; refuse any other text."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= 100_000:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 100000, not {text!r}")
    return int(text)


def port(text: str) -> int:
    """Return a port to listen at, for the `type` of an argument; refuse any other text."""
    if not text.isascii() or not text.isdecimal() or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, from 0 to 65535, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds, for the `type` of an argument; refuse any other text."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return number


WRONG_USAGE = 2
"""Exit code where a command was called so that it cannot be meant, as argparse has it."""


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Add the option with a filter, as the lists of the admin take it."""
    parser.add_argument(
        "--filter",
        type=str.strip,
        metavar="TEXT",
        help="as in the admin, such as 'type:shop.order.* age:>1h'; beside the other conditions",
    )


def selection_of(model: type[Model], text: str | None, using: str) -> Selection:
    """Return what a filter selects; raise CommandError if it cannot be used."""
    try:
        return select(model, text or "", using)
    except UnusableFilter as exc:
        raise CommandError(f"--filter: {exc}", returncode=WRONG_USAGE) from exc


def command_error(exc: OutboxError) -> CommandError:
    """Return what a command raises for an error of ours."""
    return CommandError(str(exc), returncode=WRONG_USAGE if isinstance(exc, UnknownName) else 1)


@contextmanager
def database_errors_explained(
    process: str = "person", using: str = DEFAULT_DB_ALIAS
) -> Iterator[None]:
    """Raise CommandError for a database that is away, was not migrated, or refuses us something.

    `process` is the kind of process whose rights are named.
    """
    try:
        yield
    except (ProgrammingError, OperationalError) as exc:
        if isinstance(exc, ProgrammingError) or not is_outage(exc):
            hint = (
                f"Grant it: {remedy(exc, process, using)}"
                if is_denied(exc)
                else "Has it been migrated? Run: manage.py migrate"
            )
            raise CommandError(f"The database refuses: {str(exc).strip()}\n{hint}") from exc
        if refused := refusal(exc):
            raise CommandError(f"The database does not let us in: {refused}.") from exc
        raise CommandError(f"The database is away: {str(exc).strip()}") from exc
