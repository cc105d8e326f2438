"""Which messages a relay publishes: by their kind, and by what its broker can carry."""

from collections.abc import Sequence

from outbox.error_text import MAX_ERROR, storable
from outbox.message.envelope import Envelope
from outbox.message.kinds import EVENT, KINDS, TASK, Kind, kind_of
from outbox.nouns import counted
from relay.brokers.base import CONFIRMED, SKIPPED, Broker, Outcome, Status, hold

_NOT_CARRIED = {
    EVENT.plural: Outcome(
        Status.REFUSED,
        "this is an event, and the broker of this relay carries Celery tasks only. Set the relay's "
        "MESSAGES to 'tasks'",
    ),
    TASK.plural: Outcome(
        Status.REFUSED,
        "this is a Celery task, which the broker of this relay cannot carry. Set the relay's "
        "MESSAGES to 'events', and add one with MESSAGES 'tasks' and Celery's broker",
    ),
}


def carries(broker: Broker | type[Broker], kind: Kind) -> bool:
    """Return whether a broker can publish messages of a kind, by its `carries_` capabilities."""
    return bool(getattr(broker, f"carries_{kind.carried}", False))


def stands_apart(broker: Broker | type[Broker]) -> bool:
    """Return whether a broker is for a kind of messages that goes apart, and for nothing else."""
    return any(kind.apart and carries(broker, kind) for kind in KINDS)


def publish(broker: Broker, messages: Sequence[Envelope]) -> list[Outcome]:
    """Publish those messages that are the broker's business; return outcomes for all.

    Raises what the broker's adapter raises, and ValueError for outcomes that are none.
    """
    if not messages:
        return []
    settled = [settle(broker, message) for message in messages]
    if not any(settled):
        return _checked(broker.publish(messages), len(messages))
    refused = {index: each for index, each in enumerate(settled) if each and each is not SKIPPED}
    if refused and broker.hold_keys:
        for index, outcome in hold(messages, refused).items():
            settled[index] = settled[index] or outcome
    sent = [m for m, outcome in zip(messages, settled, strict=True) if outcome is None]
    outcomes = iter(_checked(broker.publish(sent), len(sent)) if sent else [])
    return [outcome or next(outcomes) for outcome in settled]


def _checked(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
    if len(outcomes) != count:
        raise ValueError(
            f"publish() returned {counted(len(outcomes), 'outcome')} for "
            f"{counted(count, 'message')}"
        )
    return [
        outcome
        if outcome is CONFIRMED
        else outcome._replace(
            status=Status(outcome.status), reason=storable(str(outcome.reason), MAX_ERROR)
        )
        for outcome in outcomes
    ]


def settle(broker: Broker, message: Envelope) -> Outcome | None:
    """Return the outcome of a message that the broker is not to be given; else None."""
    kind = kind_of(message.content_type)
    if broker.messages not in ("all", kind.carried):
        return SKIPPED
    if carries(broker, kind):
        return None
    return SKIPPED if kind.apart or stands_apart(broker) else _NOT_CARRIED[kind.carried]
