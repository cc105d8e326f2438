"""Replay: what a relay has published goes out again, and nothing else."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.message.celery_task import TASK_TYPE
from outbox.models import Message
from relay.brokers.base import Status
from relay.exceptions import ReplayHalted
from relay.log import Log, open_log
from relay.models import Checkpoint
from relay.replay import Extent, Replay, Selection, envelope
from relay.transfer import transfer
from tests.kit.support import Counted, RecordingBroker, Registered

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.usefixtures("two_lanes"),
    pytest.mark.django_db(transaction=True),
]

LANES = 2


def commit(*numbers: int, key: str = "a") -> None:
    with transaction.atomic():
        outbox.emit_many([Counted(key, number) for number in numbers])


def publish(relay: str = "mine", log: Log | None = None) -> list[str]:
    """Publish all there is; return the ids."""
    broker = RecordingBroker()
    log = log or open_log(relay, using="default")
    while lanes := log.lanes_with_work(LANES):
        for lane in lanes:
            transfer(log, broker, lane, 100)
    return [each.id for each in broker.published]


def replay(selection: Selection | None = None, **options: int) -> Replay:
    found = Replay("mine", RecordingBroker(), selection or Selection(), using="default", **options)
    found.begin()
    return found


def drain(run: Replay) -> list[int]:
    while run.page():
        pass
    assert isinstance(run.broker, RecordingBroker)
    return run.broker.numbers()


def positions() -> list[int]:
    return list(Message.objects.order_by("pk").values_list("pk", flat=True))


def test_what_was_published_is_published_again_in_order() -> None:
    """All of it, in the order of emission, byte for byte what went out before."""
    commit(1, 2, key="a")
    commit(3, key="b")
    commit(4, key="a")
    first = publish()
    run = replay()

    assert drain(run) == [1, 2, 3, 4]
    assert isinstance(run.broker, RecordingBroker)
    again = run.broker.published
    assert sorted(each.id for each in again) == sorted(first)
    assert run.published == 4
    broker = RecordingBroker()
    for lane in range(LANES):
        transfer(open_log("another", using="default"), broker, lane, 100)
    assert sorted(broker.published, key=lambda each: each.id) == sorted(
        again, key=lambda each: each.id
    )


def test_the_cursor_stays_where_it_is() -> None:
    """A replay leaves no checkpoint: the relay goes on as if nothing had happened."""
    commit(1)
    publish()
    before = Checkpoint.objects.count()
    drain(replay())
    assert Checkpoint.objects.count() == before
    commit(2)

    assert len(publish()) == 1


def test_what_is_pending_is_left_to_the_relay() -> None:
    """Neither what the relay has yet to publish nor what another relay has published."""
    commit(1)
    publish()
    commit(2)
    publish("other")

    assert drain(replay()) == [1]


def test_what_the_relay_never_published_is_not_published_again() -> None:
    """What was there before a relay's START "now" was not published by it."""
    commit(1)
    log = open_log("mine", using="default", start="now")
    publish(log=log)
    commit(2)
    publish(log=log)

    assert drain(replay()) == [2]


def test_it_ends_at_what_was_there_when_it_began() -> None:
    """Messages that the relay publishes meanwhile do not keep it going."""
    commit(1, 2)
    publish()
    run = replay(page_size=1)
    run.page()
    commit(3)
    publish()

    assert drain(run) == [1, 2]


def test_a_range_of_positions_includes_both_ends() -> None:
    """From and to are positions that are replayed."""
    commit(1, 2, 3, 4)
    publish()
    _, second, third, _ = positions()

    selection = Selection(from_position=second, to_position=third)
    assert drain(replay(selection)) == [2, 3]


def test_a_range_of_times_includes_both_ends() -> None:
    """Since and until are compared with the time of emission."""
    for number in range(4):
        commit(number)
    publish()
    times = list(Message.objects.order_by("pk").values_list("time", flat=True))
    assert len(set(times)) == 4

    assert drain(replay(Selection(since=times[1], until=times[2]))) == [1, 2]
    assert drain(replay(Selection(since=times[3] + timedelta(seconds=1)))) == []


def test_types_are_patterns_of_which_one_must_match(registered: Registered) -> None:
    """Event types by name, by `*` and by `#`."""
    for name in ("t.order.placed", "t.order.line.added", "t.refund", "other"):
        registered(name)
        with transaction.atomic():
            outbox.emit(name, {"number": 1})
    publish()

    def types(*patterns: str) -> list[str]:
        run = replay(Selection(types=patterns))
        drain(run)
        assert isinstance(run.broker, RecordingBroker)
        return [each.type for each in run.broker.published]

    assert types("t.order.*") == ["t.order.placed"]
    assert types("t.order.#") == ["t.order.placed", "t.order.line.added"]
    assert types("other", "t.*") == ["t.refund", "other"]
    assert len(types("#")) == 4


