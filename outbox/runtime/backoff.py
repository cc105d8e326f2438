"""How long to wait before trying again: pure policy, no clock and no sleep."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Capped exponential backoff with full jitter.

    The n-th delay is uniform in [0, min(cap, base * 2**n)] seconds, which spreads the retries of
    many processes best (Marc Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """

    base: float = 0.1
    cap: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.base <= self.cap:
            raise ValueError(f"a backoff needs 0 < base <= cap, got {self.base} and {self.cap}")

    def ceiling(self, attempt: int) -> float:
        """Return the longest delay, in seconds, before attempt number `attempt` (from 0)."""
        # The exponent is bounded so that an outage of days cannot overflow a float.
        return min(self.cap, self.base * 2.0 ** min(attempt, 63))

    def delay(self, attempt: int) -> float:
        """Return a random delay, in seconds, before attempt number `attempt` (from 0)."""
        return random.uniform(0, self.ceiling(attempt))  # noqa: S311
