"""What pruning deletes: never anything that is owed, and cheaply."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.extensions.pruning import prune_batch
from outbox.models import Message
from relay.brokers.base import Status
from relay.log import open_log
from relay.log.base import Start
from relay.models import Checkpoint, Parked
from relay.parking.people import discard
from relay.reports.publications import publications
from relay.reports.state import State, cursors, few_pending, published
from relay.retention import Checkpoints, Messages, Settled
from relay.transfer import transfer
from tests.kit.sessions import Session, sessions
from tests.kit.support import Counted, RecordingBroker
from tests.relay.log.moving import move

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

LANES = 2
LOCAL = "relay.brokers.local.LocalBroker"
LATER = datetime.now(UTC) + timedelta(days=1)
"""A moment before which everything in these tests is old."""


@pytest.fixture(autouse=True)
def one_relay() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": LANES}, RELAYS=relays("mine")):
        yield


def relays(*names: str, start: Start = "beginning") -> dict[str, dict[str, str]]:
    return {name: {"BACKEND": LOCAL, "START": start} for name in names}


def commit(count: int, key: str = "a") -> None:
    with transaction.atomic():
        emit(count, key)


def emit(count: int, key: str) -> None:
    outbox.emit_many([Counted(key, number) for number in range(count)])


def publish(name: str = "mine", pages: int = 1000, size: int = 100, start: Start = "beginning"):
    """Publish pages of every lane as a relay; return the ids of the messages."""
    log = open_log(name, using="default", start=start)
    broker = RecordingBroker()
    for _ in range(pages):
        lanes = log.lanes_with_work(LANES)
        for lane in lanes:
            transfer(log, broker, lane, size)
        if not lanes:
            break
    return [envelope.id for envelope in broker.published]


def prune(before: datetime = LATER, limit: int = 1000) -> int:
    pruner, total = Messages(delete=True), 0
    while gone := prune_batch(pruner, "default", before=before, limit=limit):
        assert gone <= limit
        total += gone
    return total


def prunable(before: datetime = LATER) -> int:
    return Messages(delete=False)("default", before=before, limit=10_000)


def test_what_is_published_goes() -> None:
    """In all lanes; the count of a dry run agrees; a second run finds nothing."""
    commit(5, "a")
    commit(4, "b")
    publish()
    assert prunable() == 9

    assert prune() == 9
    assert not Message.objects.exists()
    assert prune() == prunable() == 0


def test_what_is_owed_stays() -> None:
    """A message that is not published stays, however old."""
    commit(3)
    publish()
    commit(2)

    assert prune() == 3
    assert Message.objects.count() == 2
    assert len(publish()) == 2


def park() -> None:
    """Park a message and two behind it."""
    commit(3)
    broker = RecordingBroker()
    broker.refuse[str(Message.objects.earliest("position").message_id)] = Status.UNROUTABLE
    log = open_log("mine", using="default")
    for lane in log.lanes_with_work(LANES):
        transfer(log, broker, lane, 100)
    assert Parked.objects.count() == 3


def test_what_is_parked_stays() -> None:
    """A parked message and what waits behind it are owed, however old; discarded ones are not."""
    park()
    assert prune() == 0
    discard(Parked.objects.all(), by="test")

    assert prune() == 3


def test_what_is_known_of_settled_messages_goes_too() -> None:
    """Rows of parked messages are kept while they are open, and for the retention after that."""
    park()
    settled = Settled(delete=True)
    assert settled("default", before=LATER, limit=10) == 0
    discard(Parked.objects.all(), by="test")
    assert settled("default", before=datetime.now(UTC) - timedelta(days=1), limit=10) == 0

    assert settled("default", before=LATER, limit=2) == 2
    assert settled("default", before=LATER, limit=2) == 1


def test_what_is_young_stays() -> None:
    """Published, but not old enough."""
    commit(3)
    publish()
    old = Message.objects.earliest("position")
    now = old.time
    Message.objects.filter(pk=old.pk).update(time=now - timedelta(days=8))

    assert prune(before=now - timedelta(days=7)) == 1
    assert not Message.objects.filter(pk=old.pk).exists()


def test_half_a_window_goes() -> None:
    """A page is published, the rest of its window is not."""
    commit(10)
    publish(pages=1, size=4)

    assert prune() == 4
    assert len(publish()) == 6


def test_every_relay_must_have_it() -> None:
    """The one that is furthest behind decides; one that has never run owes everything."""
    with override_settings(RELAYS=relays("mine", "archive")):
        commit(4)
        publish("mine")
        assert prune() == 0
        publish("archive", pages=1, size=3)
        assert prune() == 3
        publish("archive")
        assert prune() == 1


def test_a_relay_that_starts_from_now_owes_nothing_of_before() -> None:
    """Before its first checkpoint it holds nothing back, after it what it has not published."""
    commit(2)
    publish("mine")
    with override_settings(RELAYS=relays("mine") | relays("late", start="now")):
        assert prune() == 2
        commit(1)
        publish("late", start="now")
        commit(2)
        publish("mine")
        assert prune() == 1
        publish("late", start="now")
        assert prune() == 2


def test_a_retired_relay_holds_nothing_back() -> None:
    """Checkpoints of a relay that is not in RELAYS any more do not count."""
    commit(2)
    publish("retired", pages=1, size=1)
    publish("mine")

    assert prune() == 2


def test_without_relays_all_is_kept() -> None:
    """Nothing has been published where nobody publishes."""
    commit(2)
    publish("mine")
    with override_settings(RELAYS={}):
        assert prune() == 0


def test_a_lane_that_is_no_longer_used() -> None:
    """After LANES was lowered, what was published in the higher lanes goes as well."""
    with override_settings(OUTBOX={"LANES": 16}):
        for key in range(40):
            commit(1, str(key))
        log, broker = open_log("mine", using="default"), RecordingBroker()
        for lane in log.lanes_with_work(16):
            transfer(log, broker, lane, 100)

    assert prune() == 40


def test_another_cluster_is_not_compared_with() -> None:
    """The transaction ids of a cursor from elsewhere mean nothing here, so nothing goes."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no transaction ids")
    commit(2)
    publish()
    Checkpoint.objects.update(system_identifier=1)

    assert prune() == prunable() == 0


