"""One message that cannot be sent is parked alone; what fails for all is an outage."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from django.db import DataError, IntegrityError, connection, transaction

import outbox
from outbox.message.envelope import Envelope
from outbox.models import Message
from outbox.runtime.shutdown import Shutdown
from relay.brokers.base import CONFIRMED, Outcome, Status
from relay.conf import RelaySettings
from relay.exceptions import ReplayHalted
from relay.isolation import IN_A_ROW, Isolation
from relay.log import open_log
from relay.loop import Relay
from relay.models import Checkpoint, Parked
from relay.parking.people import discard
from relay.replay import Replay, Selection
from relay.states import ParkedState
from tests.kit.support import Counted, RecordingBroker

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.usefixtures("one_lane"),
    pytest.mark.django_db(transaction=True),
]

RELAY = "isolation"


class Failing(RecordingBroker):
    """Fails at the messages whose numbers are in `bad`, in the way that `fail` says."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: set[str] = set()
        self.fail: Callable[[Sequence[Envelope], int], list[Outcome]] = breaks_off
        self.calls: list[int] = []

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        self.calls.append(len(page))
        first = next((n for n, each in enumerate(page) if each.id in self.bad), None)
        if self.away or first is None:
            return super().publish(page)
        return self.fail(page, first)


def breaks_off(page: Sequence[Envelope], first: int) -> list[Outcome]:
    """The connection is lost over it, and nothing is known of the page."""
    return [Outcome(Status.UNKNOWN, "connection lost")] * len(page)


def raises_odd_errors(page: Sequence[Envelope], first: int) -> list[Outcome]:
    raise KeyError("a defect of the adapter")


def returns_too_little(page: Sequence[Envelope], first: int) -> list[Outcome]:
    return [CONFIRMED] * (len(page) - 1)


def returns_nothing(page: Sequence[Envelope], first: int) -> list[Outcome]:
    return None  # type: ignore[return-value]


def breaks_the_transaction(page: Sequence[Envelope], first: int) -> list[Outcome]:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name) VALUES ('lost', 'lost')")
        cursor.execute("SELECT CAST('1' AS integer) / 0 AS odd")
    raise DataError("where a database has no such error")


def swallows_what_breaks_the_transaction(page: Sequence[Envelope], first: int) -> list[Outcome]:
    with transaction.atomic(savepoint=False):
        pass
    try:
        with transaction.atomic(savepoint=False):
            raise IntegrityError("swallowed")
    except IntegrityError:
        return [CONFIRMED] * len(page)


WAYS = [
    breaks_off,
    raises_odd_errors,
    returns_too_little,
    returns_nothing,
    breaks_the_transaction,
    swallows_what_breaks_the_transaction,
]


@pytest.fixture
def broker() -> Failing:
    return Failing()


@pytest.fixture
def make(broker: Failing) -> Iterator[Callable[..., Relay]]:
    made = []

    def make(**options: object) -> Relay:
        options = {"RETRY_MAX": 0.1, "PARK_MIN": 100.0, "PARK_MAX": 300.0} | options
        conf = RelaySettings(BACKEND="tests", **options)  # type: ignore[arg-type]
        made.append(Relay(open_log(RELAY, using="default"), broker, conf, Shutdown()))
        return made[-1]

    yield make
    for relay in made:
        relay.close()
        relay._shutdown.close()


def commit(*keys: str, first: int = 0) -> list[Envelope]:
    """Emit one event for each key."""
    with transaction.atomic():
        return outbox.emit_many([Counted(key, first + n) for n, key in enumerate(keys)])


