"""What a relay counts and times."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import outbox
from outbox import instruments
from outbox.models import Scheduled
from relay.brokers.base import CONFIRMED, Status
from relay.instruments import published
from relay.loop import Relay
from relay.replay import Replay, Selection
from tests.kit.calls import calls_of
from tests.kit.metrics import Recorder, recording
from tests.kit.support import Counted, RecordingBroker

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.usefixtures("two_lanes"),
    pytest.mark.django_db(transaction=True),
]

MakeRelay = Callable[..., Relay]
PUBLISHED = "relay_published_total"


@pytest.fixture
def broker() -> RecordingBroker:
    found = RecordingBroker()
    found.messaging_system = "memory"
    return found


@pytest.fixture
def recorder(two_lanes: None) -> Iterator[Recorder]:
    """Set in place after the settings, with which exporters are chosen anew."""
    with recording() as found:
        yield found


def commit(*numbers: int, key: str = "a") -> list[outbox.Envelope]:
    with transaction.atomic():
        return outbox.emit_many([Counted(key, number) for number in numbers])


def test_what_is_confirmed(make: MakeRelay, recorder: Recorder) -> None:
    """The messages, the pages, and how long each message took from when it was emitted."""
    commit(*range(5))
    assert make(PAGE_SIZE=2).run_until_empty()

    assert recorder.of(PUBLISHED) == {("test", "confirmed"): 5}
    assert recorder.details[PUBLISHED, "test", "confirmed"] == {("memory", "")}
    assert len(recorder.values["relay_publish_seconds", "test"]) == 3
    delivered = recorder.values["relay_delivery_seconds", "test"]
    assert len(delivered) == 5
    assert 0 <= min(delivered) <= max(delivered) < 60


def test_what_is_refused(make: MakeRelay, recorder: Recorder, broker: RecordingBroker) -> None:
    """By what the broker says, each time. What waits behind it was not sent."""
    first, _ = commit(1, 2)
    commit(3, key="b")
    broker.refuse[first.id] = Status.UNROUTABLE
    make().run_once()

    assert recorder.of(PUBLISHED) == {
        ("test", "unroutable"): 1,
        ("test", "confirmed"): 1,
    }
    assert recorder.details[PUBLISHED, "test", "unroutable"] == {("memory", "unroutable")}
    assert len(recorder.values["relay_delivery_seconds", "test"]) == 1


def test_a_broker_that_is_away(
    make: MakeRelay, recorder: Recorder, broker: RecordingBroker
) -> None:
    """What was tried is counted as unknown, and for how long the broker was away."""
    commit(1)
    relay = make()
    broker.away = "gone"
    relay.sweep()
    time.sleep(0.15)
    relay.sweep()
    so_far = recorder.sums["outbox_outage_seconds_total", "relay", "test", "broker"]
    assert so_far > 0.1
    broker.away = ""
    time.sleep(0.15)
    assert relay.run_until_empty()

    assert recorder.of(PUBLISHED)["test", "confirmed"] == 1
    assert recorder.of(PUBLISHED)["test", "unknown"] >= 2
    assert recorder.sums["outbox_outage_seconds_total", "relay", "test", "broker"] > so_far


def test_an_adapter_that_raises(
    make: MakeRelay, recorder: Recorder, broker: RecordingBroker
) -> None:
    """Its page is counted as an error, of this type, and then what comes of it in pieces."""
    commit(1, 2)

    def fail_once() -> None:
        broker.before_confirming = None
        raise LookupError("a defect")

    broker.before_confirming = fail_once
    assert make().run_until_empty()

    assert recorder.of(PUBLISHED) == {("test", "error"): 2, ("test", "confirmed"): 2}
    assert recorder.details[PUBLISHED, "test", "error"] == {("memory", "LookupError")}


def test_what_is_scheduled_counts_from_when_it_is_due(make: MakeRelay, recorder: Recorder) -> None:
    """An hour that a message was meant to wait is no hour that somebody waited for it."""
    with transaction.atomic():
        outbox.emit(Counted("k", 1), delay=3600)
    Scheduled.objects.update(due_at=datetime.now(UTC) - timedelta(seconds=5))
    assert make().run_until_empty()

    [delivered] = recorder.values["relay_delivery_seconds", "test"]
    assert 5 <= delivered < 60


def test_a_replay_is_not_counted(
    make: MakeRelay, recorder: Recorder, broker: RecordingBroker
) -> None:
    """It would tell that messages of last week took a week."""
    commit(1, 2)
    make().run_until_empty()
    calls = recorder.calls
    replay = Replay("test", broker, Selection(), using="default")
    replay.begin()
    while replay.page():
        pass

    assert broker.numbers() == [1, 2, 1, 2]
    assert recorder.calls == calls


@pytest.mark.usefixtures("on_disk_at_once")
def test_it_costs_no_statement(make: MakeRelay, recorder: Recorder) -> None:
    """With metrics it takes as many as without."""
    relay = make()
    counts: dict[bool, set[int]] = {True: set(), False: set()}
    for number in range(40):  # now and then a relay has something else to do as well
        counted = number % 4 < 2
        instruments.use(*[recorder] * counted)
        commit(1, 2, 3)
        with CaptureQueriesContext(connection) as queries:
            relay.run_once()
        counts[counted].add(len(queries))
    assert min(counts[True]) == min(counts[False])
    assert recorder.of(PUBLISHED) == {("test", "confirmed"): 60}


def test_a_message_costs_no_call_of_its_own_but_few(
    recorder: Recorder, broker: RecordingBroker
) -> None:
    """What the exporter does with a page, and how long that takes, is in the bench."""
    page = commit(*range(1000))
    outcomes = [CONFIRMED] * len(page)
    calls = calls_of(lambda: published("test", broker, page, outcomes, 0.0))
    assert calls < 2 * len(page)
