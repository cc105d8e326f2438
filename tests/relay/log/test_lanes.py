"""Which lanes are read, and from where, when their number changes."""

from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.conf import outbox_settings
from outbox.models import Message
from relay.log import Log, open_log
from relay.log.base import Start
from relay.models import Checkpoint
from relay.reports.publications import publications
from relay.reports.state import State, cursors, few_pending, published, states
from relay.transfer import transfer
from tests.kit.sessions import sessions
from tests.kit.support import Counted, RecordingBroker

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = "abcdefgh"


@pytest.fixture(autouse=True)
def lanes() -> Iterator[type[override_settings]]:
    with override_settings(OUTBOX={"LANES": 1}):
        yield override_settings


def log_of(start: Start) -> Log:
    return open_log("test", using="default", start=start)


def commit(*numbers: int) -> None:
    """Commit events of many keys, so that each lane gets some."""
    with transaction.atomic():
        outbox.emit_many([Counted(key, number) for number in numbers for key in KEYS])


def read_all(log: Log, broker: RecordingBroker) -> list[int]:
    """Publish all there is; return the numbers that came out since the last time."""
    before = len(broker.published)
    while found := log.lanes_with_work(outbox_settings().LANES):
        for lane in found:
            transfer(log, broker, lane, 100)
    return sorted({*broker.numbers()[before:]})


def used_lanes() -> set[int]:
    return set(Message.objects.values_list("lane", flat=True))


@pytest.mark.sqlite
def test_lanes_that_are_no_longer_used_are_read_to_their_end() -> None:
    """With fewer lanes than before, what stands in the others is published all the same."""
    with override_settings(OUTBOX={"LANES": 8}):
        commit(1)
        assert len(used_lanes()) > 2
    broker = RecordingBroker()
    read_all(log_of("beginning"), broker)

    assert len(broker.published) == len(KEYS)
    assert log_of("beginning").lanes_with_work(1) == []


@pytest.mark.sqlite
def test_new_lanes_start_where_the_relay_started() -> None:
    """A relay from "now" misses nothing of lanes that it has not looked at since they are used."""
    with override_settings(OUTBOX={"LANES": 8}):
        commit(1)
    broker = RecordingBroker()
    assert read_all(log_of("now"), broker) == []
    commit(2)
    assert read_all(log_of("now"), broker) == [2]
    with override_settings(OUTBOX={"LANES": 8}):
        commit(3)
        assert read_all(log_of("now"), broker) == [3]
        commit(4)
        assert read_all(log_of("now"), broker) == [4]

    assert len(broker.published) == 3 * len(KEYS)


@pytest.mark.sqlite
def test_a_relay_starts_from_now_only_once() -> None:
    """What commits while it is down, before it ever published, is not skipped by a second start."""
    commit(1)
    log = log_of("now")
    assert log.lanes_with_work(4) == [0]
    transfer(log, RecordingBroker(), 0, 100)
    assert log.lanes_with_work(4) == []
    with override_settings(OUTBOX={"LANES": 4}):
        commit(2)

        assert read_all(log_of("now"), RecordingBroker()) == [2]


@pytest.mark.sqlite
def test_processes_that_start_at_once_agree_on_when() -> None:
    """Only one lane is open to a relay that has yet to start, so that there is one start."""
    with override_settings(OUTBOX={"LANES": 4}):
        commit(1)
        assert log_of("now").lanes_with_work(4) == [0]


@pytest.mark.sqlite
@pytest.mark.parametrize("start", ["now", "beginning"])
def test_start_is_for_a_relay_without_a_checkpoint(start: Start) -> None:
    """A relay that has begun keeps its start in all lanes, whatever START says later."""
    with override_settings(OUTBOX={"LANES": 8}):
        commit(1)
    other: Start = "beginning" if start == "now" else "now"
    transfer(log_of(start), RecordingBroker(), 0, 100)
    broker = RecordingBroker()
    read_all(log_of(other), broker)

    rest = Message.objects.exclude(lane=0).count()
    assert len(broker.published) == (0 if start == "now" else rest)


@pytest.mark.sqlite
def test_an_idle_look_at_lanes_without_a_chain_writes_nothing() -> None:
    """A lane that was never read and has nothing new is no work, at one statement for all."""
    with override_settings(OUTBOX={"LANES": 8}):
        commit(1)
    log = log_of("now")
    read_all(log, RecordingBroker())
    with CaptureQueriesContext(connection) as queries:
        assert log.lanes_with_work(64) == []

    assert len(queries) == 1
    assert Checkpoint.objects.count() == 1


@pytest.mark.sqlite
def test_states_know_the_start_in_every_lane() -> None:
    """Before the start: skipped, also in a lane without a chain. After it: pending, published."""
    with override_settings(OUTBOX={"LANES": 8}):
        commit(1)
        log, broker = log_of("now"), RecordingBroker()
        read_all(log, broker)
        commit(2)
        assert state_of(1) == {State.SKIPPED}
        assert state_of(2) == {State.PENDING}
        read_all(log, broker)
        with transaction.atomic():
            outbox.emit(Counted("a", 3))

        assert state_of(1) == {State.SKIPPED}
        assert state_of(2) == {State.PUBLISHED}
        assert state_of(3) == {State.PENDING}


def test_what_was_in_flight_at_the_start_is_published_in_every_lane() -> None:
    """A lane without a chain still gets what commits late, and calls it pending until then."""
    with sessions(1) as [slow], override_settings(OUTBOX={"LANES": 8}):
        slow.begin()
        slow.run(outbox.emit_many, [Counted(key, 1) for key in KEYS])
        commit(2)
        log, broker = log_of("now"), RecordingBroker()
        assert read_all(log, broker) == []
        slow.commit()
        assert state_of(1) == {State.PENDING}
        assert state_of(2) == {State.SKIPPED}

        assert read_all(log, broker) == [1]
        assert state_of(1) == {State.PUBLISHED}


def state_of(number: int) -> set[State]:
    """Return the states of the events with this number; every way to ask must say the same."""
    messages = [m for m in Message.objects.all() if bytes(m.data).endswith(b":%d}" % number)]
    found = states([m.pk for m in messages], ["test"], "default")
    result = {found[m.pk]["test"] for m in messages}
    assert result == {publications(m, ["test"])[0].state for m in messages}
    newest = cursors("default")
    pks = {m.pk for m in messages}
    pending = set(few_pending(Message.objects.all(), newest, 1000) or ())
    assert (State.PENDING in result) == bool(pks & pending)
    done = {m.pk for m in published(Message.objects.all(), "test", newest)}
    assert (State.PUBLISHED in result) == bool(pks & done)
    return result
