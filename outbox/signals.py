"""Django signals for what a person may want to be told: connect receivers, in ready().

    finding_raised, finding_cleared   finding, using        manage.py doctor --watch
    messages_parked                   relay, count, reason  a relay, when a page is over
    receipt_dead                      handler, message_id, type, attempts, error
    dead_letter                       group, reason, message_id, type, error
    unacknowledged                    group, type, message_ids   a relay, after the last resend
    outage_began                      what, where, reason   a relay or a consumer, once
    outage_ended                      what, seconds

All are sent behind the transaction that they are about, in the process and the thread that did it,
which waits for its receivers: let them be quick. One that raises is logged, and stops nothing; a
transaction that it leaves open is rolled back, and settings of the session are set back.
What no receiver is connected to costs nothing.
"""

import logging
from collections.abc import Callable
from typing import Any

from django.dispatch import Signal

from outbox.bystanders import unharmed
from outbox.error_text import describe, log, name_of, storable
from outbox.interrupts import is_interrupt

logger = logging.getLogger("outbox")


class Notice(Signal):
    """A signal of which each receiver fails alone, whatever it raises or leaves behind."""

    def _live_receivers(self, sender: Any) -> Any:
        found: Any = super()
        receivers, asynchronous = found._live_receivers(sender)
        return [_contained(each) for each in receivers], asynchronous


finding_raised = Notice()
"""The doctor has found something, a warning or an error: `finding`, in database `using`."""
finding_cleared = Notice()
"""What was raised is not there any more: `finding`, as it was found last, in database `using`."""
messages_parked = Notice()
"""The broker refuses messages: `relay`, `reason` of the first, `count` with those behind it."""
receipt_dead = Notice()
"""A handler could not handle a message: `handler`, `message_id`, `type`, `attempts`, `error`."""
dead_letter = Notice()
"""A message cannot be used: `group`, `reason`, `message_id` and `type` if known, `error`."""
unacknowledged = Notice()
"""A `group` has not acknowledged messages of a `type` though sent again; their `message_ids`."""
outage_began = Notice()
"""A process has lost `what`, "broker" or "database": `where`, `reason`."""
outage_ended = Notice()
"""A process has `what` again, after `seconds`."""


def send(signal: Signal, sender: Any, **values: Any) -> None:
    """Send a signal to whoever listens; log what receivers raise."""
    if not signal.has_listeners(sender):
        return
    _contained(signal.send_robust, "an asynchronous one")(sender=sender, **values)


def _contained(receiver: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    """Return a receiver that logs what it raises, and leaves no transaction or session changed."""

    def call(**values: Any) -> Any:
        try:
            with unharmed() as wrong:
                response = receiver(**values)
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            text = "A receiver of a signal has failed, %s: %s"
            log(logger, logging.ERROR, text, name or _name(receiver), describe(exc), exc=exc)
            return exc
        for problem in wrong:
            text = "A receiver of a signal, %s, has %s; that is put right."
            logger.error(text, name or _name(receiver), problem)
        return response

    return call


def _name(receiver: object) -> str:
    found = getattr(receiver, "__qualname__", None)
    module = getattr(receiver, "__module__", "")
    return storable(f"{module}.{found}", 200) if isinstance(found, str) else name_of(receiver)
