"""When a queue was last there for certain, told from what comes on its connection: pure policy."""

from collections.abc import Callable
from datetime import datetime

from outbox.database.instants import now


class Contact:
    """Notes until when the broker had our queue: `at`, which is never too late.

    What is read may have waited in the socket for as long as a handler ran, and the news that the
    queue is gone may wait behind it. So a time counts only when something is read that was sent
    after it: something after all was read, or a message beyond those that may be on their way.
    """

    def __init__(self, prefetch: int, *, clock: Callable[[], datetime] = now) -> None:
        self._prefetch = prefetch
        self._clock = clock
        self.at = self._read_all = clock()
        self._frames = 0
        self._full: tuple[datetime, int] | None = None

    def drained(self, frames: int) -> None:
        """Note that all is read that was there, `frames` since the connection began."""
        if frames != self._frames:
            self.at, self._frames = max(self.at, self._read_all), frames
        self._read_all = self._clock()

    def full(self, tag: int) -> None:
        """Note that reading has ended before, with the delivery `tag`."""
        if self._full is None:
            self._full = self._clock(), tag + self._prefetch

    def delivered(self, tag: int) -> None:
        """Note a delivery."""
        if self._full is not None and tag > self._full[1]:
            self.at, self._full = max(self.at, self._full[0]), None
