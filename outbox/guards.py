"""Let somebody object before a broker is reached or a relay runs: tests do, see outbox.testing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Guard:
    """Objects to nothing; a class derived from it raises what it has to say."""

    def connects(self, address: str) -> None:
        """Be told that a connection to a broker is about to be opened."""

    def sends(self, app: Any, producer: Any) -> None:
        """Be told that a Celery app is about to send a task straight to its broker.

        With the given producer of kombu, or with one of its own.
        """

    def relays(self, using: str) -> None:
        """Be told that a relay, or a replay, is about to read the log of a database."""


_guards: list[Guard] = [Guard()]


def guard() -> Guard:
    """Return who is to be told."""
    return _guards[-1]


@contextmanager
def use_guard(new: Guard) -> Iterator[None]:
    """Let a guard be told during the block, by all threads of the process."""
    _guards.append(new)
    try:
        yield
    finally:
        _guards.remove(new)
