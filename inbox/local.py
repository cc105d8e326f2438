"""Receive from a relay in the same process: what relay.brokers.local hands over."""

from collections.abc import Sequence

from inbox.delivery import Delivery
from inbox.receiver import Batch
from outbox.envelope import Envelope


def receive(page: Sequence[Envelope], *, using: str) -> list[str | None]:
    """Handle messages with the handlers of all groups, in the running transaction.

    Returns, in order, None for a settled message, else why it is not.
    """
    batch = Batch([Delivery.of(envelope) for envelope in page], using=using, ordered=True)
    return [None if result.settled else result.reason for result in batch.receive()]
