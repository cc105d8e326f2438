"""Consuming a real queue: batches, acknowledgements, failures, stops and housekeeping."""

import itertools
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from amqp.channel import Channel
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from inbox import consumer as consumer_module
from inbox import retention
from inbox.handlers.registry import handlers
from inbox.ledger.ledger import Ledger
from inbox.models import DeadLetter, Receipt
from inbox.receiving.batch import Batch
from inbox.sources.amqp.subscription import Subscription
from inbox.verdicts import Retry, RetryPolicy
from outbox.exceptions import ConfigurationError
from outbox.extensions.pruning import Pruner
from outbox.message.envelope import Envelope
from outbox.runtime import housekeeping
from tests.inbox.support import (
    Handling,
    Mended,
    Queue,
    block_effects,
    closing_shutdown,
    effects,
    happened,
    heartbeats,
    in_thread,
    make_due,
    make_queue,
    postgresql,
    receive,
    record,
    states,
    waiting_for_lock,
)
from tests.kit.sessions import sessions
from tests.kit.support import amqp_message
from tests.kit.waiting import until
from tests.testapp.events import Happened

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Every (tag, multiple) that is acknowledged; each when its messages are committed."""
    sent: list[tuple[int, bool]] = []
    original = Channel.basic_ack

    def basic_ack(channel: Channel, tag: int, multiple: bool = False, **rest: Any) -> None:
        sent.append((tag, multiple))
        original(channel, tag, multiple=multiple, **rest)

    monkeypatch.setattr(Channel, "basic_ack", basic_ack)
    return sent


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every batch that is received."""
    sizes: list[int] = []

    def counted(deliveries: Any, **options: Any) -> Batch:
        sizes.append(len(deliveries))
        return Batch(deliveries, **options)

    monkeypatch.setattr(consumer_module, "Batch", counted)
    return sizes


class Attempts:
    """A handler that fails until it is mended, and notes when it was called."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.broken = True

    def __call__(self, event: Happened, message: Envelope) -> None:
        if event.number < 0:
            self.times.append(time.monotonic())
            if self.broken:
                raise ValueError("no luck")
        record(event, message)


# --- Batches and acknowledgements -----------------------------------------------------------


def test_messages_are_handled_and_gone(queue: Queue, handling: Handling) -> None:
    """Published to the exchange, handled, acknowledged, counted."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(10)])

    consumer = queue.drain()

    assert effects() == list(range(10))
    progress = consumer.progress
    assert (progress.received, progress.handled, progress.retrying) == (10, 10, 0)
    assert queue.ready() == 0


def test_what_is_prefetched_is_one_batch(
    queue: Queue, handling: Handling, batches: list[int]
) -> None:
    """No batch is larger than PREFETCH; a full queue is not handled one by one."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(40)])

    queue.drain(PREFETCH=10)

    assert effects() == list(range(40))
    # How many have arrived when a batch begins is up to the broker.
    assert 1 < max(batches) <= 10
    assert sum(batches) == 40


def test_a_batch_is_acknowledged_with_one_frame(
    queue: Queue, handling: Handling, batches: list[int], acks: list[tuple[int, bool]]
) -> None:
    """The last tag, and all before it."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(100)])

    queue.drain(PREFETCH=20)

    ends = [sum(batches[: n + 1]) for n in range(len(batches))]
    assert acks == [(end, True) for end in ends]


def test_a_failed_message_is_acknowledged_with_its_batch(
    queue: Queue, handling: Handling, acks: list[tuple[int, bool]]
) -> None:
    """It is in the database with its receipt, and nothing goes back to the broker."""
    handling(Attempts(), retry=RetryPolicy(base=3600, cap=3600))
    queue.declare()
    queue.publish(happened(1), happened(-2), happened(3))

    consumer = queue.drain()

    assert max(acks) == (3, True)
    assert (consumer.progress.handled, consumer.progress.retrying) == (2, 1)
    assert queue.ready() == 0
    assert states() == ["processed", "retrying", "processed"]