def test_a_clone_with_the_same_identifier_is_not_compared_with() -> None:
    """A cursor with far higher ids would cover rows that were emitted here and never published."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no transaction ids")
    commit(2)
    publish()
    move(10**9, system_identifier=0)  # keeps the identifier
    Checkpoint.objects.update(sequence=10**6)
    commit(2)

    assert prune() == prunable() == 0
    assert len(publish()) == 2
    assert prune() == 4


def test_a_straggler_in_front_stays() -> None:
    """A transaction that was open while its neighbours were published: its rows are owed."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    with sessions(1) as [slow]:
        slow.begin()
        slow.run(emit, 30, "a")
        commit(40)
        publish()
        slow.commit()
        assert prune(limit=10) == 40
        assert len(publish()) == 30

    assert prune() == 30


def test_what_is_kept_in_front_is_looked_at_once_in_a_run() -> None:
    """Batches go on from where the last one ended: one statement each."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    pruner = Messages(delete=True)
    with sessions(1) as [slow]:
        slow.begin()
        slow.run(emit, 30, "a")
        commit(40)
        publish()
        slow.commit()
        numbers = []
        for _ in range(4):
            with CaptureQueriesContext(connection) as captured:
                assert pruner("default", before=LATER, limit=10) == 10
            numbers.append(len(captured))

    # The lanes, three batches of what is kept, one of what goes; then what goes.
    assert numbers == [5, 1, 1, 1]


def test_a_backlog_is_not_walked_through() -> None:
    """What is owed above the cursor is not even looked at: one statement, and the lanes."""
    if connection.vendor != "postgresql":
        pytest.skip("statements of PostgreSQL")
    commit(5)
    publish()
    commit(500)
    with CaptureQueriesContext(connection) as captured:
        assert Messages(delete=True)("default", before=LATER, limit=10) == 5

    assert len(captured) == 2


def test_the_plan_is_by_index() -> None:
    """Neither the log nor the checkpoints are scanned, also right after a bulk of rows."""
    if connection.vendor != "postgresql":
        pytest.skip("the plans are PostgreSQL's")
    for _ in range(4):
        commit(5_000)
    publish(size=5_000)
    with CaptureQueriesContext(connection) as captured:
        Messages(delete=True)("default", before=LATER, limit=1000)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {captured.captured_queries[-1]['sql']}")
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Seq Scan on django_outbox_message" not in plan, plan
    assert "Sort" not in plan, plan


@pytest.mark.parametrize("seed", range(6))
def test_nothing_owed_is_ever_deleted(seed: int) -> None:
    """Whatever is open, late, rolled back or half read: each relay gets everything once."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    chance = random.Random(seed)
    names = ("mine", "archive")
    got: dict[str, list[str]] = {name: [] for name in names}
    committed: set[str] = set()
    gone = 0

    def remember() -> None:
        committed.update(map(str, Message.objects.values_list("message_id", flat=True)))

    with override_settings(RELAYS=relays(*names)), sessions(4) as opened:
        busy: set[Session] = set()
        for _ in range(80):
            session = chance.choice(opened)
            if session not in busy:
                session.begin()
                busy.add(session)
            elif chance.random() < 0.4:
                session.run(emit, chance.randint(1, 6), chance.choice("abcdef"))
            else:
                (session.rollback if chance.random() < 0.2 else session.commit)()
                busy.discard(session)
                remember()
            for name in names:
                if chance.random() < 0.4:
                    got[name] += publish(name, pages=1, size=chance.choice([1, 3, 100]))
            if chance.random() < 0.3:
                gone += prune(limit=chance.choice([1, 7, 1000]))
                prune_batch(
                    Checkpoints(delete=True), "default", before=LATER, limit=chance.choice([1, 50])
                )
        for session in busy:
            session.commit()
        remember()
        for name in names:
            got[name] += publish(name)
        gone += prune()

    assert gone == len(committed) > 0
    for name in names:
        assert len(got[name]) == len(set(got[name])), "published twice"
        assert set(got[name]) == committed


