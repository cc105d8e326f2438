"""Positions that are set back: nothing is skipped for it, and nothing taken for something else."""

from collections.abc import Callable, Iterator

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.models import Message
from relay.brokers.base import Status
from relay.log import PostgreSQLLog
from relay.models import Checkpoint, Parked
from relay.reports.state import State, states
from relay.states import ParkedState
from relay.transfer import transfer
from tests.kit.database import execute
from tests.kit.sessions import Session, sessions
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.usefixtures("two_lanes"), pytest.mark.django_db(transaction=True)]

LANES = 2


@pytest.fixture
def slow() -> Iterator[Session]:
    with sessions(1) as [session]:
        yield session


class Reading:
    """A relay that publishes into memory."""

    def __init__(self) -> None:
        self.log = PostgreSQLLog("test", using="default")
        self.broker = RecordingBroker()

    def page(self, lane: int, size: int = 100) -> None:
        transfer(self.log, self.broker, lane, size)

    def all(self, size: int = 100) -> list[int]:
        """Publish all there is; return the numbers of what was published by this call."""
        known = len(self.broker.published)
        while lanes := self.log.lanes_with_work(LANES):
            for lane in lanes:
                self.page(lane, size)
        return self.broker.numbers()[known:]


def emit(*numbers: int, key: str = "a") -> None:
    outbox.emit_many([Counted(key, number) for number in numbers])


def commit(*numbers: int, key: str = "a") -> None:
    with transaction.atomic():
        emit(*numbers, key=key)


SEQUENCE = "pg_get_serial_sequence('django_outbox_message', 'position')"


def truncate() -> None:
    execute("TRUNCATE django_outbox_message RESTART IDENTITY")


def alter_sequence() -> None:
    Message.objects.all().delete()
    execute("ALTER TABLE django_outbox_message ALTER COLUMN position RESTART")


def set_value() -> None:
    Message.objects.all().delete()
    execute(f"SELECT setval({SEQUENCE}, 1, false)")


RESTARTS = pytest.mark.parametrize("restart", [truncate, alter_sequence, set_value])
Restart = Callable[[], None]


@RESTARTS
@pytest.mark.parametrize("after", [5, 130])
def test_what_is_emitted_after_a_restart_is_published(restart: Restart, after: int) -> None:
    """Below and beyond the positions that were read before, all of it, in order, once."""
    reading = Reading()
    commit(*range(100))
    assert reading.all() == [*range(100)]
    restart()
    for number in range(after):
        commit(100 + number)

    assert reading.all(7) == [*range(100, 100 + after)]
    commit(1000)
    assert reading.all() == [1000]
    assert reading.all() == []


@RESTARTS
def test_a_restart_within_a_window(restart: Restart) -> None:
    """The rest of the window is gone; what comes is in the next."""
    reading = Reading()
    commit(*range(100))
    [lane] = reading.log.lanes_with_work(LANES)
    reading.page(lane, 40)
    restart()
    commit(*range(100, 110))

    assert reading.all(3) == [*range(100, 110)]
    commit(110)
    assert reading.all() == [110]


def test_a_restart_behind_a_large_window() -> None:
    """Where bounds are looked up, by the checkpoint that opened the window, as well."""
    reading = Reading()
    reading.log.large_window = 50  # type: ignore[misc]
    commit(*range(100))
    assert len(reading.all(30)) == 100
    truncate()
    commit(*range(100, 120))
    assert reading.all(7) == [*range(100, 120)]
    commit(*range(120, 300))

    assert reading.all(7) == [*range(120, 300)]


@RESTARTS
def test_a_transaction_that_began_before_the_restart(restart: Restart, slow: Session) -> None:
    """Its id is older than the restart, its position below what was read before."""
    reading = Reading()
    commit(*range(20))
    reading.all()
    slow.begin()
    slow.run(own_an_id)
    commit(20)
    assert reading.all() == [20]
    restart()
    slow.run(emit, 21)
    commit(22, key="b")
    assert reading.all() == [22]
    slow.commit()

    assert reading.all() == [21]


def own_an_id() -> None:
    execute("SELECT pg_current_xact_id()")


def test_a_sequence_that_was_set_back_while_no_relay_ran() -> None:
    """By now it has come farther than it was: a relay that starts looks at the first new rows."""
    commit(*range(100))
    Reading().all()
    set_value()
    for number in range(100, 230):
        commit(number)

    assert Reading().all(7) == [*range(100, 230)]


@RESTARTS
def test_what_was_parked_is_not_taken_for_what_comes_to_its_place(restart: Restart) -> None:
    """Another message at the position of a parked one is in the flow, and can be parked."""
    reading = Reading()
    commit(1, 2)
    for message in Message.objects.all():
        reading.broker.refuse[str(message.message_id)] = Status.UNROUTABLE
    reading.all()
    states_before = set(Parked.objects.values_list("state", flat=True))
    assert states_before == {ParkedState.PARKED, ParkedState.WAITING}
    restart()
    commit(3, 4, key="b")
    [first, second] = Message.objects.order_by("pk")
    reading.broker.refuse = {str(second.message_id): Status.UNROUTABLE}
    Parked.objects.update(next_attempt_at="2000-01-01T00:00Z")
    Parked.objects.update(state=ParkedState.PARKED)

    assert reading.all() == [3]
    found = states([first.pk, second.pk], ["test"], "default")
    assert found[first.pk]["test"] == State.PUBLISHED
    assert found[second.pk]["test"] == State.PARKED


@pytest.mark.usefixtures("on_disk_at_once")
def test_nothing_is_looked_up_where_nothing_was_set_back() -> None:
    """The statements of a page are as many as ever."""
    reading = Reading()
    commit(1)
    reading.all()
    commit(2)
    [lane] = reading.log.lanes_with_work(LANES)
    with CaptureQueriesContext(connection) as queries:
        reading.page(lane)

    told = [each["sql"] for each in queries]
    assert len([each for each in told if "pg_control_system" in each]) == 1
    assert not [each for each in told if "min(new.position)" in each or "UPDATE" in each]
    assert Checkpoint.objects.count() == 2


def test_rights_on_the_sequence_may_be_granted() -> None:
    """That gives it a new row in the catalog, too: one more look, and nothing else."""
    reading = Reading()
    commit(1, 2)
    reading.all()
    execute("GRANT SELECT ON SEQUENCE django_outbox_message_position_seq TO PUBLIC")
    commit(3)

    assert reading.all() == [3]
    execute("REVOKE SELECT ON SEQUENCE django_outbox_message_position_seq FROM PUBLIC")
    assert reading.all() == []