@postgresql
def test_nothing_is_acknowledged_before_the_commit(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the transaction waits for a lock there is no ack; at each, its receipts are there."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(5)])
    committed: list[int] = []
    original = Subscription.ack

    def ack(subscription: Subscription, tag: int, *, multiple: bool = False) -> None:
        with sessions(1) as [other]:
            committed.append(other.run(Receipt.objects.count))
        original(subscription, tag, multiple=multiple)

    monkeypatch.setattr(Subscription, "ack", ack)
    with sessions(1) as [blocker]:
        blocker.begin()
        blocker.run(block_effects)
        with queue.consuming() as consumer:
            until(waiting_for_lock)
            assert committed == []
            assert queue.ready() == 0
            blocker.commit()
            until(lambda: consumer.progress.received == 5)
            until(lambda: committed)

    assert sum(committed) >= 5
    assert 0 not in committed
    assert queue.ready() == 0


def test_a_message_that_is_not_acknowledged_comes_again_and_is_suppressed(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acknowledgement gets lost after the commit: no second effect, no second dead letter."""
    handling()
    queue.declare()
    strange = amqp_message(happened())
    strange.properties["application_headers"] = {"x": "y"}
    queue.publish(happened(1))
    queue.publish_raw((strange, "tests.happened"))
    with monkeypatch.context() as lossy, closing_shutdown() as shutdown:
        lossy.setattr(Subscription, "ack", lambda *_, **__: shutdown.request())
        queue.consumer(shutdown).run()
    until(lambda: queue.ready() == 2)

    consumer = queue.drain()

    assert (consumer.progress.duplicates, consumer.progress.dead) == (1, 1)
    assert effects() == [1]
    assert DeadLetter.objects.count() == 1
    assert queue.ready() == 0


@postgresql
def test_two_consumers_share_a_queue(queue: Queue, handling: Handling) -> None:
    """Every message is handled once, whoever gets it."""
    handling()
    queue.declare()
    with queue.consuming(PREFETCH=5) as one, queue.consuming(PREFETCH=5) as two:
        until(lambda: queue.consumers() == 2)
        queue.publish(*[happened(number) for number in range(200)])
        until(lambda: one.progress.handled + two.progress.handled == 200)

    assert sorted(effects()) == list(range(200))
    assert one.progress.handled
    assert two.progress.handled


def test_a_prefix_keeps_two_environments_apart(
    queue: Queue, handling: Handling, broker_url: str
) -> None:
    """With the same group on the same exchange, each has a queue and gets every message."""
    handling()
    staging = make_queue(broker_url, queue.name, QUEUE_PREFIX="staging.")
    queue.declare()
    staging.declare()
    try:
        queue.publish(happened(1))

        assert (queue.ready(), staging.ready()) == (1, 1)
        assert staging.drain().progress.handled == 1
        assert (queue.ready(), staging.ready()) == (1, 0)
    finally:
        staging.delete()


def test_a_batch_ends_in_time(
    queue: Queue,
    handling: Handling,
    batches: list[int],
    acks: list[tuple[int, bool]],
) -> None:
    """Slow handlers keep neither a stop nor what is due waiting for all that is prefetched."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(5)])
    consumer = queue.drain(BATCH_SECONDS=1e-9)

    assert effects() == list(range(5))
    assert consumer.progress.received == consumer.progress.handled == 5
    assert [tag for tag, _ in acks] == [1, 2, 3, 4, 5]
    assert batches[1:] == [1, 1, 1, 1]


# --- Failed messages ----------------------------------------------------------------------------


def test_a_failed_message_is_tried_again_until_it_is_handled(
    queue: Queue, handling: Handling
) -> None:
    """By the consumer itself, without another delivery."""
    attempts = Attempts()
    handling(attempts, retry=RetryPolicy(attempts=50, base=0.1, cap=0.1))
    queue.declare()
    queue.publish(happened(-1))

    with queue.consuming() as consumer:
        until(lambda: len(attempts.times) >= 3)
        attempts.broken = False
        until(lambda: consumer.progress.handled)

    assert effects() == [-1]
    assert consumer.progress.received == 1
    assert Receipt.objects.get().attempts == len(attempts.times)


def test_another_consumer_of_the_group_takes_over_what_is_due(
    queue: Queue, handling: Handling
) -> None:
    """A failure belongs to no process: the one that met it may be gone."""
    attempts = Attempts()
    handling(attempts)
    queue.declare()
    queue.publish(happened(-1))
    queue.drain()
    attempts.broken = False
    make_due()

    assert queue.drain().progress.handled == 1
    assert effects() == [-1]


def test_a_failing_message_does_not_hold_up_others(queue: Queue, handling: Handling) -> None:
    """While it waits for its next attempt, the queue flows."""
    handling(Attempts(), retry=RetryPolicy(base=3600, cap=3600))
    queue.declare()
    queue.publish(happened(-1))

    with queue.consuming() as consumer:
        until(lambda: consumer.progress.retrying)
        queue.publish(*[happened(number) for number in range(50)])
        until(lambda: consumer.progress.handled == 50)

    assert effects() == list(range(50))


def test_a_backlog_of_retries_does_not_starve_fresh_messages(
    queue: Queue, handling: Handling
) -> None:
    """While hundreds are due, a batch is received between two turns."""
    handled: list[int] = []
    handling(lambda event, message: handled.append(event.number), name="seen")
    old = [happened(number) for number in range(500)]
    broken = handling(Attempts(), name="broken")
    for start in range(0, 500, 100):
        receive(*[replace_number(each) for each in old[start : start + 100]], group=queue.name)
    handlers.remove("broken")
    assert broken.function.broken  # type: ignore[attr-defined]
    handling(lambda event, message: handled.append(event.number), name="broken")
    handled.clear()
    make_due()
    queue.declare()
    queue.publish(*[happened(1000 + number) for number in range(10)])

    queue.drain()

    assert len(handled) == 500 + 2 * 10
    last_fresh = max(index for index, number in enumerate(handled) if number >= 1000)
    assert last_fresh < 350


def replace_number(message: Envelope) -> Envelope:
    """Make a message one that Attempts fails on."""
    return msgspec.structs.replace(message, data=b'{"key":"k","number":-1}')


def test_an_idle_consumer_looks_for_what_is_due_once_a_second(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with every batch: under load it is one statement a second more."""
    handling()
    queue.declare()
    looked: list[float] = []
    original = Ledger.due

    def due(ledger: Ledger, *arguments: Any) -> Any:
        looked.append(time.monotonic())
        return original(ledger, *arguments)

    monkeypatch.setattr(Ledger, "due", due)
    with queue.consuming(PREFETCH=1) as consumer:
        until(lambda: len(looked) >= 2)
        queue.publish(*[happened(number) for number in range(100)])
        until(lambda: consumer.progress.batches >= 100)
        until(lambda: len(looked) >= 4)

    gaps = [b - a for a, b in itertools.pairwise(looked)]
    assert min(gaps) >= consumer_module.TURN_EVERY


def test_retries_go_on_while_the_broker_is_away(handling: Handling) -> None:
    """They need the database only."""
    handling(Mended())
    queue = make_queue("amqp://guest:guest@127.0.0.1:1//", RETRY_MAX=60)
    handling.forget()
    handling.group = queue.name
    handling(Mended())
    receive(happened(1), group=queue.name)
    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown)
        with in_thread(consumer.run):
            until(lambda: consumer.progress.away == "broker")
            make_due()
            until(lambda: consumer.progress.handled == 1)
            shutdown.request()

    assert effects() == [1]


# --- Stopping -----------------------------------------------------------------------------------


def test_until_empty_says_whether_all_was_handled(queue: Queue, handling: Handling) -> None:
    """False if something has come to be retrying or dead in this run, and still is."""
    broken = True

    def function(event: Happened, message: Envelope) -> None:
        if broken:
            raise Retry(after=3600)  # a random pause might be over within the run
        record(event, message)

    handling(function)
    queue.declare()
    with closing_shutdown() as shutdown:
        assert queue.consumer(shutdown).run(until_empty=True) is True
        queue.publish(happened(-1))
        assert queue.consumer(shutdown).run(until_empty=True) is False
        assert queue.consumer(shutdown).run(until_empty=True) is True  # nothing new
        make_due()
        assert queue.consumer(shutdown).run(until_empty=True) is False
        make_due()
        broken = False
        assert queue.consumer(shutdown).run(until_empty=True) is True

    assert effects() == [-1]


def test_until_empty_is_content_with_a_failure_that_heals(queue: Queue, handling: Handling) -> None:
    """It goes on as long as anything is due."""
    handling(Mended(), retry=RetryPolicy(base=1e-6, cap=1e-6))
    queue.declare()
    queue.publish(happened(1))
    with closing_shutdown() as shutdown:
        assert queue.consumer(shutdown).run(until_empty=True) is True

    assert effects() == [1]


@pytest.mark.parametrize("what", ["type", "data"])
def test_until_empty_tells_of_the_dead(what: str, queue: Queue, handling: Handling) -> None:
    """Whether a handler could not use a message, or no handler could."""
    handling(pattern="tests.#", version=1)
    queue.declare()
    if what == "data":
        queue.publish(happened(data=b"{"))
    else:
        queue.publish(happened(version=2))
    with closing_shutdown() as shutdown:
        assert queue.consumer(shutdown).run(until_empty=True) is False


@postgresql
def test_a_stop_finishes_the_batch(queue: Queue, handling: Handling) -> None:
    """What has begun is committed and acknowledged; the rest stays in the queue."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(30)])

    with closing_shutdown() as shutdown, sessions(1) as [blocker]:
        blocker.begin()
        blocker.run(block_effects)
        with in_thread(lambda: queue.consumer(shutdown, PREFETCH=10).run()) as background:
            until(waiting_for_lock)
            shutdown.request()
            blocker.commit()
        assert background.get() is True

    handled = len(effects())
    assert 1 <= handled <= 10
    until(lambda: queue.ready() == 30 - handled)
    assert queue.drain().progress.duplicates == 0
    assert effects() == list(range(30))


def test_a_stop_interrupts_an_outage(handling: Handling) -> None:
    """A consumer that waits for its broker ends at once."""
    handling()
    queue = make_queue("amqp://guest:guest@127.0.0.1:1//", RETRY_MAX=60)
    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown)
        with in_thread(consumer.run) as background:
            until(lambda: consumer.progress.away)
            shutdown.request()
        assert background.get() is True


def test_an_exchange_of_another_kind_ends_the_consumer(queue: Queue, handling: Handling) -> None:
    """Waiting would not help: the error says what to do."""
    handling()
    with queue.channel() as channel:
        channel.exchange_declare(queue.exchange, "direct", durable=True, auto_delete=False)

    with pytest.raises(ConfigurationError, match="not a durable topic exchange"):
        queue.drain()


# --- Long work ---------------------------------------------------------------


@pytest.mark.slow
def test_heartbeats_go_on_while_a_handler_runs(
    queue: Queue, handling: Handling, told: Callable[[str], list[str]]
) -> None:
    """Six seconds of work, a heartbeat of two: the broker keeps the connection."""
    handling(lambda event, message: time.sleep(6))
    queue.declare()
    queue.publish(happened(1))

    with queue.consuming(HEARTBEAT=2) as consumer:
        until(lambda: consumer.progress.handled == 1)
        until(lambda: queue.consumers() == 1)
        handled_at = time.monotonic()
        # Long enough for either side to notice a heartbeat that was missed meanwhile.
        until(lambda: time.monotonic() - handled_at > 3)

    assert told("The broker is away") == []
    assert (consumer.progress.received, consumer.progress.duplicates) == (1, 0)
    assert queue.ready() == 0


def test_no_thread_is_left_behind(queue: Queue, handling: Handling) -> None:
    """Neither after an orderly end nor after an outage."""
    handling()
    queue.drain()

    assert not heartbeats()


# --- Housekeeping ---------------------------------------------------------------------------


def old_receipts(count: int) -> None:
    changed = timezone.now() - timedelta(days=40)
    Receipt.objects.bulk_create(
        Receipt(handler="gone", source="/s", message_id=f"m{number}", type="t", changed=changed)
        for number in range(count)
    )


@override_settings(OUTBOX={"RETENTION": None})
def test_a_consumer_prunes_what_the_inbox_owns(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any relay, and while its queue is idle; batch by batch, never what is young."""
    monkeypatch.setattr(housekeeping, "BATCH", 4)
    handling()
    old_receipts(10)
    queue.declare()
    with (
        closing_shutdown() as shutdown,
        in_thread(queue.consumer(shutdown, PRUNE_INTERVAL=0.1).run),
    ):
        until(lambda: not Receipt.objects.exists())
        queue.publish(happened(1))
        until(lambda: effects() != [])
        shutdown.request()

    assert states() == ["processed"]


def test_a_consumer_that_is_told_not_to_prune(queue: Queue, handling: Handling) -> None:
    """PRUNE_INTERVAL of 0: outbox_prune or a relay does."""
    handling()
    old_receipts(1)
    with closing_shutdown() as shutdown:
        consumer = queue.consumer(shutdown, PRUNE_INTERVAL=0)
        assert consumer.run(until_empty=True) is True

    assert Receipt.objects.exists()


def test_a_consumer_goes_on_if_it_cannot_prune(
    queue: Queue,
    handling: Handling,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[[str], list[str]],
) -> None:
    """It says so, and tries again in the next round."""

    def broken(using: str, **_: Any) -> int:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT no_such_column")
        return 0

    handling()
    monkeypatch.setattr(retention, "owned", lambda: [Pruner(name="receipts", prune=broken)])
    queue.declare()
    with (
        closing_shutdown() as shutdown,
        in_thread(queue.consumer(shutdown, PRUNE_INTERVAL=0.1).run),
    ):
        until(lambda: len(told("Housekeeping is put off")) > 1)
        queue.publish(happened(1))
        until(lambda: effects() != [])
        shutdown.request()
