"""What became of one message with one handler, and how it is told."""

import logging
from dataclasses import dataclass
from typing import Any

from inbox.calls import MAX_ERROR, Calls, Failed, describe
from inbox.ledger import storable
from inbox.models import Receipt
from inbox.order import describe as numbers
from inbox.registry import Handler
from inbox.states import Event, State, after
from inbox.verdicts import Reject, Retry, judge
from outbox import codec
from outbox.envelope import Envelope
from outbox.exceptions import UndecodableMessage
from outbox.registry import registry as event_types

logger = logging.getLogger("inbox")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A receipt's next state; `delay` in seconds until it is due, None for never by itself."""

    handler: Handler
    message: str
    state: State
    attempts: int
    delay: float | None = None
    reason: str | None = None
    error: str | None = None
    exc: BaseException | None = None

    def tell(self) -> None:
        """Log what a person may want to know."""
        name = self.handler.name
        if self.state is State.PROCESSED:
            if self.reason == Receipt.Reason.GAP:
                logger.warning("Handler %s has gone on with %s: %s", name, self.message, self.error)
        elif self.state is State.RETRYING and self.reason != Receipt.Reason.REDELIVERED:
            self._log(
                logging.WARNING,
                "Handler %s failed on %s; nothing of it remains. Attempt %d of %d, the next one "
                "in %.1f s: %s",
                name,
                self.message,
                self.attempts,
                self.handler.retry_policy.attempts,
                self.delay,
                self.error,
            )
        elif self.state is State.DEAD:
            self._log(
                logging.ERROR,
                "Handler %s failed on %s; it is dead after %d attempts and waits for a person: %s",
                name,
                self.message,
                self.attempts,
                self.error,
            )
            if self.handler.on_dead is not None:
                self.handler.on_dead(self.message.rpartition(" ")[2])
        elif self.state is State.SKIPPED:
            logger.info("Handler %s has skipped %s: %s", name, self.message, self.error)

    def _log(self, level: int, text: str, *values: Any) -> None:
        traceback = None if isinstance(self.exc, Retry | Reject | Failed) else self.exc
        logger.log(level, text, *values, exc_info=traceback)


def about(envelope: Envelope) -> str:
    return f"{envelope.type} {envelope.id}"


def read(found: Handler, envelope: Envelope) -> Any:
    """Return the event for a handler; raise UndecodableMessage if its data does not fit."""
    return codec.decode(envelope, event_types.find(envelope.type, envelope.version))


def attempt(
    calls: Calls,
    found: Handler,
    event: Any,
    envelope: Envelope,
    *,
    state: State | None,
    earlier: int,
) -> Outcome:
    """Call a handler, `earlier` calls of it having failed; return what follows."""
    exc = calls.call(found, event, envelope)
    attempts = earlier + 1
    if exc is None:
        return Outcome(found, about(envelope), after(state, Event.HANDLED), attempts)
    verdict = judge(exc, found.retry_policy, attempts)
    happened = Event.REJECTED if verdict.delay is None else Event.FAILED
    return Outcome(
        found,
        about(envelope),
        after(state, happened),
        attempts,
        verdict.delay,
        verdict.reason,
        storable(describe(exc), MAX_ERROR),
        exc,
    )


def unusable(
    found: Handler, message: str, exc: UndecodableMessage, *, state: State | None, earlier: int = 0
) -> Outcome:
    """Return the outcome of data that does not fit: no attempt would change it."""
    return Outcome(
        found,
        message,
        after(state, Event.REJECTED),
        earlier,
        reason=Receipt.Reason.INVALID_DATA.value,
        error=storable(str(exc), MAX_ERROR),
    )


def stale(found: Handler, message: str, sequence: int, *, state: State | None) -> Outcome:
    return Outcome(
        found,
        message,
        after(state, Event.STALE),
        0,
        reason=Receipt.Reason.STALE.value,
        error=f"Its key has gone past number {sequence}.",
    )


def redelivered(found: Handler, message: str) -> Outcome:
    """Return the outcome of what may have ended another process: it is handled with care."""
    reason = Receipt.Reason.REDELIVERED.value
    return Outcome(found, message, after(None, Event.REDELIVERED), 0, 0.0, reason)


def crashed(found: Handler, message: str, processes: int, *, state: State, earlier: int) -> Outcome:
    """Return the outcome of what has ended so many processes that it does not get another."""
    return Outcome(
        found,
        message,
        after(state, Event.REJECTED),
        earlier + processes,
        reason=Receipt.Reason.CRASHED.value,
        error=f"{processes} processes ended, or lost the database, while its handler ran for it.",
    )


def held(
    found: Handler, message: str, *, state: State | None, missing: range = range(0)
) -> Outcome:
    """Return the outcome of what waits, for a time if it waits for `missing` numbers."""
    if not missing:
        reason, error, delay = Receipt.Reason.BEHIND, "Behind another message of its key.", None
    else:
        reason, delay = Receipt.Reason.GAP, found.gap_seconds
        error = f"Waits for {numbers(missing)} of its sequence, at most {delay:.0f} s."
    return Outcome(found, message, after(state, Event.HELD), 0, delay, reason.value, error)


def went_on(outcome: Outcome, missing: range) -> Outcome:
    """Return the outcome of what was handled without others, on the record."""
    if outcome.state is not State.PROCESSED or not missing:
        return outcome
    return Outcome(
        outcome.handler,
        outcome.message,
        outcome.state,
        outcome.attempts,
        reason=Receipt.Reason.GAP.value,
        error=f"It went on without {numbers(missing)} of its sequence.",
    )
