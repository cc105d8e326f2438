"""A simple model of acknowledging and sending again, and everything that can happen, in any order.

One sender, two groups that are to acknowledge its parcels, and three queues, in memory, of which
anything may be lost or delivered again. The model knows what each group has handled, what it has
told and which of that the sender has seen. A look sends again exactly what is due, was not seen to
be acknowledged, and is not known to wait; to the queue of that group alone. When all is well in the
end, each group has handled each parcel once, and the sender knows it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import F
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import outbox
from outbox.acknowledging.operations import OF_ACKNOWLEDGEMENTS
from outbox.message.acknowledgements import TYPE
from outbox.message.envelope import Envelope
from outbox.models import Acknowledgement
from outbox.states import Acknowledged
from relay.brokers.base import CONFIRMED, Depth, Outcome, Status
from relay.exceptions import BrokerFailed
from relay.log import open_log
from relay.resending.turns import Resending
from relay.transfer import transfer
from tests.inbox.support import make_due, receive, turn
from tests.kit.support import RecordingBroker
from tests.proofs.concurrency.scenario import Crash

SENDER = "sender"
QUEUES = {"billing": "billing", "shipping": "eu-shipping"}
MOST = 3
GROUPS = st.sampled_from(sorted(QUEUES))
ADDRESSES = st.sampled_from([*sorted(QUEUES), SENDER])

ACKNOWLEDGE = outbox.Acknowledge(
    groups=sorted(QUEUES),
    within=timedelta(minutes=5),
    resends=MOST,
    queues={"shipping": QUEUES["shipping"]},
)


@dataclass(frozen=True, slots=True)
class Parcel:
    number: int


class Fails(Exception):
    """A handler fails this time."""


class Copy(NamedTuple):
    """What a group should get: a message, in its queue."""

    group: str
    id: str


class QueueBroker(RecordingBroker):
    """Keeps queues in memory: parcels go to both groups, what these tell to the sender."""

    addresses_queues = True

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[str, list[Envelope]] = {group: [] for group in (*QUEUES, SENDER)}
        self.consumed = set(QUEUES)
        self.silent = False
        self.crashes = False

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        for each in page:
            for group in [SENDER] if each.type == TYPE else QUEUES:
                self.queues[group].append(each)
        if self.crashes:
            raise Crash
        return [CONFIRMED for _ in page]

    def publish_to(self, queue: str, page: Sequence[Envelope]) -> list[Outcome]:
        if self.silent:
            return [Outcome(Status.UNKNOWN, "no word") for _ in page]
        [group] = [each for each, name in QUEUES.items() if name == queue]
        self.queues[group] += page
        if self.crashes:
            raise Crash
        return [CONFIRMED for _ in page]

    def depth_of(self, queue: str) -> Depth | None:
        [group] = [each for each, name in QUEUES.items() if name == queue]
        return Depth(ready=len(self.queues[group]), consumers=int(group in self.consumed))


@dataclass
class Groups:
    """What the handlers of the groups do: they note what they handle, or fail."""

    handled: Counter[Copy] = field(default_factory=Counter)
    failing: set[str] = field(default_factory=set)

    def handle(self, group: str, message: Envelope) -> None:
        if group in self.failing:
            raise Fails
        self.handled[Copy(group, message.id)] += 1


groups = Groups()


class AcknowledgementMachine(RuleBasedStateMachine):
    """Sends, delivers, loses, tells and sends again; see the module."""

    def __init__(self) -> None:
        super().__init__()
        with connection.cursor() as cursor:
            cursor.execute(
                "TRUNCATE django_outbox_acknowledgement, django_outbox_message, "
                "django_outbox_scheduled, django_relay_checkpoint, django_relay_parked, "
                "django_inbox_receipt CASCADE"
            )
        groups.handled.clear()
        groups.failing.clear()
        self.broker = QueueBroker()
        self.resending = Resending("default", "mine", self.broker)
        self.log = open_log("mine", using="default", start="beginning")
        self.sent: list[str] = []
        self.published: set[str] = set()
        self.seen: set[Copy] = set()

    def teardown(self) -> None:
        self.finish()

    # --- The sender --------------------------------------------------------------------------

    @rule(count=st.integers(1, 3))
    def send(self, count: int) -> None:
        if len(self.sent) < 8:
            with transaction.atomic():
                self.sent += [outbox.emit(Parcel(number)).id for number in range(count)]

    @rule(crashes=st.booleans())
    def publish(self, crashes: bool) -> None:
        """The relay publishes all; or a page, and dies before it is written down."""
        self.broker.crashes = crashes
        try:
            while self.log.lanes_with_work(1):
                transfer(self.log, self.broker, 0, 100)
            self.published |= set(self.sent)
        except (Crash, BrokerFailed):
            self.log = open_log("mine", using="default", start="beginning")
        self.broker.crashes = False

    @rule()
    def time_passes(self) -> None:
        """Until the time of all that is awaited is over."""
        rows = Acknowledgement.objects.filter(due_at__isnull=False)
        rows.update(due_at=F("due_at") - timedelta(hours=1))

    @rule(crashes=st.booleans(), silent=st.booleans())
    def look(self, crashes: bool, silent: bool) -> None:
        """A relay looks for what is due; the broker gives no word, or the relay dies over it."""
        before = {Copy(row.group, str(row.message_id)): row for row in due()}
        ready = {group: list(queue) for group, queue in self.broker.queues.items()}
        self.broker.crashes, self.broker.silent = crashes, silent
        self.resending._look_at = 0.0
        died = False
        try:
            self.resending.turn()
        except (Crash, BrokerFailed):
            died = True
            self.resending = Resending("default", "mine", self.broker)
        self.broker.crashes = self.broker.silent = False
        new = [
            Copy(group, each.id)
            for group, queue in self.broker.queues.items()
            for each in queue[len(ready[group]) :]
        ]
        wanted = {
            each
            for each, row in before.items()
            if each.id in self.published and each not in self.seen and row.resends < MOST
        }
        assert len(new) == len(set(new)), "a copy is sent twice"
        assert set(new) <= wanted, "sent again to whom it is not due"
        assert all(each.group in self.broker.consumed for each in new), "nobody is there"
        lost = {
            each for each in wanted if each.group in self.broker.consumed and not ready[each.group]
        }
        if not died and not silent:
            assert lost <= set(new), "held although it is lost"
        for row in Acknowledgement.objects.all():
            was = before.get(each := Copy(row.group, str(row.message_id)))
            noted = was is not None and each in new and not died
            if was is not None:
                assert row.resends == was.resends + noted, "counted, and not sent"

    @rule(copies=st.booleans(), count=st.integers(1, 3))
    def see(self, copies: bool, count: int) -> None:
        """What was told reaches the sender, some of it more than once."""
        for each in self._take(SENDER, count, copies=copies):
            receive(each, group=SENDER)
            about = json.loads(each.data)
            self.seen |= {Copy(about["group"], name) for name in about.get("handled", [])}

    # --- The groups --------------------------------------------------------------------------

    @rule(group=GROUPS, copies=st.booleans(), count=st.integers(1, 3))
    def deliver(self, group: str, copies: bool, count: int) -> None:
        """A group gets a batch of what waits; that comes again if its consumer dies then."""
        if group in self.broker.consumed and (batch := self._take(group, count, copies=copies)):
            receive(*batch, group=group)

    @rule(group=GROUPS)
    def fail(self, group: str) -> None:
        """Handlers of a group fail from now on, so that messages are retried."""
        groups.failing.add(group)

    @rule(group=GROUPS)
    def retry(self, group: str) -> None:
        """They do so no more, and what was retried is handled."""
        groups.failing.discard(group)
        make_due()
        turn(group)

    @rule(group=GROUPS)
    def leave(self, group: str) -> None:
        self.broker.consumed.discard(group)

    @rule(group=GROUPS)
    def come(self, group: str) -> None:
        self.broker.consumed.add(group)

    @rule(group=ADDRESSES, count=st.integers(1, 5))
    def lose(self, group: str, count: int) -> None:
        """What waits in a queue is gone."""
        self._take(group, count, copies=False)

    # --- What always holds -------------------------------------------------------------------

    @invariant()
    def what_was_seen_is_noted(self) -> None:
        """And nothing else; whoever has told it has handled it, once."""
        rows = Acknowledgement.objects.filter(state=Acknowledged.HANDLED)
        noted = {Copy(row.group, str(row.message_id)) for row in rows}
        assert noted == self.seen
        assert not rows.filter(due_at__isnull=False).exists()
        assert noted <= groups.handled.keys()
        assert set(groups.handled.values()) <= {1}
        assert all(row.resends <= MOST for row in Acknowledgement.objects.all())

    def finish(self) -> None:
        """Let everything heal: all is handled by each group, once, and the sender knows it."""
        self.what_was_seen_is_noted()
        for _ in range(3 * MOST):
            for group in QUEUES:
                self.come(group)
                self.retry(group)
            self.publish(crashes=False)
            for group in QUEUES:
                self.deliver(group, copies=False, count=1000)
            self.publish(crashes=False)
            self.see(copies=False, count=1000)
            missing = Acknowledgement.objects.filter(state=Acknowledged.MISSING)
            numbers = list(missing.values_list("pk", flat=True))
            OF_ACKNOWLEDGEMENTS["resend"].perform(numbers, by="model", using="default")
            self.time_passes()
            self.look(crashes=False, silent=False)
        wanted = {Copy(group, name) for group in QUEUES for name in self.sent}
        assert set(groups.handled) == wanted
        assert self.seen == wanted
        self.what_was_seen_is_noted()

    def _take(self, group: str, count: int, *, copies: bool) -> list[Envelope]:
        """Take the first of a queue; with `copies` they stay there as well."""
        queue = self.broker.queues[group]
        found = queue[:count]
        if not copies:
            del queue[:count]
        return found


def due() -> list[Acknowledgement]:
    """Return the rows whose time is over; it is an hour behind where it was let pass."""
    return [
        row
        for row in Acknowledgement.objects.filter(due_at__isnull=False)
        if row.due_at is not None and row.due_at < row.sent_at
    ]
