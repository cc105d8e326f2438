"""Housekeeping in the relay: it prunes by itself, after publishing, and seldom."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import outbox
from inbox.models import Receipt
from outbox.extensions.pruning import PRUNE_KEY, Pruner, pruners
from outbox.models import Message
from outbox.runtime import housekeeping as module
from outbox.runtime.housekeeping import Housekeeping
from outbox.runtime.shutdown import Shutdown
from relay.conf import RelaySettings
from relay.log import open_log
from relay.loop import Relay
from tests.kit.processes import running
from tests.kit.sessions import sessions
from tests.kit.support import RecordingBroker
from tests.relay.test_retention import commit, publish, relays
from tests.testapp.events import Happened

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def housekeeping(using: str, interval: float) -> Housekeeping:
    """The housekeeping of a relay whose log is on a database."""
    conf = RelaySettings(BACKEND="tests", PRUNE_INTERVAL=interval)
    with Shutdown() as shutdown:
        relay = Relay(open_log("default", using=using), RecordingBroker(), conf, shutdown)
        return relay._housekeeping


class Clock:
    """Stands in for time.monotonic() in the module under test, to pass hours in no time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cost = 0.0

    def monotonic(self) -> float:
        self.now += self.cost
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "BATCH", 5)
    return clock


@pytest.fixture(autouse=True)
def one_relay() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 2}, RELAYS=relays("mine")):
        yield


def published_long_ago(count: int) -> None:
    commit(count)
    publish()
    Message.objects.update(time=F("time") - timedelta(days=8))


def turns(keeper: Housekeeping, clock: Clock, step: float, until: Callable[[], object]) -> int:
    """Take turns, `step` seconds apart, until something is the case; return how many."""
    for number in range(1, 200):
        clock.now += step
        keeper.turn()
        if until():
            return number
    raise AssertionError("waited in vain")


def test_a_round_prunes_batch_by_batch(clock: Clock) -> None:
    """At most one batch a turn; between rounds there is nothing to wait for."""
    published_long_ago(12)
    keeper = housekeeping("default", 60)
    counts = []
    for _ in range(4):
        clock.now += 60
        keeper.turn()
        counts.append(Message.objects.count())

    assert counts == [7, 2, 0, 0]


def test_nothing_before_its_time(clock: Clock) -> None:
    """A turn that is too early runs no statement; a relay has other things to do at its start."""
    published_long_ago(1)
    keeper = housekeeping("default", 60)
    with CaptureQueriesContext(connection) as captured:
        for _ in range(29):
            clock.now += 1
            keeper.turn()

    assert len(captured) == 0
    assert turns(keeper, clock, 1, lambda: not Message.objects.exists()) <= 31


def test_never_more_than_a_tenth_of_the_time(clock: Clock) -> None:
    """A batch that takes two seconds is followed by eighteen of something else."""
    published_long_ago(12)
    keeper = housekeeping("default", 60)
    clock.now += 60
    clock.cost = 2.0
    keeper.turn()
    clock.cost = 0.0
    assert Message.objects.count() == 7

    assert keeper.until_turn() == pytest.approx(18)
    clock.now += 17.9
    keeper.turn()
    assert Message.objects.count() == 7
    clock.now += 0.2
    keeper.turn()
    assert Message.objects.count() == 2


def test_off(clock: Clock) -> None:
    """An interval of 0, or a retention of None, prunes nothing."""
    published_long_ago(1)
    keeper = housekeeping("default", 0)
    clock.now += 10**9
    assert keeper.turn() == 0
    with override_settings(OUTBOX={"RETENTION": None}, INBOX={"RETENTION": None}):
        keeper = housekeeping("default", 60)
        clock.now += 10**9
        assert keeper.turn() == 0

    assert Message.objects.exists()
    assert keeper.until_turn() == float("inf")


