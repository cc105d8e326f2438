"""Things that record events, and what tests hear of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.outbox.models import Thing


class Oops(Exception):
    """Rolls a block back."""


def thing(*texts: str, **fields: Any) -> Thing:
    """Return a thing that is not saved and has recorded notes."""
    made = Thing(**fields)
    for text in texts:
        made.note(text)
    return made


@contextmanager
def listening(signal: Any, receiver: Callable[..., None], sender: type = Thing) -> Iterator[None]:
    signal.connect(receiver, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=sender)
