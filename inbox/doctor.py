"""What the doctor asks about the consumer: each part by itself, in inbox.findings."""

from collections.abc import Iterator

from django.db import router

from inbox.findings.dead import dead_and_failing, dead_letters, gone, overdue
from inbox.findings.queues import queues
from inbox.findings.strangers import same_source, strangers, unhandled
from inbox.handlers.registry import handlers
from inbox.models import DeadLetter, OpenRequest, Receipt
from inbox.replies import waiting
from inbox.sources.amqp.topology import queue_name
from inbox.sources.bindings import examine_abandoned, examine_bindings, examine_unread
from outbox.extensions.diagnosis import Finding, Part, in_time


def examine(using: str) -> Iterator[Finding]:
    """Examine the tables where the routers say they are written, and the queue of every group."""
    letters, receipts = router.db_for_write(DeadLetter), router.db_for_write(Receipt)
    parts: dict[str, tuple[str, Part]] = {
        "Dead letters": (letters, dead_letters),
        "Dead receipts": (receipts, dead_and_failing),
        "Receipts without a handler": (receipts, gone),
        "Overdue receipts": (receipts, overdue),
        "Open requests": (router.db_for_write(OpenRequest), lambda _using: waiting.examine()),
        "Dead letters of strangers": (letters, strangers),
        "Senders with our source": (receipts, same_source),
        "Events that nobody handles": (using, unhandled),
    }
    for what, (alias, part) in parts.items():
        yield from in_time("inbox", what, alias, part)
    yield from queues()
    yield from examine_bindings()
    yield from examine_abandoned()
    yield from examine_unread({group: queue_name(group) for group in handlers.groups()})