def test_tasks_only_if_they_are_asked_for() -> None:
    """Most of them would run a second time."""
    commit(1, 2)
    publish()
    Message.objects.filter(pk=positions()[1]).update(type=TASK_TYPE)

    assert drain(replay()) == [1]
    assert drain(replay(Selection(types=("#",)))) == [1]
    assert drain(replay(Selection(types=(TASK_TYPE,)))) == [2]


def test_one_key() -> None:
    """Messages of one key, and of no other."""
    commit(1, 3, key="a")
    commit(2, key="b")
    publish()

    assert drain(replay(Selection(key="a"))) == [1, 3]


@pytest.mark.parametrize("messages", [1, 10, 100])
def test_a_page_costs_two_statements_however_full(messages: int) -> None:
    """Which messages are next, then those messages; nothing for each of them."""
    commit(*range(messages))
    publish()
    run = replay(page_size=100)
    with CaptureQueriesContext(connection) as queries:
        assert run.page()

    statements = [q["sql"] for q in queries if q["sql"] not in ("BEGIN", "COMMIT")]
    assert len([each for each in statements if not each.startswith("BEGIN")]) == 2, statements
    assert run.published == messages


def test_pages_are_bounded_by_bytes() -> None:
    """A page ends before its data is too large, and has one message in any case."""
    commit(1, 2, 3, 4, 5)
    publish()
    size = len(bytes(Message.objects.earliest("pk").data))
    for page_bytes, pages in ((2 * size, [2, 2, 1]), (1, [1] * 5)):
        run = replay(page_bytes=page_bytes)
        assert drain(run) == [1, 2, 3, 4, 5]
        assert isinstance(run.broker, RecordingBroker)
        assert run.broker.pages == pages


def test_a_refused_message_halts_it_and_says_where() -> None:
    """What came before it is published; going on from there sends nothing twice."""
    commit(1, 2, 3)
    publish()
    run = replay()
    assert isinstance(run.broker, RecordingBroker)
    refused = Message.objects.order_by("pk")[1]
    run.broker.refuse[str(refused.message_id)] = Status.UNROUTABLE
    with pytest.raises(ReplayHalted, match=f"{refused.message_id} is refused: refused by") as halt:
        run.page()

    assert halt.value.position == refused.pk
    assert run.published == 1
    assert drain(replay(Selection(from_position=refused.pk))) == [2, 3]


def test_an_outage_halts_it_and_says_where() -> None:
    """Nothing of the page is taken for published."""
    commit(1, 2)
    publish()
    run = replay(page_size=1)
    run.page()
    assert isinstance(run.broker, RecordingBroker)
    run.broker.away = "no route to host"
    with pytest.raises(ReplayHalted, match="The broker is away: no route to host") as halt:
        run.page()

    assert halt.value.position == positions()[1]


def test_how_much_it_would_be() -> None:
    """Count and positions, without publishing."""
    commit(1, 2, 3)
    publish()
    first, second, third = positions()

    assert replay().extent() == Extent(count=3, first=first, last=third)
    assert replay(Selection(to_position=second)).extent() == Extent(
        count=2, first=first, last=second
    )
    assert replay(Selection(key="none")).extent() == Extent(count=0, first=None, last=None)


def test_a_range_that_starts_before_the_log_is_told() -> None:
    """What retention has deleted can't come again, and nobody shall think it did."""
    commit(1, 2)
    publish()
    first, second = positions()
    Message.objects.filter(pk=first).delete()
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)

    def told(selection: Selection) -> str:
        return Replay("mine", RecordingBroker(), selection, using="default").begin()

    for selection in (Selection(from_position=1), Selection(since=long_ago)):
        assert f"begins at position {second}" in told(selection)
    assert told(Selection(from_position=second)) == told(Selection(key="a")) == ""
    Message.objects.all().delete()
    assert told(Selection()) == "The log is empty."


def test_an_envelope_of_a_row_is_what_was_emitted() -> None:
    """Every field, extension attributes too."""
    with transaction.atomic():
        [emitted] = outbox.emit_many(
            [outbox.Draft(event=Counted("a", 1), subject="s", attributes={"tenant": "x", "n": 1})]
        )

    assert envelope(Message.objects.get()) == emitted
