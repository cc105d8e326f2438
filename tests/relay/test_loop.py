"""The relay's loop: what it does when things go wrong, and when they go right again."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError, connection, transaction
from django.db.models import Sum
from django.db.models.functions import Now

import outbox
from outbox.message.lanes import lane_of
from outbox.runtime.shutdown import Shutdown
from relay.brokers.base import UNSENT, Outcome, Status
from relay.conf import RelaySettings
from relay.log import Page, open_log
from relay.loop import Relay
from relay.models import Checkpoint, Parked
from tests.kit.database import exists_session, terminate
from tests.kit.sessions import sessions
from tests.kit.support import Counted, RecordingBroker, Registered
from tests.kit.waiting import until

pytestmark = [pytest.mark.usefixtures("two_lanes"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def broker() -> RecordingBroker:
    return RecordingBroker()


MakeRelay = Callable[..., Relay]


def commit(*numbers: int, key: str = "a") -> list[outbox.Envelope]:
    with transaction.atomic():
        return outbox.emit_many([Counted(key, number) for number in numbers])


@contextmanager
def table_away(name: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO elsewhere")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE elsewhere RENAME TO {name}")


def same_lane(key: str) -> str:
    """Return another key of the same lane."""
    return next(other for other in "bcdefgh" if lane_of(other, 2) == lane_of(key, 2))


def test_until_empty_publishes_everything(make: MakeRelay, broker: RecordingBroker) -> None:
    """All lanes are drained, page by page, and nothing stands in the way."""
    for key in "abcd":
        commit(1, 2, 3, key=key)

    assert make(PAGE_SIZE=2).run_until_empty()
    assert len(broker.published) == 12


def test_it_tells_when_it_has_turned_and_what_it_misses(
    make: MakeRelay, broker: RecordingBroker
) -> None:
    """From its first look at the log on, which may take as long as it takes."""
    relay = make()
    begun = time.monotonic()
    assert relay.missing == "starting"
    assert relay.turned >= begun
    relay.run_once()
    looked = relay.turned
    assert relay.missing == ""
    assert begun <= looked <= time.monotonic()
    relay._keep_alive()
    assert looked < relay.turned <= time.monotonic()

    commit(1)
    broker.away = "connection refused"
    relay.sweep()
    assert relay.missing == "broker"


def test_an_outage_spends_no_checkpoint_and_is_told_once(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Broker away: one error however many attempts, no checkpoint, everything after it is back."""
    commit(1, 2)
    relay = make()
    broker.away = "connection refused"
    with caplog.at_level(logging.INFO, "relay"):
        until(lambda: relay.sweep() or attempts(relay) > 4)
        assert not Checkpoint.objects.exists()
        broker.away = ""
        until(relay.sweep)

    assert broker.numbers() == [1, 2]
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "connection refused" in errors[0].getMessage()
    assert "is back after" in caplog.text
    assert not relay.troubled


