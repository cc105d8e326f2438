"""Receive from a relay in the same process: what relay.brokers.local hands over."""

from collections.abc import Sequence

from inbox.delivery import Delivery
from inbox.receiver import Batch
from inbox.retries import Retries
from outbox.envelope import Envelope


def receive(page: Sequence[Envelope], *, using: str) -> list[str | None]:
    """Handle messages with the handlers of all groups, in the running transaction.

    Returns None for each: it is handled, or the inbox has it in its care.
    """
    Batch([Delivery.of(envelope) for envelope in page], using=using).receive()
    return [None] * len(page)


def retry_due(*, using: str) -> bool:
    """Handle what is due again, of all groups; return whether more is due.

    Without a consumer process nobody else does it: the relay calls this about once a second.
    """
    return Retries(using).turn().more
