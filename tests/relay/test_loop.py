"""The relay's loop: what it does when things go wrong, and when they go right again."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import OperationalError, ProgrammingError, connection, connections, transaction
from django.test import override_settings

import outbox
from outbox.lanes import lane_of
from outbox.shutdown import Shutdown
from relay.brokers.base import Status
from relay.conf import RelaySettings
from relay.log import open_log
from relay.loop import Relay
from relay.models import Checkpoint, Parked
from tests.sessions import sessions
from tests.support import Counted, RecordingBroker, Registered

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def two_lanes() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 2}):
        yield


@pytest.fixture
def broker() -> RecordingBroker:
    return RecordingBroker()


MakeRelay = Callable[..., Relay]


@pytest.fixture
def make(broker: RecordingBroker) -> Iterator[MakeRelay]:
    made = []

    def make(**options: object) -> Relay:
        conf = RelaySettings(BACKEND="tests", RETRY_MAX=0.1, **options)  # type: ignore[arg-type]
        relay = Relay(open_log("test", using="default"), broker, conf, Shutdown())
        made.append(relay)
        return relay

    yield make
    for relay in made:
        relay.close()
        relay._shutdown.close()


@pytest.fixture
def running(make: MakeRelay) -> Iterator[Callable[..., Relay]]:
    """Run relays in threads of their own and stop them after the test."""
    threads = []

    def start(**options: object) -> Relay:
        relay = make(**options)

        def run() -> None:
            try:
                relay.run()
            finally:
                relay.close()
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        threads.append((relay, thread))
        return relay

    yield start
    for relay, thread in threads:
        relay._shutdown.request()
        thread.join(10)
        assert not thread.is_alive()


def commit(*numbers: int, key: str = "a") -> list[outbox.Envelope]:
    with transaction.atomic():
        return outbox.emit_many([Counted(key, number) for number in numbers])


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def same_lane(key: str) -> str:
    """Return another key of the same lane."""
    return next(other for other in "bcdefgh" if lane_of(other, 2) == lane_of(key, 2))


def test_until_empty_publishes_everything(make: MakeRelay, broker: RecordingBroker) -> None:
    """All lanes are drained, page by page, and nothing stands in the way."""
    for key in "abcd":
        commit(1, 2, 3, key=key)

    assert make(PAGE_SIZE=2).run_until_empty()
    assert len(broker.published) == 12


def test_an_outage_spends_no_checkpoint_and_is_told_once(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Broker away: one error however many attempts, no checkpoint, everything after it is back."""
    commit(1, 2)
    relay = make()
    broker.away = "connection refused"
    with caplog.at_level(logging.INFO, "relay"):
        wait_until(lambda: relay.sweep() or attempts(relay) > 4)
        assert not Checkpoint.objects.exists()
        broker.away = ""
        wait_until(relay.sweep)

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
    wait_until(lambda: relay.sweep() or attempts(relay) > 2)
    broker.away, broker.denied = "user name or password is refused", True
    wait_until(lambda: relay.sweep() or attempts(relay) > 5)
    broker.away, broker.denied = "", False
    wait_until(relay.sweep)

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
    wait_until(relay.sweep)

    assert broker.numbers() == [1, 2, 3]
    assert caplog.text.count("The broker is away") == 1
    assert not relay.troubled


def test_a_link_that_breaks_in_every_page_is_not_waited_for_longer_and_longer(
    make: MakeRelay, broker: RecordingBroker
) -> None:
    """As long as something gets through, the pauses do not grow."""
    commit(*range(8))
    relay = make()
    broker.breaks_after = 1
    for published in range(1, 8):
        wait_until(relay.sweep)
        assert len(broker.published) == published
        assert attempts(relay) == 1

    broker.breaks_after = 0
    wait_until(lambda: relay.sweep() or attempts(relay) > 2)


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
        wait_until(lambda: 4 in broker.numbers() or relay.sweep())
        assert broker.numbers() == [1, 4]
        assert not relay.troubled
        broker.refuse.clear()
        wait_until(lambda: len(broker.published) == 5 or relay.sweep())

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
    wait_until(lambda: relay.sweep() or Parked.objects.exists())
    commit(3, key="a2")
    wait_until(lambda: relay.sweep() or 3 in broker.numbers())

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
        wait_until(relay.sweep)

    assert broker.numbers() == [1, 2]
    assert caplog.text.count("The database is away") == 1
    assert "The database is back" in caplog.text


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
    wait_until(relay.sweep)

    assert broker.numbers() == [1]
    assert caplog.text.count("The database is away") == 1
    assert not relay.troubled


def test_a_page_that_outlasts_the_time_for_idling_is_an_outage(
    make: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that the server ends because it waits for a broker is replaced by another."""
    commit(1)
    relay = make()
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 20")
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with sessions(1) as [other]:
        broker.before_confirming = lambda: wait_until(lambda: not other.run(exists, pid))
        relay.sweep()
        assert not Checkpoint.objects.exists()
        broker.before_confirming = None
        wait_until(relay.sweep)

    assert broker.numbers() == [1, 1]
    assert "idle-in-transaction timeout" in caplog.text
    assert not relay.troubled


def test_a_mistake_in_a_statement_ends_the_relay(
    make: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no waiting can mend is raised, not tried for ever."""
    commit(1)
    monkeypatch.setattr("relay.sql.PG_ACQUIRE", "SELECT * FROM nowhere")

    with pytest.raises(ProgrammingError, match="nowhere"):
        make().sweep()


def test_a_commit_wakes_an_idle_relay(running: MakeRelay, broker: RecordingBroker) -> None:
    """With an hour between polls an event is published at once, by NOTIFY."""
    relay = running(POLL_INTERVAL=3600.0)
    listening(relay)
    commit(1)

    wait_until(lambda: broker.numbers() == [1])


def test_a_lost_listener_falls_back_to_polling(
    running: MakeRelay, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The listening connection dies: it says so, polling goes on."""
    relay = running(POLL_INTERVAL=0.05)
    pid = listening(relay)
    with sessions(1) as [other]:
        other.run(terminate, pid)
    wait_until(lambda: "polling instead" in caplog.text)
    commit(1)

    wait_until(lambda: broker.numbers() == [1])


def test_without_notify_polling_is_enough(running: MakeRelay, broker: RecordingBroker) -> None:
    """LISTEN off, as behind a transaction-pooling proxy: the next poll finds the event."""
    running(LISTEN=False, POLL_INTERVAL=0.05)
    commit(1)

    wait_until(lambda: broker.numbers() == [1])


def test_several_relays_share_the_work(running: MakeRelay, broker: RecordingBroker) -> None:
    """Ten relays, many messages: each is published exactly once."""
    for _ in range(10):
        running(PAGE_SIZE=7)
    for key in "abcdefgh":
        commit(*range(100), key=key)

    wait_until(lambda: len(broker.published) >= 800)
    assert len({envelope.id for envelope in broker.published}) == len(broker.published) == 800


def attempts(relay: Relay) -> int:
    return relay.progress.broker.failures


def terminate(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])


def exists(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
        return cursor.fetchone() is not None


def listening(relay: Relay) -> int:
    """Wait until the relay's bell is connected and it sleeps; return the connection's pid."""

    def pids() -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                "AND state = 'idle' AND query LIKE 'LISTEN%%'"
            )
            return [row[0] for row in cursor.fetchall()]

    wait_until(pids)
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
