"""Move one page from the log to the broker: read, publish, checkpoint, in one transaction.

What the broker refuses is parked in that transaction, too.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from outbox.database.transactions import own_transaction
from outbox.failpoints import hit
from outbox.message.envelope import Envelope
from outbox.runtime.identity import process_name
from outbox.tracing.hooks import now
from relay import tracing
from relay.brokers.base import SKIPPED, Broker, Outcome, Status
from relay.isolation import Isolation
from relay.judgement import BEHIND, judge
from relay.log import Log, Page
from relay.parking.store import Due, Parking

LOOKS = 3
"""How often a page is read whose messages are not on disk before somebody else may."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """What became of a page: messages published, parked, and skipped as another relay's business;
    whether there may be more right now. `tried` counts what was done of the page, whatever it was.

    `outage` says why the broker is away, if it is; `nacked` why it refused the whole page, of which
    nothing was parked; `refusal` what it said of a message that was.
    """

    published: int = 0
    parked: int = 0
    skipped: int = 0
    tried: int = 0
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
    isolation: Isolation | None = None,
    *,
    fresh_first: bool = False,
    patient: bool = True,
) -> Transferred | None:
    """Publish the next page of a lane and checkpoint it; None if another process holds the lane.

    Parked messages that are due go first, unless `fresh_first` and there is a page to publish.
    While we are `patient`, a page that is nacked as a whole is left as it is.

    The transaction owns no transaction id and pins no snapshot until the checkpoint is inserted.
    If it fails anywhere, the page is read again: the broker may then have it twice, the log
    never loses it. Raises StaleCursor, MovedDatabase, BrokerFailed or a database error.
    """
    parking = parking or Parking(log)
    isolation = isolation or Isolation(log.using)
    for _ in range(LOOKS):
        with own_transaction(log.using, handlers=broker.runs_handlers):
            sequence = log.acquire(lane)
            if sequence is None:
                return None
            page = log.read(lane, page_size, sequence)
            retries = page.retries and not (fresh_first and page)
            result: Transferred | None = None
            if retries and (due := parking.due(lane, page_size)):
                result = _retry(log, broker, due, parking, isolation, lane)
            elif not page.durable:
                pass  # neither published nor kept waiting: others may have the lane meanwhile
            elif page or page.window.due:
                result = _publish(log, broker, page, parking, isolation, patient=patient)
            else:
                return Transferred()
        if result is not None:
            hit("relay.committed")
            return result
        log.flush()
    return None


def _publish(
    log: Log, broker: Broker, page: Page, parking: Parking, isolation: Isolation, *, patient: bool
) -> Transferred:
    hit("relay.read")
    started = time.monotonic()
    held = parking.held_keys(page) if page.parked else set()
    outcomes = _publish_unless(held, broker, page, isolation, log.relay)
    judgement = judge(page.messages, outcomes, patient=patient)
    hit("relay.published")
    if judgement.settled or not page:
        duration = timedelta(seconds=time.monotonic() - started)
        log.checkpoint(page, judgement.settled, by=process_name(), duration=duration)
        if judgement.parked:
            parking.add(page, judgement.parked)
        hit("relay.checkpointed")
    skipped = sum(outcome is SKIPPED for outcome in outcomes[: judgement.settled])
    unsent = not judgement.outage and not judgement.nacked and judgement.settled < len(page)
    return Transferred(
        published=judgement.confirmed - skipped,
        parked=len(judgement.parked),
        skipped=skipped,
        tried=judgement.settled,
        more=not page.complete or page.retries or unsent,
        outage=judgement.outage,
        nacked=judgement.nacked,
        refusal=_refusal(page.messages, judgement.parked),
    )


def _publish_unless(
    held: set[str], broker: Broker, page: Page, isolation: Isolation, relay: str
) -> Sequence[Outcome]:
    """Publish a page but for the keys that have to wait; return outcomes for all."""
    sent = [message for message in page.messages if message.key not in held]
    since = now()
    outcomes = isolation.publish(broker, sent, page.lane) if sent else []
    tracing.tell(broker, relay, sent, outcomes, since)
    each = iter(outcomes)
    return [BEHIND if message.key in held else next(each) for message in page.messages]


def _retry(
    log: Log,
    broker: Broker,
    due: Sequence[Due],
    parking: Parking,
    isolation: Isolation,
    lane: int,
) -> Transferred:
    """Publish parked messages again.

    Neither nacks nor what we may not publish are signs of an outage here: they may be why.
    """
    since, messages = now(), [each.envelope for each in due]
    outcomes = isolation.publish(broker, messages, (lane, "parked"))
    tracing.tell(broker, log.relay, messages, outcomes, since)
    if broker.denied:
        outcomes = [
            Outcome(Status.REFUSED, outcome.reason) if outcome.status is Status.UNKNOWN else outcome
            for outcome in outcomes
        ]
    hit("relay.retried")
    published = parking.settle(due, outcomes, by=process_name())
    lost = next((each for each in outcomes if each.status is Status.UNKNOWN), None)
    tried = sum(outcome.status is not Status.UNSENT for outcome in outcomes)
    outage = lost.reason if lost else ""
    return Transferred(published=published, tried=tried, more=True, outage=outage)


def _refusal(messages: Sequence[Envelope], parked: Mapping[int, Outcome]) -> str:
    """Return the first refusal of a page in words, "" if there are only messages that wait."""
    for index, outcome in parked.items():
        if outcome.status not in (Status.HELD, Status.LATER):
            return f"{messages[index].type} {messages[index].id}: {outcome.reason}"
    return ""
