"""What a failure means: another attempt and when, or the end. Pure policy, no clock."""

from dataclasses import dataclass
from datetime import timedelta

from outbox.exceptions import ConfigurationError
from outbox.retry import Backoff

MAX_DELAY = timedelta(days=365)


class Retry(Exception):
    """Raised by a handler to be tried again `after` so many seconds, or a timedelta.

    Nothing of the call remains. Without `after` the handler's RetryPolicy decides when. It is an
    attempt like any other: after the last of the policy's attempts the receipt is dead.
    """

    def __init__(self, after: float | timedelta | None = None, reason: str = "") -> None:
        if after is not None:
            after = after if isinstance(after, timedelta) else timedelta(seconds=after)
            if not timedelta(0) <= after <= MAX_DELAY:
                raise ValueError(f"Retry(after=...): 0 to {MAX_DELAY.days} days, not {after}")
        super().__init__(reason or "its handler asked for another attempt")
        self.after = after


class Reject(Exception):
    """Raised by a handler that will never be able to handle a message: its receipt is dead.

    Nothing of the call remains; the message is kept until a person retries or discards it.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "its handler rejected it")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a handler is called for a message, and how long the pauses are, in seconds.

    `attempts` counts the first call; 1 means no second one. The n-th pause is random, up to
    `base * 2**n`, at most `cap`: exponential backoff with full jitter.
    """

    attempts: int = 16
    base: float = 1.0
    cap: float = 3600.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or not 1 <= self.attempts <= 1000:
            raise ConfigurationError(f"a retry policy has 1 to 1000 attempts, not {self.attempts}")
        if not 0 < self.base <= self.cap <= MAX_DELAY.total_seconds():
            raise ConfigurationError(
                f"a retry policy needs 0 < base <= cap <= a year, got {self.base} and {self.cap}"
            )

    @property
    def backoff(self) -> Backoff:
        """The pauses between the attempts."""
        return Backoff(base=self.base, cap=self.cap)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a failure: seconds until the next attempt, or None for no more.

    `reason` is one of Receipt.Reason.
    """

    delay: float | None
    reason: str


def judge(exc: BaseException, policy: RetryPolicy, attempts: int) -> Verdict:
    """Return what follows when attempt number `attempts` (from 1) of a call raises `exc`."""
    if isinstance(exc, Reject):
        return Verdict(None, "rejected")
    reason = "retry" if isinstance(exc, Retry) else "failed"
    if attempts >= policy.attempts:
        return Verdict(None, reason)
    if isinstance(exc, Retry) and exc.after is not None:
        return Verdict(exc.after.total_seconds(), reason)
    return Verdict(policy.backoff.delay(attempts - 1), reason)
