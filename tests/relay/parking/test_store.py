"""Parked messages: out of the flow, tried again in the order of their key, settled."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.models import Message
from outbox.runtime.backoff import Backoff
from relay.brokers.base import Status
from relay.judgement import Patience
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.parking.people import discard, requeue, restore
from relay.parking.store import Parking
from relay.states import OPEN, TRANSITIONS, ParkedState, Verb
from relay.transfer import Transferred, transfer
from tests.kit.support import Counted, RecordingBroker

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.usefixtures("one_lane"),
    pytest.mark.django_db(transaction=True),
]


@dataclass
class Line:
    """A relay on one lane, moved step by step."""

    broker: RecordingBroker = field(default_factory=RecordingBroker)
    attempts: int = 5
    hold_keys: bool = True
    name: str = "test"

    def __post_init__(self) -> None:
        self.log = open_log(self.name, using="default")
        patience = Patience(self.attempts, Backoff(base=3600.0, cap=3600.0))
        self.parking = Parking(self.log, patience, self.hold_keys)
        self.broker.hold_keys = self.hold_keys

    def step(self, size: int = 100, *, fresh_first: bool = False) -> Transferred:
        result = transfer(self.log, self.broker, 0, size, self.parking, fresh_first=fresh_first)
        assert result is not None
        return result

    def drain(self) -> None:
        while self.log.lanes_with_work(1):
            self.step()


@pytest.fixture
def line() -> Line:
    return Line()


def commit(*numbers: int, key: str = "a") -> list[outbox.Envelope]:
    with transaction.atomic():
        return outbox.emit_many([Counted(key, number) for number in numbers])


def park(line: Line, *numbers: int, key: str = "a") -> list[outbox.Envelope]:
    """Commit messages of a key and let the broker refuse the first."""
    emitted = commit(*numbers, key=key)
    line.broker.refuse[emitted[0].id] = Status.UNROUTABLE
    line.drain()
    return emitted


def make_due() -> None:
    Parked.objects.filter(state=ParkedState.PARKED).update(
        next_attempt_at=Now() - timedelta(seconds=1)
    )


def by_state() -> dict[str, list[int]]:
    """Return the numbers of parked messages by state, in the order of the log."""
    numbers = {
        row.position: int(bytes(row.data).split(b":")[-1].rstrip(b"}"))
        for row in Message.objects.all()
    }
    found: dict[str, list[int]] = {}
    for row in Parked.objects.order_by("position"):
        found.setdefault(row.state, []).append(numbers.get(row.position, 0))
    return found


def test_a_refused_message_leaves_the_flow_with_its_reason(line: Line) -> None:
    """Reason, error, attempts and next attempt are kept; its key waits, in order; others pass."""
    [first, *_] = commit(1, 2)
    commit(3, key="b")
    line.broker.refuse[first.id] = Status.UNROUTABLE
    result = line.step()

    assert (result.published, result.parked) == (1, 2)
    assert first.id in result.refusal
    assert line.broker.numbers() == [3]
    assert by_state() == {"parked": [1], "waiting": [2]}
    head = Parked.objects.get(state="parked")
    assert (head.reason, head.error, head.attempts) == ("unroutable", "refused by the test", 1)
    assert head.next_attempt_at is not None
    assert str(head.message_id) == first.id
    assert Checkpoint.objects.get().complete


def test_later_pages_hold_the_key_as_well(line: Line) -> None:
    """What is emitted after the refusal joins the queue of its key; a key of none is not held."""
    park(line, 1)
    commit(2, 3)
    commit(4, key="b")
    line.drain()

    assert line.broker.numbers() == [4]
    assert by_state() == {"parked": [1], "waiting": [2, 3]}


def test_a_message_that_is_due_is_tried_again_with_its_key(line: Line) -> None:
    """Accepted at last: it and all that waited are published in order, and then the key flows."""
    park(line, 1, 2, 3)
    line.broker.refuse.clear()
    make_due()
    line.drain()
    commit(4)
    line.drain()

    assert line.broker.numbers() == [1, 2, 3, 4]
    assert by_state() == {"published": [1, 2, 3]}
    settled = Parked.objects.latest("position")
    assert settled.settled_at is not None
    assert settled.settled_by


def test_what_is_not_due_is_left_alone(line: Line) -> None:
    """Nothing is sent, and the lane has no work, until the pause is over."""
    park(line, 1)

    assert line.log.lanes_with_work(1) == []
    make_due()
    assert line.log.lanes_with_work(1) == [0]


def test_refused_again_it_waits_longer(line: Line) -> None:
    """Attempts count up; what is behind it goes on waiting."""
    park(line, 1, 2)
    make_due()
    line.step()

    assert by_state() == {"parked": [1], "waiting": [2]}
    assert Parked.objects.get(state="parked").attempts == 2
    assert line.log.lanes_with_work(1) == []


def test_a_key_longer_than_a_page_is_finished_page_by_page(line: Line) -> None:
    """After a page of the key the next of it is due at once."""
    park(line, *range(7))
    line.broker.refuse.clear()
    make_due()
    for _ in range(4):
        line.step(2)

    assert line.broker.numbers() == list(range(7))
    assert set(by_state()) == {"published"}


def test_the_second_of_a_key_may_be_refused_too(line: Line) -> None:
    """The first one passes, the second is parked in its place with attempts of its own."""
    [_, second, _] = park(line, 1, 2, 3)
    line.broker.refuse = {second.id: Status.NACKED}
    make_due()
    line.step()

    assert line.broker.numbers() == [1]
    assert by_state() == {"published": [1], "parked": [2], "waiting": [3]}
    assert Parked.objects.get(state="parked").attempts == 1


def test_after_so_many_refusals_it_is_dead(line: Line) -> None:
    """Nobody tries a dead message again; its key goes on waiting."""
    line.parking = Parking(line.log, Patience(2, Backoff(base=1, cap=1)))
    park(line, 1, 2)
    make_due()
    line.step()

    assert by_state() == {"dead": [1], "waiting": [2]}
    make_due()
    assert line.log.lanes_with_work(1) == []


def test_an_outage_spends_no_attempt(line: Line) -> None:
    """The broker away while a parked message is tried: everything stays as it was."""
    park(line, 1, 2)
    before = list(Parked.objects.order_by("position").values_list("state", "attempts"))
    make_due()
    line.broker.away = "gone"
    result = line.step()

    assert result.outage == "gone"
    assert list(Parked.objects.order_by("position").values_list("state", "attempts")) == before


def test_a_link_that_breaks_off_keeps_what_was_confirmed(line: Line) -> None:
    """Of a page of parked messages the confirmed are settled, the rest is tried again."""
    park(line, 1, 2, 3)
    line.broker.refuse.clear()
    line.broker.breaks_after = 1
    make_due()
    line.step()
    assert by_state() == {"published": [1], "parked": [2], "waiting": [3]}
    line.broker.breaks_after = None
    line.drain()

    assert line.broker.numbers() == [1, 2, 3]


def test_messages_without_a_key_are_parked_alone(line: Line, registered) -> None:  # type: ignore[no-untyped-def]
    """A message without a key holds nobody, not even others without one."""
    registered("tests.keyless")
    with transaction.atomic():
        [first, _] = outbox.emit_many(
            [outbox.Draft(event="tests.keyless", payload={"number": n}) for n in (1, 2)]
        )
    line.broker.refuse[first.id] = Status.UNROUTABLE
    line.drain()

    assert line.broker.numbers() == [2]
    assert by_state() == {"parked": [1]}


def test_without_holding_keys_later_messages_pass(line: Line) -> None:
    """HOLD_KEYS off: only the refused message is parked, and each is tried by itself."""
    line = Line(hold_keys=False)
    park(line, 1, 2)
    commit(3)
    line.drain()

    assert line.broker.numbers() == [2, 3]
    assert by_state() == {"parked": [1]}


def test_fresh_pages_are_not_starved_by_retries(line: Line) -> None:
    """Every second page of a turn is a fresh one, if there is any."""
    park(line, 1)
    commit(2, key="b")
    make_due()
    line.step(fresh_first=True)

    assert line.broker.numbers() == [2]


def test_when_one_passes_its_topic_is_tried_at_once(line: Line) -> None:
    """A queue was missing for many keys: the first that gets through calls the others."""
    for key in "abc":
        park(line, 1, key=key)
    line.broker.refuse.clear()
    first = Parked.objects.filter(key="a")
    first.update(next_attempt_at=Now() - timedelta(seconds=1))
    line.drain()

    assert len(line.broker.published) == 3


def test_a_queue_that_was_full_is_not_stormed(line: Line) -> None:
    """After nacks the first that gets through calls nobody: there may be room for one only."""
    for key in "abc":
        [message] = commit(1, key=key)
        line.broker.refuse[message.id] = Status.NACKED
    line.drain()
    line.broker.refuse.clear()
    Parked.objects.filter(key="a").update(next_attempt_at=Now() - timedelta(seconds=1))
    line.drain()

    assert len(line.broker.published) == 1


def test_nacked_retries_hold_up_nobody(line: Line, registered) -> None:  # type: ignore[no-untyped-def]
    """Refused over and over, whatever their topics: settled as refused, and fresh pages go on."""
    registered("tests.other", key="key")
    park(line, 1, key="a")
    with transaction.atomic():
        other = outbox.emit("tests.other", {"key": "b", "number": 1})
    line.broker.refuse[other.id] = Status.NACKED
    line.drain()
    line.broker.refuse = dict.fromkeys(line.broker.refuse, Status.NACKED)
    commit(2, key="c")
    make_due()
    result = line.step()
    line.drain()

    assert (result.outage, result.nacked) == ("", "")
    assert line.broker.numbers() == [2]
    assert set(Parked.objects.values_list("attempts", flat=True)) == {2}


def test_keys_that_were_not_held_are_put_in_order_again(line: Line) -> None:
    """HOLD_KEYS switched on: the later of two parked messages waits for the earlier one."""
    loose = Line(hold_keys=False)
    emitted = commit(1, 2)
    loose.broker.refuse = {each.id: Status.UNROUTABLE for each in emitted}
    loose.drain()
    [first, second] = Parked.objects.order_by("position")
    Parked.objects.filter(pk=second.pk).update(next_attempt_at=Now() - timedelta(seconds=1))
    line.step()
    assert line.broker.numbers() == []
    assert by_state() == {"parked": [1], "waiting": [2]}
    Parked.objects.filter(pk=first.pk).update(next_attempt_at=Now() - timedelta(seconds=1))
    line.drain()

    assert line.broker.numbers() == [1, 2]


def test_what_waits_in_vain_can_be_requeued(line: Line) -> None:
    """A row that waits for nothing, however that came about, is not out of reach."""
    park(line, 1, 2)
    line.broker.refuse.clear()
    Parked.objects.filter(state="parked").delete()
    requeue(Parked.objects.filter(key="a"))
    line.drain()

    assert line.broker.numbers() == [2]


def test_requeue_tries_a_dead_message_again(line: Line) -> None:
    """With attempts counted from zero, at once, and in order."""
    line.parking = Parking(line.log, Patience(1))
    park(line, 1, 2)
    line.broker.refuse.clear()
    assert by_state() == {"dead": [1], "waiting": [2]}

    assert len(requeue(Parked.objects.all())) == 1
    line.drain()
    assert line.broker.numbers() == [1, 2]


def test_discard_lets_the_key_go_on(line: Line) -> None:
    """The first of a key is given up: what waited behind it is published, in order."""
    line.parking = Parking(line.log, Patience(1))
    park(line, 1, 2, 3)
    assert len(discard(Parked.objects.filter(state="dead"), by="somebody")) == 1
    line.drain()

    assert line.broker.numbers() == [2, 3]
    assert by_state() == {"discarded": [1], "published": [2, 3]}
    assert Parked.objects.get(state="discarded").settled_by == "somebody"


def test_discarding_in_the_middle_changes_nothing_else(line: Line) -> None:
    """The first of the key keeps its turn and its attempts."""
    park(line, 1, 2, 3)
    [_, second, _] = Parked.objects.order_by("position")
    discard(Parked.objects.filter(pk=second.pk), by="somebody")

    assert by_state() == {"parked": [1], "discarded": [2], "waiting": [3]}
    line.broker.refuse.clear()
    make_due()
    line.drain()
    assert line.broker.numbers() == [1, 3]


def test_settled_messages_cannot_be_requeued_or_discarded(line: Line) -> None:
    """Published and discarded are final."""
    park(line, 1)
    discard(Parked.objects.all(), by="somebody")

    assert requeue(Parked.objects.all()) == []
    assert discard(Parked.objects.all(), by="another") == []


def test_a_message_that_is_gone_from_the_log_is_given_up(line: Line) -> None:
    """Deleted by hand: said so, and what waited behind it goes on."""
    park(line, 1, 2)
    line.broker.refuse.clear()
    Message.objects.order_by("position").first().delete()  # type: ignore[union-attr]
    make_due()
    line.drain()

    assert line.broker.numbers() == [2]
    assert "no longer in the log" in Parked.objects.get(state="discarded").error


def test_a_page_of_retries_is_bounded_by_bytes(line: Line) -> None:
    """Large messages are tried again a few at a time, and none is taken for deleted."""
    park(line, *range(6))
    line.broker.refuse.clear()
    line.log.page_bytes = 60  # two of them
    make_due()
    published = []
    for _ in range(3):
        line.step()
        published.append(len(line.broker.published))

    assert published == [2, 4, 6]
    assert line.broker.numbers() == list(range(6))
    assert set(by_state()) == {"published"}


def test_each_relay_parks_for_itself() -> None:
    """What one relay's broker refuses, another relay publishes."""
    one, other = Line(), Line(name="other")
    park(one, 1, 2)
    other.drain()

    assert other.broker.numbers() == [1, 2]
    assert one.broker.numbers() == []


