"""Hooks that handlers leave for the commit: each fails alone, and ends nothing."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from inbox.calling import isolation
from outbox import error_text
from outbox.interrupts import is_interrupt

logger = logging.getLogger("inbox")
Hook = Callable[[], object]


class Contained:
    """A hook that tells what it raises, instead of raising it.

    What it sets in its context or in the session stays with it, as with a handler. Django's
    `robust` lets through what is no Exception, and fails itself where the text of an
    exception cannot be made, or a hook has no name.
    """

    def __init__(self, hook: Hook, using: str) -> None:
        self._hook = self.__wrapped__ = hook
        self._using = using
        self.__qualname__ = name_of(hook)

    def __call__(self) -> None:
        try:
            isolation.in_own_context(self._run)
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            error_text.log(
                logger,
                logging.ERROR,
                "Error calling %s in on_commit(): %s",
                self.__qualname__,
                error_text.describe(exc),
                exc=exc,
            )

    def _run(self) -> None:
        with isolation.own_session(connections[self._using]):
            self._hook()


def contain(connection: BaseDatabaseWrapper, start: int) -> None:
    """Let the hooks of a connection's transaction from a place on fail alone."""
    hooks: list[Any] = connection.run_on_commit
    hooks[start:] = [
        (savepoints, _contained(hook, connection.alias), True)
        for savepoints, hook, _ in hooks[start:]
    ]


def _contained(hook: Hook, using: str) -> Contained:
    return hook if isinstance(hook, Contained) else Contained(hook, using)


def name_of(hook: Hook) -> str:
    """Return the name of a hook, or of its class if it has none."""
    name = None
    with suppress(Exception):
        name = getattr(hook, "__qualname__", None)
    return name if type(name) is str else error_text.name_of(hook)
