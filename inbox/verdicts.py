"""What a failure means: another attempt and when, or the end. Pure policy, no clock."""

from dataclasses import dataclass
from datetime import timedelta

from inbox.states import Reason
from outbox.error_text import is_a
from outbox.exceptions import ConfigurationError
from outbox.runtime.backoff import Backoff
from outbox.signatures import explained

MAX_DELAY = timedelta(days=365)
MAX_ATTEMPTS = 1000


@explained("raise inbox.Retry(after=60, reason='…')")
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


@explained("raise inbox.Reject('…')")
class Reject(Exception):
    """Raised by a handler that will never be able to handle a message: its receipt is dead.

    Nothing of the call remains; the message is kept until a person retries or discards it.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "its handler rejected it")


@explained("inbox.RetryPolicy(attempts=5)")
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
        if type(self.attempts) is not int or not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ConfigurationError(
                f"a retry policy has 1 to {MAX_ATTEMPTS} attempts, not {self.attempts}"
            )
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
    """What follows from a failure: seconds until the next attempt, or None for no more."""

    delay: float | None
    reason: Reason


def judge(exc: BaseException, policy: RetryPolicy, attempts: int) -> Verdict:
    """Return what follows when attempt number `attempts` (from 1) of a call raises `exc`."""
    if is_a(exc, Reject):
        return Verdict(None, Reason.REJECTED)
    reason = Reason.RETRY if is_a(exc, Retry) else Reason.FAILED
    if attempts >= policy.attempts:
        return Verdict(None, reason)
    delay = _asked_for(exc) if reason is Reason.RETRY else None
    if delay is None:
        delay = float(policy.backoff.delay(attempts - 1))
        if not 0 <= delay <= MAX_DELAY.total_seconds():
            raise ValueError(f"a pause is 0 seconds to {MAX_DELAY.days} days, not {delay}")
    return Verdict(delay, reason)


def _asked_for(exc: BaseException) -> float | None:
    """Return the seconds after which a Retry wants the next attempt, if it says so.

    A class derived from it may say anything, or nothing.
    """
    try:
        after = exc.after  # type: ignore[attr-defined]
        if isinstance(after, timedelta) and timedelta(0) <= after <= MAX_DELAY:
            return after.total_seconds()
    except BaseException:  # of the exception itself; then the policy decides
        return None
    return None
