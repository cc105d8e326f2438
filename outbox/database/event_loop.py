"""Say what to do instead where a coroutine uses the database, which Django lets it do nowhere."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import SynchronousOnlyOperation

from outbox.exceptions import InEventLoop


@contextmanager
def no_coroutine(call: str, instead: str) -> Iterator[None]:
    """Raise InEventLoop, with what to await instead of a call, if the block finds itself in one."""
    try:
        yield
    except SynchronousOnlyOperation as exc:
        raise InEventLoop(
            f"{call} writes to the database, which a coroutine cannot do by itself. Await "
            f"{instead}; or, together with your data, {recipe(call)}."
        ) from exc


def in_event_loop() -> bool:
    """Tell whether this is called in a coroutine."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def recipe(call: str) -> str:
    """Return words on how async code has a transaction."""
    return (
        f"put transaction.atomic(), your data and {call} into one plain function, and await "
        "sync_to_async(function)()"
    )
