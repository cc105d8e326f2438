"""What became of one message with one handler, and how it is told."""

import logging
import time
from functools import partial
from typing import Any

from django.db import router

from inbox.calling.calls import Calls, Failed, describe
from inbox.calling.hooks import Contained
from inbox.handlers.ordering import describe as numbers
from inbox.handlers.registry import Handler
from inbox.ledger.attempts import made, noticed
from inbox.ledger.masking import masked
from inbox.ledger.rows import MessageName, Settlement
from inbox.ledger.tracebacks import is_cut, traceback_of
from inbox.models import Receipt
from inbox.states import Event, Reason, State, after
from inbox.verdicts import Reject, Retry, RetryPolicy, Verdict, judge
from outbox import error_text
from outbox.error_text import causes, is_a, log, text_of
from outbox.exceptions import UndecodableMessage
from outbox.interrupts import is_interrupt
from outbox.message import codec
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry as event_types
from outbox.signals import receipt_dead, send
from outbox.tracing.hooks import process

logger = logging.getLogger("inbox")


def name_of(envelope: Envelope) -> MessageName:
    """Return what a message is called in logs and errors."""
    return MessageName(bounded(envelope.id), bounded(envelope.type))


def read(handler: Handler, envelope: Envelope) -> Any:
    """Return the event for a handler; raise UndecodableMessage if its data does not fit."""
    return codec.decode(envelope, event_types.find(envelope.type, envelope.version))


# --- What follows -------------------------------------------------------------------------------


def attempt(
    calls: Calls,
    handler: Handler,
    event: Any,
    envelope: Envelope,
    *,
    state: State | None,
    earlier: int,
) -> Settlement:
    """Call a handler, `earlier` calls of it having failed; return what follows."""
    again = state is not None
    with process(envelope, handler=handler.name, group=handler.group, again=again) as fail:
        started = time.monotonic()
        exc = calls.call(handler, event, envelope)
        seconds = time.monotonic() - started
        if exc is not None:
            settled = failed(handler, envelope, exc, state=state, earlier=earlier, seconds=seconds)
            fail(exc, settled.error)
            return settled
    return Settlement(
        handler,
        name_of(envelope),
        after(state, Event.HANDLED),
        attempts=earlier + 1,
        attempt=None if state is None else made(None, seconds),
        seconds=seconds,
        time=envelope.time,
    )


def failed(
    handler: Handler,
    envelope: Envelope,
    exc: BaseException,
    *,
    state: State | None,
    earlier: int,
    seconds: float | None = None,
) -> Settlement:
    """Return what follows from an attempt that has failed, after `seconds` in its handler."""
    attempts, error = earlier + 1, masked(describe(exc))[: error_text.MAX_ERROR]
    verdict = _judge(handler, exc, attempts)
    happened = Event.REJECTED if verdict.delay is None else Event.FAILED
    return Settlement(
        handler,
        name_of(envelope),
        after(state, happened),
        attempts=attempts,
        delay=verdict.delay,
        reason=verdict.reason,
        error=error,
        traceback=_traceback(exc),
        attempt=made(error, seconds),
        exc=exc,
        seconds=seconds,
    )


def _traceback(exc: BaseException) -> str | None:
    """Return what is kept of a traceback; a verdict alone, and a text that has one, need none."""
    if is_a(exc, Failed) or (is_a(exc, Retry, Reject) and len(list(causes(exc))) == 1):
        return None
    return traceback_of(exc)


def _judge(handler: Handler, exc: BaseException, attempts: int) -> Verdict:
    """Return what follows from a failure, also where the handler's own policy fails."""
    try:
        return judge(exc, handler.retry_policy, attempts)
    except BaseException as failure:
        if is_interrupt(failure):
            raise
        log(
            logger,
            logging.ERROR,
            "The retry policy of handler %s failed, so the default one decides: %s",
            handler.name,
            error_text.describe(failure),
            exc=failure,
        )
        return judge(exc, RetryPolicy(), attempts)


def unusable(
    handler: Handler,
    message: MessageName,
    exc: UndecodableMessage,
    *,
    state: State | None,
    earlier: int = 0,
) -> Settlement:
    """Return what follows from data that does not fit: no attempt would change it."""
    return Settlement(
        handler,
        message,
        after(state, Event.REJECTED),
        attempts=earlier,
        reason=Reason.INVALID_DATA,
        error=text_of(exc),
    )


