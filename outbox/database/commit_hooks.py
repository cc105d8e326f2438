"""Hooks that wait for the commit of a transaction, as they were registered or wrapped since."""

from collections.abc import Callable, Iterator
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


def waiting(connection: BaseDatabaseWrapper) -> Iterator[Callable[[], object]]:
    """Yield the hooks of the running transaction.

    The inbox wraps those of a handler, so that each fails alone. A savepoint that rolls back takes
    its hooks along, so only this list knows what is registered.
    """
    entries: list[Any] = connection.run_on_commit
    for _, hook, *_ in entries:
        yield getattr(hook, "__wrapped__", hook)