def test_it_is_told_when_a_broker_that_was_away_does_not_let_us_in(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of the two once, however many attempts; it goes on by itself when it is let in."""
    commit(1)
    relay = make()
    broker.away = "connection refused"
    until(lambda: relay.sweep() or attempts(relay) > 2)
    broker.away, broker.denied = "user name or password is refused", True
    until(lambda: relay.sweep() or attempts(relay) > 5)
    broker.away, broker.denied = "", False
    until(relay.sweep)

    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert [each.partition(" (memory): ")[0] for each in errors] == [
        "The broker is away",
        "The broker does not let us in",
    ]
    assert "user name or password is refused. Nothing is lost; trying again" in errors[1]
    assert broker.numbers() == [1]


def test_an_outage_within_a_page_keeps_what_was_confirmed(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The confirmed messages in front are checkpointed; only the rest is published again."""
    commit(1, 2, 3)
    relay = make()
    broker.breaks_after = 2
    assert relay.sweep() == 2
    assert [each.count for each in Checkpoint.objects.all()] == [2]
    assert relay.troubled
    broker.breaks_after = None
    until(relay.sweep)

    assert broker.numbers() == [1, 2, 3]
    assert caplog.text.count("The broker is away") == 1
    assert not relay.troubled


def test_a_link_that_breaks_in_every_page_is_not_waited_for_longer_and_longer(
    make: MakeRelay, broker: RecordingBroker
) -> None:
    """As long as something gets through, the pauses do not grow."""
    commit(*range(8))
    relay = make()
    for published in range(1, 8):
        broker.breaks_after = 1
        until(relay.sweep)
        assert len(broker.published) == published
        assert attempts(relay) == 1

    broker.breaks_after = 0
    until(lambda: relay.sweep() or attempts(relay) > 2)


def test_a_refused_message_holds_its_key_and_nothing_else(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Parked, loudly, with what is behind it; other keys of its lane go on; later it heals."""
    [_, refused, _] = commit(1, 2, 3, key="a")
    broker.refuse[refused.id] = Status.UNROUTABLE
    relay = make(PARK_MIN=0.01, PARK_MAX=0.05)
    with caplog.at_level(logging.INFO, "relay"):
        relay.sweep()
        commit(4, key=same_lane("a"))
        commit(5, key="a")
        until(lambda: 4 in broker.numbers() or relay.sweep())
        assert broker.numbers() == [1, 4]
        assert not relay.troubled
        broker.refuse.clear()
        until(lambda: len(broker.published) == 5 or relay.sweep())

    assert broker.numbers() == [1, 4, 2, 3, 5]
    assert caplog.text.count("parked 2 messages") == 1
    assert refused.id in caplog.text


def test_a_page_that_is_nacked_as_a_whole_holds_up_its_lane_for_a_moment(
    make: MakeRelay, broker: RecordingBroker, registered: Registered
) -> None:
    """It may be an outage, so nothing is blamed at first; then it is parked, and others go on."""
    registered("tests.other", key="key")
    with transaction.atomic():
        one = outbox.emit(Counted("a", 1))
        two = outbox.emit("tests.other", {"key": same_lane("a"), "number": 2})
    broker.refuse = {one.id: Status.NACKED, two.id: Status.NACKED}
    relay = make(PARK_MIN=100.0, PARK_MAX=300.0)
    relay.sweep()
    assert not Parked.objects.exists()
    assert not relay.troubled
    until(lambda: relay.sweep() or Parked.objects.exists())
    commit(3, key="a2")
    until(lambda: relay.sweep() or 3 in broker.numbers())

    assert Parked.objects.count() == 2
    assert not relay.troubled


def test_until_empty_is_not_clean_with_parked_messages(
    make: MakeRelay, broker: RecordingBroker
) -> None:
    """What is parked was not published: somebody must be told."""
    [refused] = commit(1)
    broker.refuse[refused.id] = Status.UNROUTABLE

    assert not make().run_until_empty()


def test_until_empty_gives_up_on_trouble(make: MakeRelay, broker: RecordingBroker) -> None:
    """--until-empty does not wait for a broker that is away."""
    commit(1)
    broker.away = "gone"

    assert not make().run_until_empty()


def test_a_lost_database_connection_is_survived(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The server ends the relay's connection: told once, then on with a new one."""
    commit(1)
    relay = make()
    relay.sweep()
    commit(2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with sessions(1) as [other]:
        other.run(terminate, pid)
    with caplog.at_level(logging.INFO, "relay"):
        until(relay.sweep)

    assert broker.numbers() == [1, 2]
    assert caplog.text.count("The database is away") == 1
    assert "The database is back" in caplog.text


def test_a_table_that_is_away_for_a_while_is_waited_for(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """As while a dump is restored over it. A relay that has never seen it ends instead."""
    relay, new = make(), make()
    relay.sweep()
    commit(1)
    with table_away("django_outbox_message"):
        for _ in range(3):
            assert relay.sweep() == 0
        with pytest.raises(ProgrammingError, match="django_outbox_message"):
            new.sweep()
    with caplog.at_level(logging.INFO, "relay"):
        until(relay.sweep)

    assert broker.numbers() == [1]
    assert caplog.text.count("The database is not ready") == 1
    assert "The database is back" in caplog.text


def test_a_column_whose_type_changes_is_an_outage(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a migration: what was prepared before is prepared anew, on a new session."""
    relay = make()
    for number in range(8):  # prepared by then
        commit(number)
        relay.sweep()
    alter = "ALTER TABLE django_outbox_message ALTER COLUMN type TYPE {}"
    try:
        with connection.cursor() as cursor:
            cursor.execute(alter.format("text"))
        commit(8)
        until(lambda: relay.sweep() or broker.numbers()[-1] == 8)
    finally:
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute(alter.format("varchar(255)"))

    assert broker.numbers() == list(range(9))


def test_a_read_only_database_is_an_outage(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """On a read-only server, as after a failover, nothing is published; on with a new session."""
    commit(1)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    relay = make()
    relay.sweep()
    assert not Checkpoint.objects.exists()
    until(relay.sweep)

    assert broker.numbers() == [1]
    assert caplog.text.count("The database is away") == 1
    assert not relay.troubled


def test_a_page_that_outlasts_the_time_for_idling_is_an_outage(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that is ended because it waits for a broker, as by a pooler, is replaced."""
    commit(1)
    relay = make()
    with sessions(1) as [other]:

        def outlast() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 20")
                cursor.execute("SELECT pg_backend_pid()")
                pid = cursor.fetchone()[0]
            until(lambda: not other.run(exists_session, pid))

        broker.before_confirming = outlast
        relay.sweep()
        assert not Checkpoint.objects.exists()
        broker.before_confirming = None
        until(relay.sweep)

    assert broker.numbers() == [1, 1]
    assert "idle-in-transaction timeout" in caplog.text
    assert not relay.troubled


def test_a_page_that_is_ended_each_time_is_tried_smaller(
    make: MakeRelay, broker: RecordingBroker
) -> None:
    """As by a pooler that bounds transactions: there is progress, however little it lets pass."""
    commit(*range(50))
    relay = make(PAGE_SIZE=50)

    def end_what_is_large() -> None:
        if broker.pages[-1] > 4:
            with connection.cursor() as cursor, sessions(1) as [other]:
                cursor.execute("SELECT pg_backend_pid()")
                pid = cursor.fetchone()[0]
                other.run(terminate, pid)
                until(lambda: not other.run(exists_session, pid))

    broker.before_confirming = end_what_is_large
    until(lambda: relay.sweep() and Checkpoint.objects.aggregate(n=Sum("count"))["n"] == 50)

    assert set(broker.numbers()) == set(range(50))
    assert broker.pages[:5] == [50, 25, 12, 6, 3]
    assert max(each.count for each in Checkpoint.objects.all()) <= 4


@pytest.mark.parametrize("exc", [MemoryError(), DatabaseError("out of memory for query result")])
def test_a_page_that_memory_does_not_hold_is_tried_smaller(
    make: MakeRelay,
    broker: RecordingBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    exc: Exception,
) -> None:
    """The relay says that it is this process, and goes on with less."""
    commit(*range(20))
    relay = make(PAGE_SIZE=20)
    read = type(relay.log).read

    def short_of_memory(log: Any, lane: int, size: int, sequence: int) -> Page:
        if size > 5:
            raise exc
        return read(log, lane, size, sequence)

    monkeypatch.setattr(type(relay.log), "read", short_of_memory)
    until(lambda: relay.sweep() and Checkpoint.objects.aggregate(n=Sum("count"))["n"] == 20)

    assert broker.numbers() == list(range(20))
    assert "This process has too little memory" in caplog.text
    assert not relay.troubled


class Clock:
    """A clock that stands still but for the time that the broker takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowBroker(RecordingBroker):
    """Takes its time for each message; a `stranger` knows nothing of the time that it has."""

    stranger = False
    cost = 0.01

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def publish(self, page: Sequence[outbox.Envelope]) -> list[Outcome]:
        time_for = len(page)
        if not self.stranger:
            time_for = min(time_for, round(self.page_seconds / self.cost))
        self._clock.now += time_for * self.cost
        return [*super().publish(page[:time_for]), *[UNSENT] * (len(page) - time_for)]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Relay, SlowBroker]]:
    """A relay with a slow broker, that looks at the lane of key "a" first."""
    monkeypatch.setattr("random.shuffle", lambda lanes: lanes.sort(key=lane_of("a", 2).__ne__))
    clock = Clock()
    broker, shutdown = SlowBroker(clock), Shutdown()
    conf = RelaySettings(BACKEND="tests")
    relay = Relay(open_log("test", using="default"), broker, conf, shutdown, clock=clock)
    yield relay, broker
    relay.close()
    shutdown.close()


@pytest.mark.parametrize("stranger", [False, True])
def test_a_flood_of_one_lane_keeps_no_other_waiting(
    slow: tuple[Relay, SlowBroker], stranger: bool
) -> None:
    """Its turn is over when its time is, and so is its page; it goes on where it was."""
    relay, broker = slow
    broker.stranger = stranger
    commit(*range(3000))
    commit(-1, key=other_lane("a"))
    relay.sweep()

    # One whole page if the broker never looks at the time, which was 16 of them.
    assert broker.numbers().index(-1) <= (1000 if stranger else 50)
    until(lambda: not relay.sweep())
    assert [each for each in broker.numbers() if each >= 0] == list(range(3000))
    assert max(broker.pages[1:]) <= 50


def test_who_answers_late_makes_no_page_smaller(
    slow: tuple[Relay, SlowBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that waits says how long: with less in the page it would wait as long."""
    relay, broker = slow
    publish = RecordingBroker.publish

    def wait_and_publish(page: Sequence[outbox.Envelope]) -> list[Outcome]:
        broker.waited = 0.6
        broker._clock.now += broker.waited
        return publish(broker, page)

    monkeypatch.setattr(broker, "publish", wait_and_publish)
    for _ in range(3):
        commit(*range(10), key="a")
        until(lambda: not relay.sweep())
    commit(*range(100), key="a")
    until(lambda: not relay.sweep())
    assert broker.pages == [10, 10, 10, 100]


def test_in_a_flood_neither_what_is_new_nor_what_is_parked_waits_for_the_end_of_the_other(
    slow: tuple[Relay, SlowBroker],
) -> None:
    """A turn may have time for one page only: the next one begins with the other kind."""
    relay, broker = slow
    broker.refuse = {each.id: Status.UNROUTABLE for each in commit(*range(200), key="a")}
    until(lambda: relay.sweep() or Parked.objects.count() == 200)
    broker.refuse.clear()
    commit(*range(1000, 1200), key=same_lane("a"))
    Parked.objects.update(state="parked", next_attempt_at=Now())
    published = len(broker.published)
    for _ in range(2):
        relay.sweep()

    kinds = {number >= 1000 for number in broker.numbers()[published:]}
    assert kinds == {False, True}


def other_lane(key: str) -> str:
    return next(other for other in "bcdefgh" if lane_of(other, 2) != lane_of(key, 2))


def test_a_mistake_in_a_statement_ends_the_relay(
    make: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no waiting can mend is raised, not tried for ever."""
    commit(1)
    monkeypatch.setattr("relay.sql.log.PG_ACQUIRE", "SELECT nowhere()")

    with pytest.raises(ProgrammingError, match="nowhere"):
        make().sweep()


def test_a_commit_wakes_an_idle_relay(running: MakeRelay, broker: RecordingBroker) -> None:
    """With an hour between polls an event is published at once, by NOTIFY."""
    relay = running(POLL_INTERVAL=3600.0)
    listening(relay)
    commit(1)

    until(lambda: broker.numbers() == [1])


def test_where_commits_are_synchronous_nothing_is_flushed_for_a_relay(
    running: MakeRelay, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NOTIFY brings a snapshot that is on disk, though its own commit is not."""
    relay = running(POLL_INTERVAL=3600.0)
    listening(relay)
    flushed: list[None] = []
    flush = relay.log.flush
    monkeypatch.setattr(relay.log, "flush", lambda: flushed.append(flush()))
    # What others write to the server's log meanwhile may ask for one.
    for number in range(30):
        before = len(flushed)
        commit(number)
        until(lambda: len(broker.published) > number)  # noqa: B023
        if len(flushed) == before:
            return
    pytest.fail("it has flushed thirty times")


def test_a_lost_listener_falls_back_to_polling(
    running: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The listening connection dies: it says so, polling goes on."""
    relay = running(POLL_INTERVAL=0.05)
    pid = listening(relay)
    with sessions(1) as [other]:
        other.run(terminate, pid)
    until(lambda: "polling instead" in caplog.text)
    commit(1)

    until(lambda: broker.numbers() == [1])


def test_without_notify_polling_is_enough(running: MakeRelay, broker: RecordingBroker) -> None:
    """LISTEN off, as behind a transaction-pooling proxy: the next poll finds the event."""
    running(LISTEN=False, POLL_INTERVAL=0.05)
    commit(1)

    until(lambda: broker.numbers() == [1])


def test_several_relays_share_the_work(running: MakeRelay, broker: RecordingBroker) -> None:
    """Ten relays, many messages: each is published exactly once."""
    for _ in range(10):
        running(PAGE_SIZE=7)
    for key in "abcdefgh":
        commit(*range(100), key=key)

    until(lambda: len(broker.published) >= 800)
    assert len({envelope.id for envelope in broker.published}) == len(broker.published) == 800


def attempts(relay: Relay) -> int:
    return relay.progress.broker.failures


def listening(relay: Relay) -> int:
    """Wait until the relay's bell is connected and it sleeps; return the connection's pid."""

    def pids() -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                "AND state = 'idle' AND query LIKE 'LISTEN%%'"
            )
            return [row[0] for row in cursor.fetchall()]

    until(pids)
    return pids()[0]


def test_the_broker_is_called_upon_under_load(
    make: MakeRelay, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two pages, when its time has come: a busy relay does not starve it."""
    monkeypatch.setattr("relay.loop.KEEP_ALIVE_EVERY", 0.0)
    called: list[int] = []
    monkeypatch.setattr(broker, "keep_alive", lambda: called.append(len(broker.published)))
    with transaction.atomic():
        for number in range(4):
            outbox.emit(Counted("k", number))
    relay = make(PAGE_SIZE=1)

    relay.sweep()

    assert called[:4] == [1, 2, 3, 4]


def test_what_the_broker_meets_there_is_an_outage(
    make: MakeRelay, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local broker has the database to itself then; the relay does not end by it."""

    def away() -> None:
        raise OperationalError("terminating connection")

    monkeypatch.setattr(broker, "keep_alive", away)
    relay = make()

    relay._keep_alive()

    assert relay.progress.database.reason == "terminating connection"
