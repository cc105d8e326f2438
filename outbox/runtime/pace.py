"""How much to take at a time, so that it is done in time: pure policy.

What is done in one transaction is done as a whole or not at all. If a transaction is ended each
time for how long it lasts or for what it carries, by a pooler, a timeout or a lack of memory, the
same work fails for ever; less of it may pass. TCP finds out in the same way what a network bears
(RFC 5681: slow start, multiplicative decrease).
"""


class Pace:
    """A number of messages, `most` at first, for work that should last for `seconds` at most.

    Halved when the work fails, down to one; less when it lasts for too long. Doubled when it passes
    in half of the time, but little by little where it has failed before.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.size = most
        self._most = most
        self._seconds = seconds
        self._safe = most

    def failed(self) -> None:
        """Note that nothing of it was done."""
        self.size = self._safe = max(1, self.size // 2)

    def held(self) -> None:
        """Note that the transaction held, though nothing of it could be done.

        The more that is taken, the sooner something is found that can be. Whether so much can be
        done is not known by that.
        """
        self._grow()

    def passed(self, count: int, seconds: float) -> None:
        """Note that so many messages were done, and how long that took."""
        if seconds > self._seconds:
            self.size = max(1, min(self.size, int(count * self._seconds / seconds)))
        elif seconds < self._seconds / 2:
            self._grow()
            self._safe = max(self._safe, self.size)

    def _grow(self) -> None:
        """Double up to what has not failed; more than that is tried little by little."""
        step = self.size if self.size < self._safe else self.size // 8 + 1
        self.size = min(self.size + step, self._most)
