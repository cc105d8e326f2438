"""What becomes of a message that the state of its instance does not handle. Pure policy."""

from dataclasses import dataclass
from datetime import timedelta

from inbox.verdicts import MAX_DELAY
from outbox.exceptions import ConfigurationError
from outbox.signatures import explained


@explained("Wait(timedelta(minutes=30))")
@dataclass(frozen=True, slots=True)
class Wait:
    """It came early: it waits, visibly, and is tried after each step of its instance.

    After `limit`, by default INBOX["GAP_TIMEOUT"], its receipt is dead and says what it lacked.
    """

    limit: timedelta | None = None

    def __post_init__(self) -> None:
        limit: object = self.limit
        if limit is not None and not (
            isinstance(limit, timedelta) and timedelta(0) < limit <= MAX_DELAY
        ):
            raise ConfigurationError(
                f"Wait(limit) is a timedelta of more than 0, at most {MAX_DELAY.days} days, not "
                f"{limit!r}"
            )


@explained("Skip('paid twice is paid')")
@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing happens: its receipt is skipped, with the reason."""

    reason: str = ""


@explained("Reject('no payment after the refund')")
@dataclass(frozen=True, slots=True)
class Reject:
    """A person has to look: its receipt is dead, with the reason."""

    reason: str = ""


Policy = Wait | Skip | Reject
