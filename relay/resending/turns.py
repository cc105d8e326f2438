"""Take turns at what is not acknowledged in time: some rows, in one transaction.

One process has a row at a time, by SKIP LOCKED. What was published when the process ended, and not
noted, is published once more: receivers deduplicate.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connections
from django.db.models.functions import Now

from outbox.database.clock import database_now
from outbox.database.failures import is_outage
from outbox.database.transactions import own_transaction
from outbox.error_text import describe
from outbox.exceptions import ConfigurationError
from outbox.failpoints import hit
from outbox.interrupts import is_interrupt
from outbox.message.event_types import registry
from outbox.models import Acknowledgement, Message, Scheduled
from outbox.nouns import counted
from outbox.signals import send, unacknowledged
from outbox.states import Acknowledged, Hold
from relay.brokers.base import Broker, Depth, Outcome, Status, close
from relay.conf import broker_class, relay_settings
from relay.exceptions import BrokerFailed
from relay.reports.state import State, states
from relay.resending.policy import Action, Place, Step, next_step

logger = logging.getLogger("relay")

AT_ONCE = 500
"""Rows of one turn."""
LOOK_SECONDS = 1.0
"""Time between two looks for what is due."""

SENT = Step(Action.SEND)
RETRY_SECONDS = 10.0
"""Time after which it is tried again when the broker gave no word, or there was no time to send."""
NOT_SENT = (Status.UNKNOWN, Status.HELD, Status.UNSENT)
"""Outcomes of that."""

PLACES: dict[State | None, Place] = {
    State.PUBLISHED: Place.PUBLISHED,
    State.SKIPPED: Place.PUBLISHED,  # by another one, before this one began
    State.DISCARDED: Place.GONE,  # a person has said so
}
"""Where a message is by its state; in all others it is on its way to the broker."""


class Resending:
    """Sends again what is due in one database, through the broker of one relay.

    Of several relays the first in RELAYS does it whose broker can address a queue. Nothing is asked
    where no event type wants to be acknowledged.
    """

    def __init__(self, using: str, relay: str, broker: Broker) -> None:
        self._using = using
        self._relay = relay
        self._broker = broker
        self._look_at = 0.0
        self._depths: dict[str, int] = {}
        self.outage = ""
        """Why the broker gave no word in the last turn, if it did not."""

    @property
    def active(self) -> bool:
        """Whether this relay is to send anything again."""
        return self._broker.addresses_queues and asks() and resender() == self._relay

    def turn(self) -> int:
        """Take a turn, unless it is too early or nothing is due; return how many were sent.

        Raises BrokerFailed if the broker is away, and what the database raises.
        """
        self.outage = ""
        started = time.monotonic()
        if started < self._look_at or not self.active:
            return 0
        self._look_at = started + LOOK_SECONDS
        if not Acknowledgement.objects.using(self._using).filter(due_at__lte=Now()).exists():
            return 0
        with own_transaction(self._using, handlers=self._broker.runs_handlers):
            rows = self._due()
            steps = self._steps(rows)
            steps |= self._send([row for row in rows if steps[row.pk].action is Action.SEND])
            hit("relay.resending")
            self._write(rows, steps)
        hit("relay.resent")
        if len(rows) == AT_ONCE:
            self._look_at = 0.0
        self._tell(rows, steps)
        return sum(step == SENT for step in steps.values())

    def _due(self) -> list[Acknowledgement]:
        rows = Acknowledgement.objects.using(self._using).filter(due_at__lte=Now())
        if connections[self._using].features.has_select_for_update:
            rows = rows.select_for_update(skip_locked=True)
        return list(rows.order_by("due_at")[:AT_ONCE])

    def _steps(self, rows: Sequence[Acknowledgement]) -> dict[int, Step]:
        places = self._places({row.message_id for row in rows})
        depths: dict[str, Depth | None] = {}
        steps = {}
        for row in rows:
            queue, place = queue_of(row), places[row.message_id]
            if place is Place.PUBLISHED and queue not in depths:
                depths[queue] = self._depth_of(queue)
            before = self._depths.get(queue)
            steps[row.pk] = next_step(place, row.resends, row.most, depths.get(queue), before)
        self._depths |= {queue: depth.ready for queue, depth in depths.items() if depth}
        return steps

    def _places(self, ids: Iterable[UUID]) -> dict[UUID, Place]:
        """Return where messages are: in the log, published or not, not yet in it, or gone."""
        found = dict.fromkeys(ids, Place.GONE)
        log = Message.objects.using(self._using).values_list("message_id", "position")
        positions = dict(log.filter(message_id__in=found))
        if others := found.keys() - positions.keys():
            later = Scheduled.objects.using(self._using).filter(message_id__in=others)
            found |= dict.fromkeys(later.values_list("message_id", flat=True), Place.PENDING)
            # What was put into the log between these two looks is in neither.
            positions |= dict(log.filter(message_id__in=others))
        passed = states(list(positions.values()), [self._relay], self._using)
        for name, position in positions.items():
            found[name] = PLACES.get(passed.get(position, {}).get(self._relay), Place.PENDING)
        return found

    def _depth_of(self, queue: str) -> Depth | None:
        try:
            return self._broker.depth_of(queue)
        except BaseException as exc:
            if is_interrupt(exc) or isinstance(exc, BrokerFailed):
                raise
            raise BrokerFailed(describe(exc)) from exc

    def _send(self, rows: Sequence[Acknowledgement]) -> dict[int, Step]:
        """Publish what is due to the queues of groups; return what becomes of each then."""
        log = Message.objects.using(self._using)
        log = log.filter(message_id__in={row.message_id for row in rows})
        messages = {each.message_id: each.as_envelope() for each in log.order_by("position")}
        by_queue: dict[str, dict[UUID, Acknowledgement]] = defaultdict(dict)
        for row in rows:
            by_queue[queue_of(row)][row.message_id] = row
        steps: dict[int, Step] = {}
        for queue, wanted in by_queue.items():
            page = [(wanted[name], each) for name, each in messages.items() if name in wanted]
            try:
                outcomes = self._broker.publish_to(queue, [each for _, each in page])
            except BaseException as exc:
                if is_interrupt(exc) or is_outage(exc):
                    raise
                close(self._broker)
                raise BrokerFailed(describe(exc)) from exc
            for (row, _), outcome in zip(page, outcomes, strict=True):
                steps[row.pk] = self._after(outcome)
        return steps

    def _after(self, outcome: Outcome) -> Step:
        if outcome.status is Status.CONFIRMED:
            return SENT
        if outcome.status is Status.UNROUTABLE:
            return Step(Action.HOLD, Hold.NO_QUEUE)
        if outcome.status in NOT_SENT and not self._broker.denied:
            if outcome.status is Status.UNKNOWN:
                self.outage = outcome.reason
            return Step(Action.HOLD)
        return Step(Action.HOLD, Hold.REFUSED)

    def _write(self, rows: Sequence[Acknowledgement], steps: dict[int, Step]) -> None:
        """Note what was done: as few statements as there are different ends and times."""
        now = database_now(self._using)
        alike: dict[tuple[Step, float, int], list[int]] = defaultdict(list)
        for row in rows:
            alike[steps[row.pk], row.within, row.resends].append(row.pk)
        for (step, within, resends), numbers in alike.items():
            found = Acknowledgement.objects.using(self._using).filter(pk__in=numbers)
            found.update(**changes(step, now, timedelta(seconds=within), resends))

    def _tell(self, rows: Sequence[Acknowledgement], steps: dict[int, Step]) -> None:
        missing = [row for row in rows if steps[row.pk].action is Action.MISS]
        for (group, event_type), count in Counter((row.group, row.type) for row in missing).items():
            logger.error(
                "Group %r has not acknowledged %s of type %s, though sent again as often as is "
                "allowed; see manage.py doctor.",
                group,
                counted(count, "message"),
                event_type,
            )
            send(
                unacknowledged,
                Acknowledgement,
                group=group,
                type=event_type,
                message_ids=[
                    str(row.message_id)
                    for row in missing
                    if (row.group, row.type) == (group, event_type)
                ],
            )


def changes(step: Step, now: datetime, within: timedelta, resends: int) -> dict[str, object]:
    """Return what a step changes in a row."""
    hold = step.hold or ""
    if step.action is Action.SEND:
        return {"resends": resends + 1, "due_at": now + within, "hold": ""}
    if step.action is Action.MISS:
        return {"state": Acknowledged.MISSING, "due_at": None, "hold": ""}
    if step.action is Action.GIVE_UP:
        return {"state": Acknowledged.GIVEN_UP, "due_at": None, "hold": hold}
    pause = within if hold else min(within, timedelta(seconds=RETRY_SECONDS))
    return {"due_at": now + pause, "hold": hold}


def queue_of(row: Acknowledgement) -> str:
    """Return the queue of the group that is to acknowledge a message, as its type says now."""
    for event_type in registry:
        wanted = event_type.acknowledge
        if event_type.name == row.type and wanted is not None and row.group in wanted.groups:
            return wanted.queue_of(row.group)
    return row.group


def asks() -> bool:
    """Tell whether any event type wants to be acknowledged."""
    return any(each.acknowledge is not None for each in registry)


def resender() -> str | None:
    """Return the relay that sends again: the first whose broker can address a queue."""
    for name, conf in relay_settings().items():
        try:
            able = broker_class(name).addresses_queues
        except ConfigurationError:
            continue
        if able and conf.MESSAGES != "tasks":
            return name
    return None
