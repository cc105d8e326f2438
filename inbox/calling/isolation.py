"""Call a handler so that what it sets stays with it: in its context, and in the sessions it uses.

Each call runs in a copy of the context, as a task of asyncio does: time zone and language that it
activates, and any other context variable, are gone when it returns. What is the process's own is
not kept apart: os.environ, the locale, globals of modules.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import TypeVar

from django.core.cache import caches
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from inbox.calling import sessions

T = TypeVar("T")


def in_own_context(function: Callable[[], T]) -> T:
    """Call a function in a copy of the context."""
    return copy_context().run(function)


def share_caches() -> None:
    """Make what Django keeps of caches, so that each call does not connect to them anew.

    They are kept in the context.
    """
    for alias in caches.settings:
        with suppress(Exception):  # told to whoever uses it
            caches[alias]


@contextmanager
def own_session(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Undo what the block sets in the session of a connection, whether it raises or not."""
    with sessions.others_kept(connection.alias), sessions.kept(connection) as session:
        try:
            yield
        except BaseException:
            with suppress(Error):
                session.undo_if_possible()
            raise
        session.undo_if_possible()
