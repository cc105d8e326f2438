"""Deadlines that tests do not wait for: in a block, those up to some time have passed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from outbox.database.instants import utc

NEVER = datetime.min.replace(tzinfo=UTC)
_reached: ContextVar[datetime] = ContextVar("outbox_reached", default=NEVER)


@contextmanager
def as_if_at(time: datetime) -> Iterator[None]:
    """Let deadlines up to a time have passed in the block, whatever the database's clock says."""
    token = _reached.set(time)
    try:
        yield
    finally:
        _reached.reset(token)


def is_reached(deadline: datetime) -> bool:
    """Tell whether a deadline has passed for whoever does not go by the clock."""
    return utc(deadline) <= _reached.get()