def stale(
    handler: Handler, message: MessageName, sequence: int, *, state: State | None
) -> Settlement:
    """Return what follows for a message that its key has gone past."""
    return Settlement(
        handler,
        message,
        after(state, Event.STALE),
        reason=Reason.STALE,
        error=f"Its key has gone past number {sequence}.",
    )


def redelivered(handler: Handler, message: MessageName) -> Settlement:
    """Return what follows for what may have ended another process: it is handled with care."""
    state = after(None, Event.REDELIVERED)
    return Settlement(handler, message, state, delay=0.0, reason=Reason.REDELIVERED)


def crashed(
    handler: Handler, message: MessageName, processes: int, *, state: State, earlier: int
) -> Settlement:
    """Return what follows for what has ended so many processes that it does not get another."""
    error = f"{processes} processes ended, or lost the database, while its handler ran for it."
    return Settlement(
        handler,
        message,
        after(state, Event.REJECTED),
        attempts=earlier + processes,
        reason=Reason.CRASHED,
        error=error,
        attempt=noticed(error),
    )


def held(
    handler: Handler, message: MessageName, *, state: State | None, missing: range = range(0)
) -> Settlement:
    """Return what follows for what waits, for a time if it waits for `missing` numbers."""
    after_that = after(state, Event.HELD)
    if not missing:
        error = "Behind another message of its key."
        return Settlement(handler, message, after_that, reason=Reason.BEHIND, error=error)
    delay = handler.gap_seconds
    error = f"Waits for {numbers(missing)} of its sequence, at most {delay:.0f} s."
    return Settlement(handler, message, after_that, delay=delay, reason=Reason.GAP, error=error)


def went_on(settlement: Settlement, missing: range) -> Settlement:
    """Return the settlement of what was handled without others, on the record."""
    if settlement.state is not State.PROCESSED or not missing:
        return settlement
    error = f"It went on without {numbers(missing)} of its sequence."
    return settlement.because(Reason.GAP, error)


# --- How it is told -----------------------------------------------------------------------------


def tell(settlement: Settlement) -> None:
    """Log what a person may want to know."""
    handler, message = settlement.handler, settlement.message
    state, reason, error = settlement.state, settlement.reason, settlement.error
    if state is State.PROCESSED:
        if reason is Reason.GAP:
            logger.warning("Handler %s has gone on with %s: %s", handler.name, message, error)
    elif state is State.RETRYING and reason is not Reason.REDELIVERED:
        _log(
            settlement,
            logging.WARNING,
            "Handler %s failed on %s; nothing of it remains. Attempt %d of %d, the next one "
            "in %.1f s: %s",
            handler.name,
            message,
            settlement.attempts,
            handler.retry_policy.attempts,
            settlement.delay,
            error,
        )
    elif state is State.DEAD:
        _log(
            settlement,
            logging.ERROR,
            "Handler %s failed on %s; it is dead after %d attempts and waits for a person: %s",
            handler.name,
            message,
            settlement.attempts,
            error,
        )
        home = router.db_for_write(Receipt)
        if handler.on_dead is not None:
            Contained(partial(handler.on_dead, message.id, settlement.exc), home)()
        if receipt_dead.has_listeners(Receipt):
            Contained(partial(_send_dead, settlement), home)()
    elif state is State.SKIPPED:
        logger.info("Handler %s has skipped %s: %s", handler.name, message, error)


def _send_dead(settlement: Settlement) -> None:
    message = settlement.message
    send(
        receipt_dead,
        Receipt,
        handler=settlement.handler.name,
        message_id=message.id,
        type=message.type,
        attempts=settlement.attempts,
        error=settlement.error or "",
    )


def _log(settlement: Settlement, level: int, text: str, *values: Any) -> None:
    exc, traceback = settlement.exc, settlement.traceback
    if exc is None or _is_told(exc):
        exc = None
    elif traceback is None or is_cut(traceback):  # the log has room for more of it
        traceback = masked(error_text.traceback_of(exc))
    log(logger, level, text, *values, exc=exc, traceback=traceback)


def _is_told(exc: BaseException) -> bool:
    """Tell whether the text of an exception says it all: it is no fault, or has a traceback."""
    return is_a(exc, Retry, Reject, Failed)
