"""What is counted of publishing: see outbox.instruments."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from outbox.instruments import LONG_BUCKETS, Instrument, Kind, add, declare, hook, record
from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, SKIPPED, Broker, Outcome, Status

ERROR = "error"

_SENDS = {"messaging.operation.name": "publish", "messaging.operation.type": "send"}
_RELAY = {"relay": "outbox.relay"}
_DETAILS = ("messaging.system", "error.type")

PUBLISHED = declare(
    Instrument(
        name="relay_published_total",
        kind=Kind.COUNTER,
        labels={**_RELAY, "outcome": "outbox.outcome"},
        meaning="what the broker said of messages that were sent, each time: confirmed, nacked, "
        "unroutable, refused, failed, unknown; error if its adapter failed",
        otel="messaging.client.sent.messages",
        unit="{message}",
        constant=_SENDS,
        details=_DETAILS,
    )
)
PUBLISH_SECONDS = declare(
    Instrument(
        name="relay_publish_seconds",
        kind=Kind.HISTOGRAM,
        labels=_RELAY,
        meaning="how long it took to publish a page, or a piece of one, until it was confirmed",
        otel="messaging.client.operation.duration",
        constant=_SENDS,
        details=_DETAILS,
    )
)
DELIVERY_SECONDS = declare(
    Instrument(
        name="relay_delivery_seconds",
        kind=Kind.HISTOGRAM,
        labels=_RELAY,
        meaning="from the time of a message, when it was emitted or due, until it was confirmed",
        otel="outbox.delivery.duration",
        constant=_SENDS,
        details=_DETAILS[:1],
        buckets=LONG_BUCKETS,
    )
)

_NOT_SENT = {Status.HELD, Status.LATER, Status.UNSENT}


@hook
def published(
    relay: str,
    broker: Broker,
    messages: Sequence[Envelope],
    outcomes: Sequence[Outcome],
    started: float,
) -> None:
    """Count what the broker has said of messages that were published from `started` on.

    That is by time.perf_counter(). A replay, which has no `relay`, is not counted.
    """
    if not relay:
        return
    system, confirmed = broker.messaging_system, messages
    counts = {Status.CONFIRMED: len(outcomes)}
    if outcomes.count(CONFIRMED) < len(outcomes):
        pairs = list(zip(messages, outcomes, strict=True))
        counts = Counter(
            outcome.status
            for outcome in outcomes
            if outcome is not SKIPPED and outcome.status not in _NOT_SENT
        )
        confirmed = [message for message, outcome in pairs if outcome == CONFIRMED]
    if not counts:
        return
    record(PUBLISH_SECONDS, (relay,), [time.perf_counter() - started], details=(system, ""))
    for status, count in counts.items():
        error = "" if status is Status.CONFIRMED else status.value
        add(PUBLISHED, (relay, status.value), count, details=(system, error))
    now = datetime.now(UTC)
    times = [(now - each.time).total_seconds() for each in confirmed if each.time is not None]
    record(DELIVERY_SECONDS, (relay,), times, details=(system,))


@hook
def failed(relay: str, broker: Broker, count: int, exc: BaseException, started: float) -> None:
    """Count messages that an adapter failed on, by time.perf_counter() from `started` on."""
    if relay:
        details = (broker.messaging_system, type(exc).__name__)
        record(PUBLISH_SECONDS, (relay,), [time.perf_counter() - started], details=details)
        add(PUBLISHED, (relay, ERROR), count, details=details)