@pytest.mark.usefixtures("on_disk_at_once")
def test_a_fixed_number_of_statements(line: Line) -> None:
    """Parking, holding and retrying cost the same however many messages of a page it is."""

    def counted(size: int) -> tuple[int, int, int]:
        numbers = []
        key = f"k{size}"
        [first, *_] = commit(*range(size), key=key)
        line.broker.refuse[first.id] = Status.UNROUTABLE
        for prepare in (lambda: None, lambda: commit(*range(size), key=key), make_due):
            prepare()
            with CaptureQueriesContext(connection) as captured:
                line.step()
            numbers.append(len(captured))
        discard(Parked.objects.all(), by="test")
        return numbers[0], numbers[1], numbers[2]

    line.drain()
    counted(2)  # from here on the relay has seen everything once
    assert counted(3) == counted(30)


def test_the_table_of_transitions_is_complete() -> None:
    """Every state can be reached and left, but what is published; what is given up by people."""
    sources = {state for transition in TRANSITIONS.values() for state in transition.sources}
    targets = {transition.target for transition in TRANSITIONS.values()}

    assert set(TRANSITIONS) == set(Verb)
    assert sources == {*OPEN, ParkedState.DISCARDED}
    assert TRANSITIONS[Verb.RESTORE] == ((ParkedState.DISCARDED,), ParkedState.DEAD)
    assert targets | {ParkedState.WAITING} == set(ParkedState)


