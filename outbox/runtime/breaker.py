"""When to leave something alone that is away: a circuit breaker, pure policy with a clock.

    closed ──failed──▶ open ──pause over──▶ half-open ──passed──▶ closed
                        ▲                       │
                        └────────failed─────────┘

Circuit Breaker (Michael Nygard, "Release It!", 2007), with a pause that grows and is jittered.
"""

import time
from collections.abc import Callable
from enum import StrEnum

from outbox.runtime.backoff import Backoff


class State(StrEnum):
    CLOSED = "closed"
    """All is well."""
    OPEN = "open"
    """It was away a moment ago: leave it alone until the pause is over."""
    HALF_OPEN = "half-open"
    """The pause is over: the next attempt decides."""


class Breaker:
    """The state of one thing that can be away; `clock` counts seconds and never steps."""

    def __init__(self, backoff: Backoff, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.reason = ""
        self.failures = 0
        self._backoff = backoff
        self._clock = clock
        self._since = 0.0
        self._resume_at = 0.0

    @property
    def state(self) -> State:
        if not self.failures:
            return State.CLOSED
        return State.OPEN if self.remaining > 0 else State.HALF_OPEN

    @property
    def remaining(self) -> float:
        """Seconds until the pause is over; not positive if nothing has to be waited for."""
        return self._resume_at - self._clock() if self.failures else 0.0

    @property
    def lasted(self) -> float:
        """Seconds since the first of the present failures."""
        return self._clock() - self._since if self.failures else 0.0

    def failed(self, reason: str, *, progress: bool = False) -> bool:
        """Note a failure and start a pause; return whether it is the first one.

        After some `progress` the pauses do not grow: a link that breaks every second is not
        waited for longer and longer.
        """
        first = not self.failures
        if first:
            self._since = self._clock()
        if progress:
            self.failures = 0
        self.reason = reason
        self._resume_at = self._clock() + self._backoff.delay(self.failures)
        self.failures += 1
        return first

    def passed(self) -> None:
        """Note that it works."""
        self.failures = 0
        self.reason = ""
