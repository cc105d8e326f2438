"""Turns at what is not acknowledged in time: what is sent to which queue, and what is noted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from inbox.handlers.registry import handlers
from inbox.replies import taking
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.models import Acknowledgement, Message, Scheduled, StoredEnvelope
from outbox.producer.scheduling import cancel
from outbox.signals import unacknowledged
from outbox.states import Acknowledged
from relay.brokers.base import CONFIRMED, Depth, Outcome, Status
from relay.brokers.local import LocalBroker
from relay.exceptions import BrokerFailed
from relay.log import open_log
from relay.models import Parked
from relay.resending import turns
from relay.resending.turns import Resending, resender
from relay.states import ParkedState
from relay.transfer import transfer
from tests.inbox.support import Handling, receive
from tests.kit.support import RecordingBroker, none_acknowledged
from tests.outbox.helpers import statements

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}
CONSUMED = Depth(ready=0, consumers=1)


@dataclass(frozen=True, slots=True)
class Parcel:
    number: int


class QueueBroker(RecordingBroker):
    """Keeps what it is given for a queue, too."""

    addresses_queues = True

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str]] = []
        self.depths: dict[str, Depth | None] = {}
        self.outcome = CONFIRMED
        self.asked = 0

    def publish_to(self, queue: str, page: Sequence[Envelope]) -> list[Outcome]:
        self.sent += [(queue, each.id) for each in page]
        return [self.outcome for _ in page]

    def depth_of(self, queue: str) -> Depth | None:
        self.asked += 1
        if self.away:
            raise OSError(self.away)
        return self.depths.get(queue, CONSUMED)


@dataclass
class Scene:
    """Parcels that two groups are to acknowledge, and a relay with a broker in memory."""

    broker: QueueBroker = field(default_factory=QueueBroker)

    def __post_init__(self) -> None:
        self.resending = Resending("default", "mine", self.broker)

    def send(self, count: int = 1, *, publish: bool = True, **options: Any) -> list[Envelope]:
        with transaction.atomic():
            sent = [outbox.emit(Parcel(number), **options) for number in range(count)]
        if publish:
            self.publish()
        return sent

    def publish(self) -> None:
        log = open_log("mine", using="default", start="beginning")
        while log.lanes_with_work(1):
            transfer(log, self.broker, 0, 100)

    def turn(self) -> list[tuple[str, str]]:
        """Take a turn; return what was sent in it."""
        before = len(self.broker.sent)
        self.resending._look_at = 0.0
        self.resending.turn()
        return self.broker.sent[before:]


@pytest.fixture
def scene() -> Iterator[Scene]:
    added = outbox.event(
        "post.parcel",
        acknowledge=outbox.Acknowledge(
            groups=["billing", "shipping"],
            within=timedelta(minutes=5),
            resends=2,
            queues={"shipping": "eu-shipping"},
        ),
    )(Parcel)
    relays = {"mine": LOCAL, "other": LOCAL}
    settings = {"OUTBOX": {"LANES": 1}, "INBOX": {"GROUP": "sender"}, "RELAYS": relays}
    with override_settings(**settings):
        taking.install()
        yield Scene()
    handlers.remove(taking.NAME)
    registry.remove(registry.of_class(added))


def pass_time(**about: Any) -> None:
    """Let the time of what is awaited be over."""
    rows = Acknowledgement.objects.filter(due_at__isnull=False, **about)
    for row in rows:
        assert row.due_at is not None
        Acknowledgement.objects.filter(pk=row.pk).update(due_at=row.due_at - timedelta(hours=1))


def of(message: Envelope) -> dict[str, tuple[str, int, str]]:
    return {
        each.group: (each.state, each.resends, each.hold)
        for each in outbox.acknowledgements(message.id)
    }


def settle(message: Envelope, group: str, state: Acknowledged = Acknowledged.HANDLED) -> None:
    Acknowledgement.objects.filter(message_id=message.id, group=group).update(
        state=state, due_at=None
    )


def test_what_is_due_is_sent_to_the_queue_of_the_group_alone(scene: Scene) -> None:
    """With the same id, and not before its time; not to a group that has acknowledged it."""
    one, two = scene.send(2)
    settle(one, "shipping")
    assert scene.turn() == []
    pass_time()
    assert sorted(scene.turn()) == sorted(
        [("billing", one.id), ("billing", two.id), ("eu-shipping", two.id)]
    )
    assert of(one) == {"billing": ("awaited", 1, ""), "shipping": ("handled", 0, "")}
    assert scene.turn() == []


def test_after_the_last_resend_it_is_missing(scene: Scene) -> None:
    """Which a signal tells, once for each group and type; what is told late still counts."""
    told: list[dict[str, Any]] = []

    def listen(**values: Any) -> None:
        told.append(values)

    one, two = scene.send(2)
    for message in (one, two):
        settle(message, "shipping")
    unacknowledged.connect(listen)
    try:
        for _ in range(2):
            pass_time()
            assert len(scene.turn()) == 2
            assert told == []
        pass_time()
        assert scene.turn() == []
    finally:
        unacknowledged.disconnect(listen)
    assert of(one)["billing"] == ("missing", 2, "")
    [values] = told
    assert (values["group"], values["type"]) == ("billing", "post.parcel")
    assert sorted(values["message_ids"]) == sorted([one.id, two.id])
    pass_time()
    assert scene.turn() == []


@pytest.mark.parametrize(
    ("depth", "hold"),
    [
        (Depth(exists=False), "no_queue"),
        (Depth(ready=0, consumers=0), "no_consumer"),
        (Depth(ready=3, consumers=1), "backlog"),
    ],
)
def test_a_backlog_is_said_and_nothing_is_sent(scene: Scene, depth: Depth, hold: str) -> None:
    """However long; when it is over, what is left is sent, with all its resends."""
    [message] = scene.send()
    settle(message, "shipping")
    scene.broker.depths["billing"] = depth
    for _ in range(4):
        pass_time()
        assert scene.turn() == []
        assert of(message)["billing"] == ("awaited", 0, hold)
    scene.broker.depths["billing"] = CONSUMED
    pass_time()
    assert scene.turn() == [("billing", message.id)]
    assert of(message)["billing"] == ("awaited", 1, "")


def test_a_backlog_that_shrinks_holds_nothing_back(scene: Scene) -> None:
    [message] = scene.send()
    settle(message, "shipping")
    sent = []
    for ready in (9, 9, 5):
        scene.broker.depths["billing"] = Depth(ready=ready, consumers=1)
        pass_time()
        sent.append(len(scene.turn()))
    assert sent == [0, 0, 1]


def test_what_is_not_published_is_not_sent_again(scene: Scene) -> None:
    """Neither a message that the relay has yet to publish nor one that is scheduled."""
    [message] = scene.send(publish=False)
    [later] = scene.send(publish=False, delay=timedelta(hours=1))
    pass_time()
    Acknowledgement.objects.filter(message_id=later.id).update(
        due_at=Acknowledgement.objects.filter(message_id=message.id).first().due_at  # type: ignore[union-attr]
    )
    assert scene.turn() == []
    assert of(message)["billing"] == of(later)["billing"] == ("awaited", 0, "unpublished")
    assert scene.broker.asked == 0
    scene.publish()
    pass_time()
    assert sorted(scene.turn()) == sorted([("billing", message.id), ("eu-shipping", message.id)])


def test_what_is_gone_is_given_up(scene: Scene) -> None:
    """A message that was taken back, or deleted by retention."""
    [message] = scene.send(publish=False, delay=timedelta(minutes=1))
    cancel(message.id)
    pass_time()
    assert scene.turn() == []
    assert of(message)["billing"] == ("given_up", 0, "gone")


def test_what_is_delivered_while_a_turn_looks_for_it_is_not_gone(scene: Scene) -> None:
    """It is in the log when what is scheduled is looked through, and was not before."""
    [message] = scene.send(publish=False, delay=timedelta(minutes=1))
    pass_time()
    looked: list[str] = []

    def deliver(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found = execute(sql, params, many, context)
        if not looked and 'FROM "django_outbox_message"' in sql:
            looked.append(sql)
            row = Scheduled.objects.get()
            fields = [each.attname for each in StoredEnvelope._meta.fields]
            Message(lane=0, **{name: getattr(row, name) for name in fields}).save()
            row.delete()
        return found

    with connection.execute_wrapper(deliver):
        assert scene.turn() == []
    assert looked
    assert of(message)["billing"] == ("awaited", 0, "unpublished")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (ParkedState.DEAD, ("awaited", 0, "unpublished")),
        (ParkedState.DISCARDED, ("given_up", 0, "gone")),
    ],
)
def test_what_a_person_has_discarded_is_given_up(
    scene: Scene, state: ParkedState, expected: tuple[str, int, str]
) -> None:
    """It is never published; what is dead may be, as a person decides."""
    [sent] = scene.send()
    row = Message.objects.get()
    Parked.objects.create(
        relay="mine",
        lane=row.lane,
        position=row.position,
        message_id=row.message_id,
        type=row.type,
        topic=row.topic,
        state=state,
        reason="refused",
        attempts=1,
        parked_at=row.time,
    )
    pass_time()

    assert scene.turn() == []
    assert of(sent) == {"billing": expected, "shipping": expected}


def test_what_was_there_before_the_relay_began_is_sent_again(scene: Scene) -> None:
    """Another one has published it."""
    [sent] = scene.send(publish=False)
    log = open_log("mine", using="default", start="now")
    while log.lanes_with_work(1):
        transfer(log, scene.broker, 0, 100)
    log.flush()
    pass_time()

    assert scene.turn() == [("billing", sent.id), ("eu-shipping", sent.id)]


def test_a_queue_that_vanishes_meanwhile_costs_no_resend(scene: Scene) -> None:
    [message] = scene.send()
    scene.broker.outcome = Outcome(Status.UNROUTABLE, "no queue")
    pass_time()
    assert len(scene.turn()) == 2
    assert of(message)["billing"] == ("awaited", 0, "no_queue")


@pytest.mark.parametrize(
    ("status", "hold"),
    [(Status.REFUSED, "refused"), (Status.NACKED, "refused"), (Status.UNSENT, "")],
)
def test_what_the_broker_does_not_take_costs_no_resend(
    scene: Scene, status: Status, hold: str
) -> None:
    [message] = scene.send()
    scene.broker.outcome = Outcome(status, "no")
    pass_time()
    assert len(scene.turn()) == 2
    assert of(message)["billing"] == ("awaited", 0, hold)
    assert scene.turn() == []  # not at once again


def test_a_broker_that_is_away_changes_nothing(scene: Scene) -> None:
    """The relay learns of it; an unknown fate is tried again a moment later, as it may be lost."""
    [message] = scene.send()
    pass_time()
    scene.broker.away = "away"
    with pytest.raises(BrokerFailed, match="away"):
        scene.turn()
    assert of(message)["billing"] == ("awaited", 0, "")
    scene.broker.away = ""
    scene.broker.outcome = Outcome(Status.UNKNOWN, "broke off")
    assert len(scene.turn()) == 2
    assert scene.resending.outage == "broke off"
    assert of(message)["billing"] == ("awaited", 0, "")
    scene.broker.outcome = CONFIRMED
    assert scene.turn() == []
    pass_time()
    assert len(scene.turn()) == 2
    assert scene.resending.outage == ""


def test_statements_of_a_turn(scene: Scene) -> None:
    """As many for a hundred messages as for one; one if nothing is due; none if nobody asks."""
    scene.send(1)
    pass_time()
    with CaptureQueriesContext(connection) as one:
        scene.turn()
    scene.send(100)
    pass_time()
    Acknowledgement.objects.update(resends=1)
    with CaptureQueriesContext(connection) as many:
        assert len(scene.turn()) == 202
    assert len(statements(many)) == len(statements(one))
    with CaptureQueriesContext(connection) as none:
        scene.turn()
    assert len(none) == 1
    with none_acknowledged(), CaptureQueriesContext(connection) as none:
        scene.turn()
    assert len(none) == 0


def test_more_than_a_turn_takes_is_done_in_several(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "AT_ONCE", 4)
    scene.send(5)
    pass_time()
    sent = []
    while moved := scene.resending.turn():
        sent.append(moved)
    assert sent == [4, 4, 2]


def test_one_relay_does_it(scene: Scene) -> None:
    """The first that can address a queue, however many read the log."""
    assert resender() == "mine"
    scene.send()
    pass_time()
    other = Resending("default", "other", scene.broker)
    assert other.turn() == 0
    kombu = {"BACKEND": "relay.brokers.kombu.KombuBroker", "URL": "memory://"}
    broken = {"BACKEND": "no.such.Broker"}
    tasks = LOCAL | {"MESSAGES": "tasks"}
    with override_settings(RELAYS={"a": kombu, "b": broken, "c": tasks, "other": LOCAL}):
        assert resender() == "other"
        assert other.active
        assert not scene.resending.active
    with override_settings(RELAYS={"a": kombu}):
        assert resender() is None


def test_on_the_local_broker_it_is_handed_to_the_group_again(
    scene: Scene, handling: Handling
) -> None:
    """Which acknowledges it again, and does not handle it again."""
    calls: list[str] = []
    for group in ("billing", "eu-shipping"):
        handling(
            lambda event, message, group=group: calls.append(group),
            pattern="post.parcel",
            name=group,
            declared_group=group,
        )
    broker = LocalBroker.from_settings("", {}, using="default")
    [message] = scene.send()
    receive(message, group="billing")
    assert calls == ["billing"]
    Message.objects.filter(type="outbox.acknowledgement").delete()  # it gets lost
    pass_time(group="billing")
    resending = Resending("default", "mine", broker)
    assert resending.turn() == 1
    assert calls == ["billing"]
    assert Message.objects.filter(type="outbox.acknowledgement").count() == 1
    handlers.remove("eu-shipping")
    pass_time()
    resending._look_at = 0.0
    resending.turn()
    assert of(message)["shipping"] == ("awaited", 0, "no_queue")


def test_a_receiver_of_another_kind_knows_no_groups(scene: Scene) -> None:
    options = {"RECEIVER": "inbox.sources.local.receive"}
    broker = LocalBroker.from_settings("", options, using="default")
    assert not broker.addresses_queues
    assert not Resending("default", "mine", broker).active
