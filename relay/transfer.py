"""Move one page from the log to the broker: read, publish, checkpoint, in one transaction.

What the broker refuses is parked in that transaction, too.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction

from outbox.envelope import Envelope
from outbox.failpoints import hit
from relay.brokers import selection
from relay.brokers.base import SKIPPED, Broker, Outcome, Status
from relay.log import Log, Page
from relay.parking import Due, Parking
from relay.policy import BEHIND, judge
from relay.process import process_name


@dataclass(frozen=True, slots=True)
class Transferred:
    """What became of a page: messages published, parked, and skipped as another relay's business;
    whether there may be more right now.

    `outage` says why the broker is away, if it is; `nacked` why it refused the whole page, of which
    nothing was parked; `refusal` what it said of a message that was.
    """

    published: int = 0
    parked: int = 0
    skipped: int = 0
    more: bool = False
    outage: str = ""
    nacked: str = ""
    refusal: str = ""


def transfer(
    log: Log,
    broker: Broker,
    lane: int,
    page_size: int,
    parking: Parking | None = None,
    *,
    fresh_first: bool = False,
    patient: bool = True,
) -> Transferred | None:
    """Publish the next page of a lane and checkpoint it; None if another process holds the lane.

    Parked messages that are due go first, unless `fresh_first` and there is a page to publish.
    While we are `patient`, a page that is nacked as a whole is left as it is.

    The transaction owns no transaction id and pins no snapshot until the checkpoint is inserted.
    If it fails anywhere, the page is read again: the broker may then have it twice, the log
    never loses it. Raises StaleCursor, MovedDatabase or a database error.
    """
    parking = parking or Parking(log)
    with transaction.atomic(using=log.using, durable=True):
        sequence = log.acquire(lane)
        if sequence is None:
            return None
        page = log.read(lane, page_size, sequence)
        retries = page.retries and not (fresh_first and page)
        if retries and (due := parking.due(lane, page_size)):
            result = _retry(broker, due, parking)
        elif page or page.due:
            result = _publish(log, broker, page, parking, patient=patient)
        else:
            return Transferred()
    hit("relay.committed")
    return result


def _publish(
    log: Log, broker: Broker, page: Page, parking: Parking, *, patient: bool
) -> Transferred:
    hit("relay.read")
    started = time.monotonic()
    held = parking.held_keys(page) if page.parked else set()
    outcomes = _publish_unless(held, broker, page.messages)
    judgement = judge(page.messages, outcomes, patient=patient)
    hit("relay.published")
    if judgement.settled or not page:
        duration = timedelta(seconds=time.monotonic() - started)
        log.checkpoint(page, judgement.settled, by=process_name(), duration=duration)
        if judgement.parked:
            parking.add(page, judgement.parked)
        hit("relay.checkpointed")
    skipped = sum(outcome is SKIPPED for outcome in outcomes[: judgement.settled])
    return Transferred(
        published=judgement.confirmed - skipped,
        parked=len(judgement.parked),
        skipped=skipped,
        more=not page.complete or page.retries,
        outage=judgement.outage,
        nacked=judgement.nacked,
        refusal=_refusal(page.messages, judgement.parked),
    )


def _publish_unless(
    held: set[str], broker: Broker, messages: Sequence[Envelope]
) -> Sequence[Outcome]:
    """Publish messages but those of the keys that have to wait; return outcomes for all."""
    if not messages:
        return []
    if not held:
        return selection.publish(broker, messages)
    sent = [message for message in messages if message.key not in held]
    outcomes = iter(selection.publish(broker, sent))
    return [BEHIND if message.key in held else next(outcomes) for message in messages]


def _retry(broker: Broker, due: Sequence[Due], parking: Parking) -> Transferred:
    """Publish parked messages again. Nacks are no sign of an outage here: they may be why."""
    outcomes = selection.publish(broker, [each.envelope for each in due])
    hit("relay.retried")
    published = parking.settle(due, outcomes, by=process_name())
    lost = next((each for each in outcomes if each.status is Status.UNKNOWN), None)
    return Transferred(published=published, more=True, outage=lost.reason if lost else "")


def _refusal(messages: Sequence[Envelope], parked: Mapping[int, Outcome]) -> str:
    """Return the first refusal of a page in words, "" if the others only wait behind their key."""
    for index, outcome in parked.items():
        if outcome.status is not Status.HELD:
            return f"{messages[index].type} {messages[index].id}: {outcome.reason}"
    return ""
