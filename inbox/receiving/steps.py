"""Let a process take the step that a message leads to, where a handler would be called."""

import random
import time
from datetime import timedelta
from typing import Any

from inbox.calling.calls import Calls
from inbox.conf import inbox_settings
from inbox.handlers.registry import Handler
from inbox.ledger.attempts import made
from inbox.ledger.rows import Settlement
from inbox.processes.policies import Policy, Reject, Skip, Wait
from inbox.processes.stepping import Busy
from inbox.processes.taking import NotTaken
from inbox.receiving import settlement
from inbox.states import Event, Reason, State, after
from outbox.database.failures import is_outage
from outbox.exceptions import UndecodableMessage
from outbox.interrupts import is_interrupt
from outbox.message.envelope import Envelope
from outbox.tracing.hooks import process

BUSY_SECONDS = 0.05
"""About how long a message waits for the end of another one's step."""
UNKNOWN_SECONDS = 5.0
"""How often is looked for an instance by another key, which it may be given any time."""


def handle(
    calls: Calls,
    handler: Handler,
    event: Any,
    envelope: Envelope,
    *,
    state: State | None,
    earlier: int,
    waited: float | None = None,
) -> Settlement:
    """Call a handler, or take a step of its process; return what follows.

    `earlier` attempts have failed; it has `waited` so many seconds since it came in.
    """
    if not handler.process:
        return settlement.attempt(calls, handler, event, envelope, state=state, earlier=earlier)
    again = state is not None
    with process(envelope, handler=handler.name, group=handler.group, again=again) as fail:
        started = time.monotonic()
        try:
            taken = calls.steps.take(handler, envelope)
        except UndecodableMessage as exc:
            name = settlement.name_of(envelope)
            return settlement.unusable(handler, name, exc, state=state, earlier=earlier)
        except BaseException as exc:
            if is_interrupt(exc) or is_outage(exc):
                raise
            seconds = time.monotonic() - started
            settled = settlement.failed(
                handler, envelope, exc, state=state, earlier=earlier, seconds=seconds
            )
            fail(exc, settled.error)
            return settled._replace(instance=calls.steps.key_of(handler, envelope))
    seconds = time.monotonic() - started
    key = calls.steps.key_of(handler, envelope)
    if isinstance(taken, Busy):
        error = "Another consumer takes a step of its instance."
        held = _held(handler, envelope, state, Reason.BUSY, error, earlier)
        return held._replace(instance=key, delay=BUSY_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - to part them
    if isinstance(taken, NotTaken):
        settled = _not_taken(handler, envelope, taken, state, earlier, waited or 0.0)
        return settled._replace(instance=key)
    return Settlement(
        handler,
        settlement.name_of(envelope),
        after(state, Event.HANDLED),
        attempts=earlier + 1,
        attempt=None if state is None else made(None, seconds),
        seconds=seconds,
        time=envelope.time,
    )


def _not_taken(
    handler: Handler,
    envelope: Envelope,
    taken: NotTaken,
    state: State | None,
    earlier: int,
    waited: float,
) -> Settlement:
    policy, why = taken.policy, taken.why
    if isinstance(policy, Wait):
        left = _limit(policy).total_seconds() - waited
        if left > 0:
            held = _held(handler, envelope, state, Reason.EARLY, why, earlier)
            return held._replace(delay=min(left, UNKNOWN_SECONDS) if taken.unknown else left)
        why = f"{why} It has waited for {waited:.0f} s."
    return Settlement(
        handler,
        settlement.name_of(envelope),
        after(state, Event.STALE if isinstance(policy, Skip) else Event.REJECTED),
        attempts=earlier,
        reason=Reason.EARLY if isinstance(policy, Wait) else Reason.PASSED,
        error=_told(policy, why),
    )


def _told(policy: Policy, why: str) -> str:
    """Return why no step was taken, with what the process says of it."""
    said = policy.reason if isinstance(policy, Skip | Reject) else ""
    return f"{why} The process says: {said}." if said else why


def _limit(policy: Wait) -> timedelta:
    return policy.limit or timedelta(seconds=inbox_settings().GAP_TIMEOUT)


def _held(
    handler: Handler,
    envelope: Envelope,
    state: State | None,
    reason: Reason,
    error: str,
    earlier: int,
) -> Settlement:
    return Settlement(
        handler,
        settlement.name_of(envelope),
        after(state, Event.HELD),
        attempts=earlier,
        reason=reason,
        error=error,
    )
