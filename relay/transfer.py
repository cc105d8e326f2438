"""Move one page from the log to the broker: read, publish, checkpoint, in one transaction."""

import time
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction

from outbox.failpoints import hit
from relay.brokers.base import Broker
from relay.log import Log
from relay.policy import Judgement, Verdict, judge
from relay.process import process_name


@dataclass(frozen=True, slots=True)
class Transferred:
    """What became of a page: messages published, whether the lane may hold more right now."""

    published: int
    more: bool
    judgement: Judgement
    refused_id: str = ""


NOTHING = Transferred(0, False, Judgement(Verdict.PASSED, 0))


def transfer(log: Log, broker: Broker, lane: int, page_size: int) -> Transferred | None:
    """Publish the next page of a lane and checkpoint it; None if another process holds the lane.

    The transaction owns no transaction id and pins no snapshot until the checkpoint is inserted.
    If it fails anywhere, the page is read again: the broker may then have it twice, the log
    never loses it. Raises StaleCursor, MovedDatabase or a database error.
    """
    with transaction.atomic(using=log.using, durable=True):
        sequence = log.acquire(lane)
        if sequence is None:
            return None
        page = log.read(lane, page_size, sequence)
        if not page and not page.due:
            return NOTHING
        hit("relay.read")
        started = time.monotonic()
        judgement = judge(broker.publish(page.messages)) if page else NOTHING.judgement
        hit("relay.published")
        if judgement.confirmed or not page:
            duration = timedelta(seconds=time.monotonic() - started)
            log.checkpoint(page, judgement.confirmed, by=process_name(), duration=duration)
            hit("relay.checkpointed")
    hit("relay.committed")
    refused = judgement.verdict is Verdict.REFUSED
    return Transferred(
        published=judgement.confirmed,
        more=not page.complete,
        judgement=judgement,
        refused_id=page.messages[judgement.confirmed].id if refused else "",
    )