def test_each_kind_has_its_own_window(clock: Clock) -> None:
    """Messages that are kept for ever do not keep receipts, nor the other way round."""
    published_long_ago(1)

    def receipt(days: int) -> None:
        changed = timezone.now() - timedelta(days=days)
        Receipt.objects.create(handler="h", source="/s", message_id="m", type="t", changed=changed)

    def pruned() -> tuple[bool, bool]:
        keeper = housekeeping("default", 60)
        for _ in range(10):
            clock.now += 60
            keeper.turn()
        return not Message.objects.exists(), not Receipt.objects.exists()

    receipt(days=40)
    with override_settings(OUTBOX={"LANES": 2, "RETENTION": None}):
        assert pruned() == (False, True)
    receipt(days=4000)
    with override_settings(INBOX={"RETENTION": None}):
        assert pruned() == (True, False)


def test_one_process_does_it(clock: Clock) -> None:
    """While another one prunes, this one comes back at the next round."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    published_long_ago(1)
    keeper = housekeeping("default", 60)
    clock.now += 60
    with transaction.atomic(), sessions(1) as [other]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PRUNE_KEY])
        assert other.run(keeper.turn) == 0
    assert keeper.turn() == 0
    clock.now += 60

    assert keeper.turn() == 1


def test_a_database_error_puts_it_off(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A relay does not end because there is nothing to prune with."""

    def broken(using: str, **_: Any) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")
        return 0

    keeper = housekeeping("default", 60)
    with pytest.MonkeyPatch.context() as patch:
        [pruner] = [each for each in pruners() if each.name == "messages"]
        patch.setattr(
            "outbox.extensions.pruning.pruners",
            lambda: [type(pruner)(name="messages", prune=broken)],
        )
        clock.now += 60
        assert keeper.turn() == 0
    published_long_ago(1)
    clock.now += 60

    assert "Housekeeping is put off" in caplog.text
    assert turns(keeper, clock, 1, lambda: not Message.objects.exists()) == 1


@pytest.mark.slow
def test_a_running_relay_prunes(database_url: str) -> None:
    """A real relay publishes, and some time later what it published long ago is gone."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's test database is in memory")
    with transaction.atomic():
        outbox.emit_many([Happened("a", number) for number in range(20)])
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": "",
        "TEST_RELAY": '{"PRUNE_INTERVAL": 0.1}',
    }
    Message.objects.update(time=F("time") - timedelta(days=8))
    with running("relay", **environment) as process:
        process.wait_for(lambda: not Message.objects.exists())


@pytest.mark.parametrize("interval", [-1.0, 0.01, 100_000.0])
def test_the_interval_has_bounds(interval: float) -> None:
    """Neither all the time nor next year."""
    with pytest.raises(outbox.ConfigurationError, match="PRUNE_INTERVAL"):
        RelaySettings(BACKEND="x", PRUNE_INTERVAL=interval)


@pytest.mark.parametrize(
    ("process", "level"),
    [("relay", logging.INFO), ("consume", logging.WARNING), ("", logging.WARNING)],
)
def test_what_it_may_not_delete_it_leaves_to_others(
    clock: Clock, caplog: pytest.LogCaptureFixture, process: str, level: int
) -> None:
    """Without rights on receipts messages are deleted all the same, and that is said once.

    Without a warning where such a process needs none: a relay leaves receipts to consumers.
    """
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no rights")
    published_long_ago(3)

    def denied(using: str, *, before: datetime, limit: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE nobody_at_all")
            cursor.execute("SET LOCAL ROLE nobody_at_all")
            cursor.execute("SELECT FROM django_inbox_receipt")
        raise AssertionError

    [messages] = [each for each in pruners() if each.name == "messages"]
    first = Pruner(name="receipts", prune=denied)
    caplog.set_level(logging.INFO, "relay")
    log = logging.getLogger("relay")
    keeping = Housekeeping("default", 60.0, lambda: [first, messages], log, process=process)
    for _ in range(3):
        clock.now += 120
        while keeping.turn() or keeping._left:
            clock.now += 10

    assert not Message.objects.exists()
    [told] = [record for record in caplog.records if "We may not delete" in record.message]
    assert told.message.startswith("We may not delete old receipts, and leave that to others")
    assert told.levelno == level
