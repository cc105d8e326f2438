"""Which messages a relay publishes: events, Celery tasks or both."""

from collections.abc import Sequence

from outbox.celery.wire import is_task
from outbox.envelope import Envelope
from relay.brokers.base import SKIPPED, Broker, Outcome, Status

_NO_TASKS = Outcome(
    Status.REFUSED,
    "this is a Celery task, which the broker of this relay cannot carry. Set the relay's MESSAGES "
    "to 'events', and add one with MESSAGES 'tasks' and Celery's broker",
)
_NO_EVENTS = Outcome(
    Status.REFUSED,
    "this is an event, and the broker of this relay carries Celery tasks only. Set the relay's "
    "MESSAGES to 'tasks'",
)


def publish(broker: Broker, messages: Sequence[Envelope]) -> list[Outcome]:
    """Publish those messages that are the broker's business; return outcomes for all."""
    if not messages:
        return []
    settled = [settle(broker, message) for message in messages]
    if not any(settled):
        return broker.publish(messages)
    sent = [m for m, outcome in zip(messages, settled, strict=True) if outcome is None]
    outcomes = iter(broker.publish(sent) if sent else [])
    return [outcome or next(outcomes) for outcome in settled]


def settle(broker: Broker, message: Envelope) -> Outcome | None:
    """Return the outcome of a message that the broker is not to be given; else None."""
    if is_task(message):
        if broker.messages == "events":
            return SKIPPED
        return None if broker.carries_tasks else _NO_TASKS
    if broker.messages == "tasks":
        return SKIPPED
    return None if broker.carries_events else _NO_EVENTS