def test_what_is_restored_holds_its_key_until_it_is_requeued(line: Line) -> None:
    """It is dead again, nothing is sent by itself, and later ones of its key wait behind it."""
    [first, second] = commit(1, 2)
    line.broker.refuse[first.id] = Status.UNROUTABLE
    line.drain()
    [row, _] = Parked.objects.order_by("position")
    discard(Parked.objects.filter(pk=row.pk), by="somebody")

    assert restore(Parked.objects.all()) == [row.pk]

    row.refresh_from_db()
    assert (row.state, row.settled_at, row.settled_by) == ("dead", None, "")
    line.broker.refuse.clear()
    make_due()
    line.drain()
    [third] = commit(3)
    line.drain()
    assert line.broker.published == []
    requeue(Parked.objects.all())
    line.drain()
    line.step()
    line.step()
    assert [each.id for each in line.broker.published] == [first.id, second.id, third.id]


def test_what_the_log_has_not_kept_cannot_be_restored(line: Line) -> None:
    """It could never be sent."""
    [message] = commit(1)
    line.broker.refuse[message.id] = Status.UNROUTABLE
    line.drain()
    discard(Parked.objects.all(), by="somebody")
    Message.objects.all().delete()

    assert restore(Parked.objects.all()) == []
    assert Parked.objects.get().state == "discarded"


def test_a_stranger_page_size_keeps_every_key_in_order(line: Line) -> None:
    """Several keys parked at once, retried in pages of one: each key in its own order."""
    emitted = {key: commit(1, 2, 3, key=key) for key in "abc"}
    for messages in emitted.values():
        line.broker.refuse[messages[0].id] = Status.UNROUTABLE
    line.drain()
    line.broker.refuse.clear()
    make_due()
    for _ in range(20):
        line.step(1)

    for messages in emitted.values():
        ids = [each.id for each in line.broker.published if each.key == messages[0].key]
        assert ids == [each.id for each in messages]
