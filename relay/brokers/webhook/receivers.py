"""What is known of the receivers of callbacks: how many are under way to each, and who is away."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from outbox.runtime.backoff import Backoff
from outbox.runtime.breaker import Breaker
from relay.brokers.base import Outcome, Status
from relay.brokers.webhook.answers import Answer

PAUSES = Backoff(base=2.0, cap=300.0)
"""How long a receiver that is away is left alone."""

MAX_RECEIVERS = 10_000


@dataclass(slots=True)
class Receiver:
    """One scheme, host and port. `clock` counts seconds and never steps."""

    most: int
    clock: Callable[[], float] = time.monotonic
    flying: int = 0
    breaker: Breaker = field(init=False)
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        self.breaker = Breaker(PAUSES, clock=self.clock)

    @property
    def has_room(self) -> bool:
        """Whether one more may be sent now; of one that was away, one finds out if it is back."""
        return self.flying < (1 if self.breaker.failures else self.most)

    def refusal(self) -> Outcome | None:
        """Return why nothing is sent now, if it was away a moment ago or has asked for a pause."""
        left = max(self.breaker.remaining, self._not_before - self.clock())
        if left <= 0:
            return None
        why = f"{self.breaker.reason}; it is left alone until it is tried again"
        return Outcome(Status.REFUSED, why, after=left)

    def landed(self, answer: Answer) -> None:
        """Note what became of one that was under way."""
        self.flying -= 1
        if answer.away:
            self.breaker.failed(answer.outcome.reason)
            self._not_before = max(self._not_before, self.clock() + answer.outcome.after)
        else:
            self.breaker.passed()

    @property
    def is_idle(self) -> bool:
        """Whether it can be forgotten."""
        return not self.flying and not self.breaker.failures
