"""The state of a message, and the checkpoint that published it, against what a broker got."""

import random
import re
from collections.abc import Callable, Collection, Iterator

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.models import Message
from relay.log import open_log
from relay.log.base import Start
from relay.models import Checkpoint
from relay.reports.publications import Publication, publications
from relay.reports.state import (
    State,
    cursors,
    few_pending,
    is_pending,
    published,
    relay_names,
    states,
)
from relay.transfer import transfer
from tests.kit.sessions import Session, sessions
from tests.kit.support import Counted, RecordingBroker
from tests.relay.log.moving import move_from_higher, move_from_lower, move_to_clone

LANES = 2
MANY = 10_000


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    relays = {"mine": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    with override_settings(OUTBOX={"LANES": LANES}, RELAYS=relays):
        yield


class Reading:
    """A relay that publishes into memory, and remembers with which checkpoint it did."""

    def __init__(self, name: str = "mine", start: Start = "beginning") -> None:
        self.name = name
        self.log = open_log(name, using="default", start=start)
        self.published: dict[str, int] = {}

    def page(self, lane: int, size: int) -> None:
        broker = RecordingBroker()
        transfer(self.log, broker, lane, size)
        if broker.published:
            newest = Checkpoint.objects.filter(relay=self.name, lane=lane).latest("previous")
            self.published |= {each.id: newest.pk for each in broker.published}

    def all(self) -> None:
        while lanes := self.log.lanes_with_work(LANES):
            for lane in lanes:
                self.page(lane, 100)


def emit(count: int, key: str = "a") -> None:
    outbox.emit_many([Counted(key, number) for number in range(count)])


def commit(count: int, key: str = "a") -> None:
    with transaction.atomic():
        emit(count, key)


def states_of(*relays: str) -> list[tuple[State, ...]]:
    """Return the states of all messages for some relays, in the order of emission."""
    positions = list(Message.objects.order_by("pk").values_list("pk", flat=True))
    found = states(positions, relays, "default")
    return [tuple(found[position][relay] for relay in relays) for position in positions]


def agree(reading: Reading, left_behind: Collection[int] = ()) -> None:
    """Assert that every way to ask for states agrees with what was really published."""
    everything = Message.objects.exclude(pk__in=left_behind)
    assert {
        state
        for pk in left_behind
        for state in states([pk], [reading.name], "default")[pk].values()
    } <= {State.SKIPPED}
    ids = {message.pk: str(message.message_id) for message in everything}
    truth = {pk for pk, message_id in ids.items() if message_id in reading.published}
    found = [cursor for cursor in cursors("default") if cursor.relay == reading.name]

    derived = states(list(ids), [reading.name], "default")
    assert {pk for pk in ids if derived[pk][reading.name] == State.PUBLISHED} == truth
    assert {pk for pk in ids if derived[pk][reading.name] == State.PENDING} == ids.keys() - truth
    assert {each.pk for each in published(everything, reading.name, found)} == truth
    assert {each.pk for each in everything.filter(is_pending(reading.name))} == ids.keys() - truth
    assert set(few_pending(everything, found, MANY) or ()) == ids.keys() - truth
    for message in everything:
        [publication] = publications(message, [reading.name])
        checkpoint = publication.checkpoint.pk if publication.checkpoint else None
        assert checkpoint == reading.published.get(str(message.message_id))


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_states_follow_the_pages() -> None:
    """After every page exactly what the broker has got is published, by that page's checkpoint."""
    commit(5, "a")
    commit(4, "b")
    reading = Reading()
    agree(reading)
    for _ in range(5):
        for lane in range(LANES):
            reading.page(lane, 2)
            agree(reading)
    commit(3, "a")
    agree(reading)

    assert len(reading.published) == 9


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("start", ["beginning", "now"])
@pytest.mark.parametrize("seed", range(6))
def test_states_under_open_transactions(seed: int, start: Start) -> None:
    """Whatever is open, late, rolled back or half read: states are what the broker has got."""
    chance = random.Random(seed)
    reading = Reading(start=start)
    behind: list[int] = []
    with sessions(4) as opened:
        busy: set[Session] = set()
        for step in range(60):
            if start == "now" and step == 15:
                behind += Message.objects.values_list("pk", flat=True)
                reading.all()
            session = chance.choice(opened)
            if session not in busy:
                session.begin()
                busy.add(session)
            elif chance.random() < 0.4:
                session.run(emit, chance.randint(1, 6), chance.choice("abcdef"))
            else:
                (session.rollback if chance.random() < 0.2 else session.commit)()
                busy.discard(session)
            for _ in range(chance.randint(0, 2) if start == "beginning" or step >= 15 else 0):
                reading.page(chance.randrange(LANES), chance.choice([1, 3, 100]))
            if step % 5 == 0 and (start == "beginning" or step >= 15):
                agree(reading, behind)
        for session in busy:
            session.commit()
        agree(reading, behind)
        reading.all()
        agree(reading, behind)

    assert few_pending(Message.objects.all(), cursors("default"), MANY) == []
    assert len(reading.published) == Message.objects.count() - len(behind) > 0


@pytest.mark.django_db(transaction=True)
def test_a_late_transaction_moves_the_cursor_back() -> None:
    """Above the position of the cursor there can be published messages, of windows before."""
    reading = Reading()
    with sessions(1) as [slow]:
        slow.begin()
        slow.run(emit, 1)
        commit(1)
        reading.all()
        slow.commit()
        reading.all()
        agree(reading)

    [cursor] = cursors("default")
    assert cursor.position == Message.objects.earliest("pk").pk


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_each_relay_has_states_of_its_own() -> None:
    """One relay publishes, another has not begun: the message is published and pending."""
    commit(1)
    Reading("mine").all()

    assert states_of("mine", "other") == [(State.PUBLISHED, State.PENDING)]


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_what_was_there_before_a_relay_started_is_skipped() -> None:
    """A relay with START = "now" never publishes older messages; nobody shall think it did."""
    commit(2)
    reading = Reading(start="now")
    reading.all()
    commit(1)
    reading.all()

    assert len(reading.published) == 1
    assert [state for (state,) in states_of("mine")] == [
        State.SKIPPED,
        State.SKIPPED,
        State.PUBLISHED,
    ]
    oldest, newest = Message.objects.earliest("pk"), Message.objects.latest("pk")
    assert publications(oldest, ["mine"]) == [Publication("mine", State.SKIPPED)]
    assert [each.state for each in publications(newest, ["mine"])] == [State.PUBLISHED]
    assert list(published(Message.objects.all(), "mine", cursors("default"))) == [newest]


@pytest.mark.django_db(transaction=True)
def test_the_published_are_found_without_walking_what_was_there_before() -> None:
    """A relay that started from "now": its list ends with what was in flight at the start."""
    commit(500)
    with sessions(1) as [slow]:
        slow.begin()
        slow.run(emit, 1)
        commit(10)
        reading = Reading(start="now")
        reading.all()
        commit(3)
        reading.all()
        slow.commit()
        reading.all()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    found = published(Message.objects.order_by("-pk"), "mine", cursors("default"))
    assert len(found) == 4
    plan = found.explain(analyze=True)
    # Of what was there before, only what stands above the one that was open.
    assert sum(map(int, re.findall(r"Rows Removed by Filter: (\d+)", plan))) < 20


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_a_page_whose_checkpoint_is_gone() -> None:
    """Retention may delete old checkpoints: the message stays published, by nobody knows whom."""
    commit(1)
    reading = Reading()
    reading.all()
    commit(1)
    reading.all()
    first, second = Message.objects.order_by("pk")
    Checkpoint.objects.filter(pk=reading.published[str(first.message_id)]).delete()

    assert publications(first, []) == [Publication("mine", State.PUBLISHED)]
    assert publications(second, [])[0].checkpoint is not None


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_the_checkpoint_is_found_in_two_statements() -> None:
    """However long the chains are: a binary search in one, for all relays, and what is parked."""
    readings = [Reading("mine"), Reading("other")]
    for _ in range(40):
        commit(1)
        for reading in readings:
            reading.all()
    message = Message.objects.order_by("pk")[17]
    with CaptureQueriesContext(connection) as captured:
        found = publications(message, ["mine"])

    assert len(captured) == 2
    assert [(each.relay, each.checkpoint.pk if each.checkpoint else 0) for each in found] == [
        (reading.name, reading.published[str(message.message_id)]) for reading in readings
    ]


@pytest.mark.sqlite
@pytest.mark.django_db
def test_without_checkpoints_all_is_pending() -> None:
    """A relay that has never run has everything before it, in whatever lane it is."""
    with transaction.atomic():
        emit(2, "a")
        emit(2, "b")

    assert cursors("default") == []
    assert states_of("mine") == [(State.PENDING,)] * 4
    assert len(few_pending(Message.objects.all(), [], MANY) or ()) == 4


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_a_lane_nobody_has_read_is_pending() -> None:
    """A lane between others without a checkpoint is not forgotten."""
    with override_settings(OUTBOX={"LANES": 8}):
        for key in range(40):
            commit(1, str(key))
        reading = Reading()
        for lane in (1, 2, 5):
            reading.page(lane, 100)

        agree(reading)
    assert 0 < len(reading.published) < 40


@pytest.mark.sqlite
@pytest.mark.django_db
def test_a_large_backlog_is_not_listed() -> None:
    """Beyond the limit the positions are not returned, and not even read."""
    with transaction.atomic():
        emit(5)

    assert few_pending(Message.objects.all(), [], 4) is None
    assert len(few_pending(Message.objects.all(), [], 5) or ()) == 5


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_relays_are_those_configured_and_those_that_ran() -> None:
    """A relay that was taken out of RELAYS is still known by its checkpoints."""
    commit(1)
    Reading("retired").all()

    assert relay_names(cursors("default")) == ["mine", "retired"]


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_cursors_are_the_newest_checkpoints() -> None:
    """One checkpoint for each relay and lane, the newest, in one statement."""
    for name in ("mine", "other"):
        reading = Reading(name)
        for key in "abcd":
            commit(2, key)
            reading.all()
    with CaptureQueriesContext(connection) as captured:
        found = cursors("default")

    assert len(captured) == 1
    assert [(each.relay, each.lane) for each in found] == [
        ("mine", 0),
        ("mine", 1),
        ("other", 0),
        ("other", 1),
    ]
    for each in found:
        chain = Checkpoint.objects.filter(relay=each.relay, lane=each.lane)
        assert each.pk == chain.latest("previous").pk


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("move", [move_from_lower, move_from_higher, move_to_clone])
def test_states_after_a_move(move: Callable[[], None]) -> None:
    """Rebased, every message has the state that it has for the broker; when it was is not told."""
    commit(3, "a")
    commit(2, "b")
    reading = Reading()
    reading.all()
    commit(2, "a")
    before = dict(reading.published)
    move()
    commit(1, "b")
    everything = Message.objects.order_by("pk")
    reading.log.lanes_with_work(LANES)  # notices, and rebases
    assert [states_of("mine").count((each,)) for each in (State.PUBLISHED, State.PENDING)] == [5, 3]
    reading.all()
    commit(1, "a")
    reading.all()

    assert states_of("mine") == [(State.PUBLISHED,)] * 9
    found = cursors("default")
    assert few_pending(everything, found, MANY) == []
    assert published(everything, "mine", found).count() == 9
    for message in everything:
        [publication] = publications(message, ["mine"])
        message_id = str(message.message_id)
        if message_id in before:
            assert publication == Publication("mine", State.PUBLISHED, before_move=True)
        else:
            assert publication.checkpoint is not None
            assert publication.checkpoint.pk == reading.published[message_id]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("move", [move_from_lower, move_from_higher, move_to_clone])
def test_what_was_skipped_stays_skipped_after_a_move(move: Callable[[], None]) -> None:
    """START = "now" left it behind in the old cluster, and nobody shall think it was published."""
    commit(2)
    reading = Reading(start="now")
    reading.all()
    commit(1)
    reading.all()
    move()
    commit(1)
    commit(1, "b")
    reading.all()

    assert [state for (state,) in states_of("mine")] == [
        State.SKIPPED,
        State.SKIPPED,
        *[State.PUBLISHED] * 3,
    ]
    assert len(reading.published) == 3
    assert publications(Message.objects.earliest("pk"), []) == [Publication("mine", State.SKIPPED)]
