"""The relay delivers scheduled messages on time, cheaply, whoever of several processes does it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.models import Scheduled
from outbox.producer import scheduling
from relay.loop import Relay
from relay.schedule import Schedule
from tests.kit.support import Counted, RecordingBroker
from tests.kit.waiting import until

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

PAST = datetime(2026, 1, 1, tzinfo=UTC)


class TimedBroker(RecordingBroker):
    """Notes when each message came, by the clock of the machine."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[datetime] = []

    def publish(self, page: Any) -> Any:
        self.times += [datetime.now(UTC)] * len(page)
        return super().publish(page)


@pytest.fixture
def broker() -> TimedBroker:
    return TimedBroker()


def schedule(*numbers: int, key: str = "a", **options: Any) -> list[outbox.Envelope]:
    with transaction.atomic():
        return outbox.emit_many(
            [outbox.Draft(event=Counted(key, number), **options) for number in numbers]
        )


def test_what_is_due_is_published_in_the_same_sweep(
    make: Callable[..., Relay], broker: TimedBroker
) -> None:
    """Delivered into the log before the log is read; what has time left is not."""
    [due] = schedule(1, deliver_at=PAST)
    schedule(2, delay=600)
    assert make().run_once()

    assert broker.published == [due]
    assert Scheduled.objects.count() == 1


def test_until_empty_takes_along_what_is_due(
    make: Callable[..., Relay], broker: TimedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is more than one transaction moves."""
    monkeypatch.setattr(scheduling, "DELIVERED_AT_ONCE", 3)
    schedule(*range(10), deliver_at=PAST)
    assert make().run_until_empty()

    assert broker.numbers() == list(range(10))


def test_an_idle_look_is_two_statements_and_writes_nothing(make: Callable[..., Relay]) -> None:
    """One for what is due, one for all lanes, however much waits for its time."""
    relay = make()
    schedule(1, 2, 3, delay=600)
    relay.sweep()
    relay._schedule = Schedule("default")
    with CaptureQueriesContext(connection) as captured:
        assert relay.sweep() == 0

    assert len(captured) == 2
    assert all(each["sql"].lstrip().startswith("SELECT") for each in captured)


def test_looking_reads_an_index() -> None:
    """The plan of the look has no scan of the table."""
    if connection.vendor != "postgresql":
        pytest.skip("the plans are PostgreSQL's")
    schedule(*range(20_000), delay=600)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE django_outbox_scheduled")
        cursor.execute(f"EXPLAIN {scheduling.sql.PG_NEXT_DUE}")
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Seq Scan" not in plan
    assert plan.count("outbox_due") == 2


def test_known_ahead_it_is_published_on_time(
    running: Callable[..., Relay], broker: TimedBroker
) -> None:
    """At default settings an idle relay sleeps exactly until the next one is due."""
    if connection.vendor != "postgresql":
        pytest.skip("a relay in a thread cannot share SQLite's database in memory")
    running()
    envelopes = [*schedule(1, delay=0.7), *schedule(2, delay=0.4), *schedule(3, delay=1.6)]
    until(lambda: len(broker.times) == 3)

    assert broker.numbers() == [2, 1, 3]
    dues = sorted(envelope.time for envelope in envelopes if envelope.time)
    late = [came - due for came, due in zip(broker.times, dues, strict=True)]
    assert min(late) >= timedelta(0)
    # Not at the next poll; this machine may be busy with other tests.
    assert sorted(late)[1] < timedelta(seconds=0.5)


def test_an_earlier_one_wakes_a_relay_that_sleeps(
    running: Callable[..., Relay], broker: TimedBroker
) -> None:
    """Scheduling rings the bell, so that a long sleep becomes as short as it must be."""
    if connection.vendor != "postgresql":
        pytest.skip("a relay in a thread cannot share SQLite's database in memory")
    schedule(1, delay=3600)
    running(POLL_INTERVAL=3600.0)
    until(listening)
    schedule(2, delay=0.2)

    until(lambda: broker.numbers() == [2], 5)


def test_without_notify_the_poll_notices_it(
    running: Callable[..., Relay], broker: TimedBroker
) -> None:
    """Behind a proxy that breaks LISTEN, polling is enough."""
    if connection.vendor != "postgresql":
        pytest.skip("a relay in a thread cannot share SQLite's database in memory")
    running(LISTEN=False, POLL_INTERVAL=0.05)
    schedule(1, delay=0.1)

    until(lambda: broker.numbers() == [1], 5)


def test_several_relays_deliver_each_once_and_in_order(
    running: Callable[..., Relay], broker: TimedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five relays, small batches: nothing lost or twice, keys in the order of being due."""
    if connection.vendor != "postgresql":
        pytest.skip("a relay in a thread cannot share SQLite's database in memory")
    monkeypatch.setattr(scheduling, "DELIVERED_AT_ONCE", 7)
    for key in "abc":
        with transaction.atomic():
            outbox.emit_many(
                outbox.Draft(event=Counted(key, n), deliver_at=PAST + timedelta(seconds=n))
                for n in reversed(range(100))
            )
    for _ in range(5):
        running(PAGE_SIZE=11)
    until(lambda: len(broker.published) >= 300, 30)

    assert not Scheduled.objects.exists()
    for key in "abc":
        mine = [each for each in broker.published if each.key == key]
        times = [each.time for each in mine if each.time]
        assert times == sorted(times)
        assert len({each.id for each in mine}) == len(mine) == 100


def listening() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'idle' AND query LIKE 'LISTEN%%'"
        )
        return bool(cursor.fetchone()[0])