def test_states_of_what_is_left() -> None:
    """Derived states, backlog and publications answer as before after pruning."""
    for _ in range(4):
        commit(3)
        publish()
    kept = Message.objects.order_by("position")[6]
    Message.objects.filter(position__lt=kept.position).update(time=LATER - timedelta(days=9))
    assert prune(before=LATER - timedelta(days=8)) == 6
    assert prune_batch(Checkpoints(delete=True), "default", before=LATER, limit=100) == 2
    commit(2)

    found = cursors("default")
    messages = Message.objects.all()
    assert published(messages, "mine", found).count() == 6
    assert len(few_pending(messages, found, 100) or ()) == 2
    assert [each.state for each in publications(kept, ["mine"])] == [State.PUBLISHED]
    assert len(publish()) == 2


class TestCheckpoints:
    """Which checkpoints go."""

    def test_the_first_and_the_newest_stay(self) -> None:
        """Of every chain, however old they are; the relay goes on from there."""
        for _ in range(6):
            for key in "abcd":
                commit(1, key)
            publish()
        chains = {(row.relay, row.lane) for row in Checkpoint.objects.all()}
        newest = {each.pk for each in cursors("default")}
        count = Checkpoint.objects.count()
        assert Checkpoints(delete=False)("default", before=LATER, limit=100) == count - 4
        assert Checkpoints(delete=True)("default", before=LATER, limit=100) == count - 4

        assert len(chains) == 2
        left = set(Checkpoint.objects.all())
        assert {each.pk for each in left} >= newest
        assert {(each.relay, each.lane) for each in left if each.previous == 0} == chains
        commit(1)
        assert len(publish()) == 1

    def test_young_ones_stay(self) -> None:
        """Those since `before` are the audit trail."""
        for _ in range(5):
            commit(1)
            publish()
        second = Checkpoint.objects.order_by("pk")[1]
        before = second.created + timedelta(microseconds=1)

        assert Checkpoints(delete=True)("default", before=before, limit=100) == 1
        assert not Checkpoint.objects.filter(pk=second.pk).exists()

    def test_in_batches(self) -> None:
        """At most `limit` at once, oldest first."""
        for _ in range(8):
            commit(1)
            publish()
        pruner = Checkpoints(delete=True)

        assert [pruner("default", before=LATER, limit=4) for _ in range(3)] == [4, 2, 0]

    def test_what_opened_the_newest_window_stays(self) -> None:
        """From it the relay finds where the window after a large one begins."""
        for count in (2, 20):
            commit(count)
            publish(size=4)
        [newest] = cursors("default")
        assert Checkpoints(delete=True)("default", before=LATER, limit=100) > 0

        opened = Checkpoint.objects.filter(lane=newest.lane, previous=newest.window_previous)
        assert opened.exists()