def sweep_until(relay: Relay, condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        relay.sweep()
        time.sleep(0.001)


def parked() -> list[tuple[str, str]]:
    return list(Parked.objects.order_by("position").values_list("message_id", "state"))


@pytest.mark.parametrize("way", WAYS)
def test_one_that_cannot_be_sent_is_parked_and_the_others_are_published(
    make: Callable[..., Relay], broker: Failing, way: Callable[..., list[Outcome]]
) -> None:
    """However the adapter fails; what is behind it of its key waits, a person can discard it."""
    messages = commit("a", "b", "bad", "c", "bad", "a", "b")
    broker.bad, broker.fail = {messages[2].id}, way
    relay = make()

    sweep_until(relay, Parked.objects.exists)

    assert [state for _, state in parked()] == [ParkedState.PARKED, ParkedState.WAITING]
    refused = Parked.objects.get(state=ParkedState.PARKED)
    assert str(refused.message_id) == messages[2].id
    assert refused.reason == Status.REFUSED
    assert refused.error.startswith("it fails again while others pass: ")
    others = [each.id for n, each in enumerate(messages) if n not in (2, 4)]
    assert [each for each in dict.fromkeys(e.id for e in broker.published) if each in others]
    for key in "abc":
        mine = [each.id for each in messages if each.key == key]
        seen = dict.fromkeys(e.id for e in broker.published if e.key == key)
        assert list(seen) == mine
    assert not relay.troubled
    assert discard(Parked.objects.filter(pk=refused.pk), by="a person")
    sweep_until(relay, lambda: messages[4].id in {each.id for each in broker.published})
    assert not relay._parking.open.exists()


@pytest.mark.parametrize("way", WAYS)
def test_what_fails_for_all_is_an_outage(
    make: Callable[..., Relay], broker: Failing, way: Callable[..., list[Outcome]]
) -> None:
    """No message is blamed, however long it lasts; few are tried, and all pass after it."""
    messages = commit(*"abcdefghij")
    broker.bad, broker.fail = {each.id for each in messages}, way
    relay = make()

    sweep_until(relay, lambda: len(broker.calls) > 40)

    assert not Parked.objects.exists()
    assert not Checkpoint.objects.exists()
    assert not broker.published
    broker.bad = set()
    sweep_until(relay, lambda: len(broker.published) >= 10)
    assert [each.id for each in broker.published] == [each.id for each in messages]
    assert not relay.troubled


def test_an_outage_after_an_outage_blames_nobody(
    make: Callable[..., Relay], broker: Failing
) -> None:
    """What has got through in between is no longer suspected when the broker is away again."""
    relay = make()
    for round_ in range(5):
        [*_] = commit(*"abcd", first=10 * round_)
        broker.away = "gone"
        before = relay.progress.broker.failures
        sweep_until(relay, lambda b=before: relay.progress.broker.failures > b + 3)
        broker.away = ""
        sweep_until(relay, lambda r=round_: len(broker.published) == 4 * (r + 1))

    assert not Parked.objects.exists()


def test_many_that_cannot_be_sent_among_others(make: Callable[..., Relay], broker: Failing) -> None:
    """Each is parked, no other is, in the order of the keys."""
    messages = commit(*(f"k{n % 40}" for n in range(200)))
    broker.bad = {each.id for each in messages[3::17]}
    relay = make()

    expected = {each.key for each in messages if each.id in broker.bad}
    sweep_until(relay, lambda: Parked.objects.filter(state=ParkedState.PARKED).count() >= 10)
    sweep_until(relay, lambda: not relay.troubled and not relay.sweep())

    assert set(Parked.objects.values_list("key", flat=True)) <= expected
    first_bad: dict[str | None, int] = {}
    for n, each in enumerate(messages):
        if each.id in broker.bad:
            first_bad.setdefault(each.key, n)
    for key in {each.key for each in messages}:
        mine = [n for n, each in enumerate(messages) if each.key == key]
        stop = first_bad.get(key, len(messages))
        seen = dict.fromkeys(each.id for each in broker.published if each.key == key)
        assert list(seen) == [messages[n].id for n in mine if n < stop]


def test_a_parked_one_that_fails_again_delays_no_fresh_message(
    make: Callable[..., Relay], broker: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    """In a process that knows nothing of it, too; its attempts are counted, and end."""
    messages = commit("bad", "a")
    broker.bad = {messages[0].id}
    sweep_until(make(PARK_MIN=0.001, PARK_MAX=0.001), Parked.objects.exists)

    relay = make(PARK_MIN=0.001, PARK_MAX=0.001, PARK_ATTEMPTS=5)
    number = 10

    def dead() -> bool:
        nonlocal number
        number += 1
        [fresh] = commit(f"k{number}", first=number)
        sweep_until(relay, lambda: fresh.id in {each.id for each in broker.published})
        return Parked.objects.filter(state=ParkedState.DEAD).exists()

    sweep_until(relay, dead)
    assert Parked.objects.get().attempts == 5


def test_one_alone_is_parked_as_soon_as_another_passes(
    make: Callable[..., Relay], broker: Failing
) -> None:
    """Alone it may as well be the broker's fault; it is not forgotten that it has failed.

    However long it was alone, the next page is large enough to show others.
    """
    [bad] = commit("bad")
    broker.bad = {bad.id}
    relay = make()
    sweep_until(relay, lambda: len(broker.calls) > 20)
    assert not Parked.objects.exists()
    assert relay.troubled

    [good] = commit("a", first=1)
    sweep_until(relay, Parked.objects.exists)

    assert [each.id for each in broker.published] == [good.id]
    assert not relay.troubled


def test_until_empty_gets_past_an_adapter_that_raises(
    make: Callable[..., Relay], broker: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    """Its traceback is logged, once for a page."""
    messages = commit("a", "bad", "b")
    broker.bad, broker.fail = {messages[1].id}, raises_odd_errors

    assert not make().run_until_empty()

    assert {each.id for each in broker.published} == {messages[0].id, messages[2].id}
    assert Parked.objects.get().error.endswith("KeyError: 'a defect of the adapter'")
    told = [r for r in caplog.records if r.exc_info]
    assert len(told) == 1
    assert "published in pieces" in told[0].getMessage()


def test_what_a_failing_adapter_wrote_to_our_database_is_undone(
    make: Callable[..., Relay], broker: Failing
) -> None:
    """Its messages count as not sent, so nothing of them may remain."""
    messages = commit("a", "bad", "b")
    broker.bad, broker.fail = {messages[1].id}, breaks_the_transaction
    sweep_until(make(), Parked.objects.exists)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_migrations WHERE app = 'lost'")
        assert cursor.fetchone() == (0,)


def test_an_outage_costs_few_attempts(broker: Failing) -> None:
    """Of a page of a thousand, three messages are tried before the broker counts as away."""
    page = [Envelope(id=str(n), source="/t", type="t", data=b"") for n in range(1000)]
    broker.away = "gone"
    isolation = Isolation("default")
    for calls in (1, IN_A_ROW, IN_A_ROW):
        broker.calls.clear()
        with transaction.atomic():
            outcomes = isolation.publish(broker, page, 0)
        assert outcomes == [Outcome(Status.UNKNOWN, "gone")] * 1000
        assert len(broker.calls) == calls


def test_a_broker_that_is_back_gets_whole_pages_soon(broker: Failing) -> None:
    """A thousand messages in ten calls, and the next page in one."""
    page = [Envelope(id=str(n), source="/t", type="t", data=b"") for n in range(1000)]
    isolation = Isolation("default")
    broker.away = "gone"
    with transaction.atomic():
        isolation.publish(broker, page, 0)
    broker.away = ""
    broker.calls.clear()
    with transaction.atomic():
        assert isolation.publish(broker, page, 0) == [CONFIRMED] * 1000
        assert len(broker.calls) == 10
        isolation.publish(broker, page, 0)
    assert len(broker.calls) == 11


@pytest.mark.parametrize("way", [breaks_off, raises_odd_errors])
def test_a_replay_stops_at_the_one_that_cannot_be_sent(
    make: Callable[..., Relay], broker: Failing, way: Callable[..., list[Outcome]]
) -> None:
    """It names it, and where to go on; not the first of its page."""
    messages = commit("a", "b", "c", "d")
    sweep_until(make(), lambda: len(broker.published) == 4)
    broker.bad, broker.fail = {messages[2].id}, way
    run = Replay(RELAY, broker, Selection(), using="default")
    run.begin()

    with pytest.raises(ReplayHalted, match=f"{messages[2].id} is refused: it fails again") as halt:
        run.page()

    assert run.published == 2
    assert halt.value.position == Message.objects.get(message_id=messages[2].id).position


def test_the_errors_of_our_own_database_are_not_the_messages(
    make: Callable[..., Relay], broker: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    """A table that an adapter misses is an outage of the broker; nothing is parked."""
    commit("a", "b")

    def misses_a_table(page: Sequence[Envelope], first: int) -> list[Outcome]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")
        raise AssertionError

    broker.bad, broker.fail = set(Message.objects.values_list("message_id", flat=True)), breaks_off
    broker.bad = {str(each) for each in broker.bad}
    broker.fail = misses_a_table
    relay = make()
    with caplog.at_level(logging.ERROR, "relay"):
        assert relay.sweep() == 0
    assert relay.troubled
    assert "no_such_table" in caplog.text
    assert not Parked.objects.exists()
