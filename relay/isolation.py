"""Find the message that cannot be sent: what fails again while others pass is that message's fault.

What fails for all is an outage. A broker that gives no word about a page may be away, or one
message of the page may be why: a proxy between ends the connection over it, say, or the adapter
has a defect. So the next page goes out in pieces: one message alone, then more and more at once.
One that fails alone is suspected, and others are tried. If one of them gets through and the
suspect fails again, it is refused: the relay parks it, with the reason. Where none gets through
the broker is away, and no message is blamed.
"""

import logging
import time
from collections.abc import Hashable, Sequence

from django.db.transaction import TransactionManagementError, atomic, get_rollback

from outbox.database.failures import is_outage
from outbox.error_text import describe, log
from outbox.interrupts import is_interrupt
from outbox.message.envelope import Envelope
from relay import instruments
from relay.brokers import carriage
from relay.brokers.base import SKIPPED, Broker, Outcome, Status, address_of, close
from relay.exceptions import BrokerFailed
from relay.pieces import Pieces

logger = logging.getLogger("relay")

IN_A_ROW = 3
"""Messages that fail alone, one after the other, until the broker counts as away."""

SECONDS = 5.0
"""Time after which no more pieces are tried once a message has failed alone."""

MAX_SUSPECTS = 10_000


def tell_failed(broker: Broker, exc: BrokerFailed) -> None:
    """Log that an adapter has raised, with the traceback of that."""
    log(
        logger,
        logging.ERROR,
        "The adapter of broker %s failed; its page is published in pieces: %s",
        address_of(broker),
        exc,
        exc=exc.__cause__,
    )


class Isolation:
    """What one relay process knows of messages about which its broker gave no word.

    `using` is the database in whose transactions is published. What the broker says is counted for
    the `relay`.
    """

    def __init__(self, using: str, relay: str = "") -> None:
        self._using = using
        self._relay = relay
        self._careful: set[Hashable] = set()
        self._suspects: dict[str, int] = {}  # message id -> passes when it failed alone
        self._passes = 0

    def publish(
        self, broker: Broker, messages: Sequence[Envelope], scope: Hashable
    ) -> list[Outcome]:
        """Publish messages and return one outcome for each, in order.

        In pieces, if the outcome of something was unknown when this was called last for the
        `scope`, or if one of the messages is suspected. Raises BrokerFailed if the adapter raises,
        so that the transaction is rolled back; the next call then publishes in pieces. Raises what
        the database raises when it is away.
        """
        if scope in self._careful or not self._suspects.keys().isdisjoint(m.id for m in messages):
            outcomes = self._in_pieces(broker, messages)
        else:
            try:
                outcomes = self._publish(broker, messages)
            except BaseException as exc:
                if is_interrupt(exc) or is_outage(exc):
                    raise
                self._careful.add(scope)
                raise BrokerFailed(describe(exc)) from exc
            self._note(messages, outcomes)
        if any(outcome.status is Status.UNKNOWN for outcome in outcomes):
            self._careful.add(scope)
        else:
            self._careful.discard(scope)
        return outcomes

    def _in_pieces(self, broker: Broker, messages: Sequence[Envelope]) -> list[Outcome]:
        pieces = Pieces(messages, self._suspects, hold=broker.hold_keys)
        before, deadline = self._passes, time.monotonic() + SECONDS
        in_a_row = 0
        while piece := pieces.next(self._passes, probe=in_a_row > 0):
            sent = [messages[index] for index in piece]
            outcomes = self._attempt(broker, sent)
            if self._note(sent, outcomes):
                in_a_row = 0
            if pieces.settle(piece, outcomes):
                if any(outcome.status is Status.UNSENT for outcome in outcomes):
                    break  # the time of the page is over
                continue
            # It has failed alone.
            [message], [outcome] = sent, outcomes
            convicted = self._suspects.get(message.id, self._passes) < self._passes
            if convicted:
                pieces.refuse(piece[0], f"it fails again while others pass: {outcome.reason}")
            self._suspect(message)
            # What has got through just now is a better proof than what once did.
            in_a_row += not (convicted and self._passes > before)
            if in_a_row >= IN_A_ROW or time.monotonic() >= deadline:
                break
        return pieces.outcomes()

    def _attempt(self, broker: Broker, messages: Sequence[Envelope]) -> list[Outcome]:
        """Publish in a savepoint, which undoes what a failing adapter wrote to our database."""
        try:
            with atomic(using=self._using):
                return self._publish(broker, messages)
        except BaseException as exc:
            if is_interrupt(exc) or is_outage(exc):
                raise
            return [Outcome(Status.UNKNOWN, describe(exc))] * len(messages)

    def _publish(self, broker: Broker, messages: Sequence[Envelope]) -> list[Outcome]:
        started = time.perf_counter()
        try:
            outcomes = carriage.publish(broker, messages)
            if get_rollback(self._using):
                raise TransactionManagementError("an error of the database was swallowed")
        except BaseException as exc:
            instruments.failed(self._relay, broker, len(messages), exc, started)
            close(broker)  # whatever state the adapter is in, it shall start anew
            raise
        instruments.published(self._relay, broker, messages, outcomes, started)
        return outcomes

    def _note(self, messages: Sequence[Envelope], outcomes: Sequence[Outcome]) -> bool:
        """Take note of what was confirmed; return whether anything was."""
        passed = [
            message.id
            for message, outcome in zip(messages, outcomes, strict=True)
            if outcome.status is Status.CONFIRMED and outcome is not SKIPPED
        ]
        self._passes += bool(passed)
        if self._suspects:
            for message_id in passed:
                self._suspects.pop(message_id, None)
        return bool(passed)

    def _suspect(self, message: Envelope) -> None:
        self._suspects.pop(message.id, None)
        self._suspects[message.id] = self._passes
        if len(self._suspects) > MAX_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
