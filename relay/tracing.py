"""The span of a page that was published."""

from collections.abc import Sequence

from outbox.message.envelope import Envelope
from outbox.tracing.hooks import is_on, sent
from relay.brokers.base import SKIPPED, Broker, Outcome, Status

_NOT_SENT = (Status.HELD, Status.LATER, Status.UNSENT)


def tell(
    broker: Broker,
    relay: str,
    messages: Sequence[Envelope],
    outcomes: Sequence[Outcome],
    since: int,
) -> None:
    """Tell OpenTelemetry what was sent, if it wants to know; `since` is from now() of its hooks."""
    if not is_on():
        return
    tried = [
        (message, outcome.status)
        for message, outcome in zip(messages, outcomes, strict=True)
        if outcome is not SKIPPED and outcome.status not in _NOT_SENT
    ]
    sent(
        [message for message, _ in tried],
        [status for _, status in tried],
        system=broker.messaging_system,
        relay=relay,
        since=since,
    )
