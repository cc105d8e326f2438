"""Large messages: bounded in memory, handled or kept as dead letters, in nobody's way."""

import hashlib
import json
import resource
import signal
import tracemalloc
from collections.abc import Iterator
from io import StringIO
from typing import Any

import msgspec
import pytest
from amqp.basic_message import Message
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection
from django.test import Client, override_settings
from django.urls import reverse

from inbox.delivery import HEAD_BYTES, Delivery
from inbox.models import DeadLetter, Receipt
from inbox.operator import NotPossible, edit_letter, retry_letters
from inbox.sources.amqp.subscription import Subscription
from outbox.message import cloudevents
from outbox.message.event_types import EventType, registry
from tests.inbox.support import (
    HAPPENED,
    Handling,
    Queue,
    bound_queue,
    effects,
    fail,
    happened,
    make_due,
    receive,
    record,
    records,
    turn,
)
from tests.kit.admin_pages import ALL_MODELS, detail_url, log_in, page
from tests.kit.processes import Process
from tests.kit.services.rabbitmq import RabbitNode
from tests.kit.waiting import until
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

KILOBYTE = 1024
MEGABYTE = 1024 * 1024


def large(number: int, size: int, **changes: Any) -> tuple[Message, str]:
    """A message with a body of `size` bytes, all of which say which number it is."""
    body = (f"{number:06d}|".encode() * (size // 7 + 1))[:size]
    headers = cloudevents.to_headers(happened(number, **changes))
    return Message(body, application_headers=headers, delivery_mode=2), HAPPENED


@pytest.fixture
def own_bound_queue(rabbit_node: RabbitNode) -> Iterator[Queue]:
    """A queue on a broker of our own, which large messages may fill."""
    with bound_queue(rabbit_node.url) as found:
        yield found


def environment(queue: Queue, database_url: str, **inbox: Any) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
        "TEST_INBOX": json.dumps(inbox),
        # With DEBUG Django would have statements to show to people, with their values.
        "DEBUG": "0",
        "SECRET_KEY": "of the test",
    }


# --- What is too large ---------------------------------------------------------------------------


def test_a_message_that_is_too_large_is_a_dead_letter(queue: Queue, handling: Handling) -> None:
    """Headers, size, digest and its head are kept; its neighbours are handled, all acknowledged."""
    handling()
    queue.declare()
    message, topic = large(7, 5 * MEGABYTE, id="big", key="k")
    queue.publish(happened(1))
    queue.publish_raw((message, topic))
    queue.publish(happened(2))

    consumer = queue.drain(MAX_BYTES=MEGABYTE)

    assert effects() == [1, 2]
    assert (consumer.progress.received, consumer.progress.dead, queue.ready()) == (3, 1, 0)
    dead = DeadLetter.objects.get()
    assert (dead.reason, dead.message_id, dead.type) == ("too_large", "big", HAPPENED)
    assert dead.size == 5 * MEGABYTE
    assert dead.sha256 == hashlib.sha256(message.body).hexdigest()
    assert bytes(dead.body) == message.body[:HEAD_BYTES]
    assert json.loads(dead.headers) == message.properties["application_headers"]
    assert f"{dead.size:,} bytes" in dead.error


@pytest.mark.parametrize(("size", "kept"), [(1000, 1000), (1001, 1000), (0, 0)])
def test_the_limit_is_exact(size: int, kept: int, queue: Queue, handling: Handling) -> None:
    """What has as many bytes as allowed is read; of what has one more, no more is kept."""
    handling(pattern="tests.#")
    queue.declare()
    message, topic = large(1, size, type="tests.any")
    message.properties["content_type"] = "application/octet-stream"
    queue.publish_raw((message, topic))

    queue.drain(MAX_BYTES=1000)

    too_large = DeadLetter.objects.filter(reason="too_large").first()
    assert (too_large is not None) is (size > 1000)
    assert too_large is None or len(too_large.body) == kept
    assert Effect.objects.count() == (size <= 1000)


def test_two_large_messages_that_begin_alike_are_two_dead_letters(
    queue: Queue, handling: Handling
) -> None:
    """The digest of all of it tells them apart; a second delivery of one is the same letter."""
    handling()
    queue.declare()
    one, other = bytearray(300 * KILOBYTE), bytearray(300 * KILOBYTE)
    other[-1] = 1
    headers = cloudevents.to_headers(happened(1))
    for body in (one, other, one):
        message = Message(bytes(body), application_headers=headers, delivery_mode=2)
        queue.publish_raw((message, HAPPENED))

    queue.drain(MAX_BYTES=200 * KILOBYTE)

    digests = {hashlib.sha256(each).hexdigest() for each in (one, other)}
    assert set(DeadLetter.objects.values_list("sha256", flat=True)) == digests
    assert DeadLetter.objects.count() == 2


@override_settings(INBOX={"MAX_BYTES": 1000})
def test_the_limit_holds_for_what_a_relay_hands_over(handling: Handling) -> None:
    """Also within one process, without a broker."""
    handling()
    big = happened(2, data=b'{"key":"k","number":2,"more":"' + b"x" * 100_000 + b'"}')

    receive(happened(1), big, happened(3), group=None)

    assert set(effects()) == {1, 3}
    dead = DeadLetter.objects.get()
    assert (dead.reason, dead.message_id, dead.size) == ("too_large", big.id, len(big.data))
    assert bytes(dead.body) == big.data[:HEAD_BYTES]


def test_a_head_cannot_be_retried_nor_edited(handling: Handling) -> None:
    """Each way says so, and leaves it as it is; it can be discarded."""
    handling()
    receive(Delivery.of(happened(1)).head())
    dead = DeadLetter.objects.get()

    done = retry_letters([dead.pk], using="default")
    assert (done.changed, done.left) == ([], [dead.pk])
    with pytest.raises(NotPossible, match="only the head"):
        edit_letter(dead.pk, Delivery.of(happened(1)), by="me", using="default")
    with pytest.raises(CommandError, match="only the head"):
        call_command("inbox_retry", "--dead-letters", "--all", stdout=StringIO())
    dead.refresh_from_db()
    assert (dead.state, dead.reason, effects()) == ("dead", "too_large", [])

    call_command("inbox_retry", "--dead-letters", "--all", "--discard", stdout=StringIO())
    dead.refresh_from_db()
    assert dead.state == "discarded"


@pytest.mark.sqlite
@pytest.mark.parametrize("model", [Receipt, DeadLetter])
def test_a_page_does_not_read_what_is_too_large_to_show(
    model: type[Receipt | DeadLetter], client: Client
) -> None:
    """Of thirty megabytes neither dump nor form; their size is told."""
    common = {"state": "dead", "headers": "{}", "body": b"x" * (30 * MEGABYTE)}
    Receipt.objects.create(handler="h", source="/s", message_id="1", type="t", **common)
    DeadLetter.objects.create(group="g", reason="unknown_type", error="none", **common)
    log_in(client, *ALL_MODELS)
    row = model.objects.defer("body").get()
    tracemalloc.start()
    text = page(client, detail_url(row))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "31,457,280 bytes: too large to show" in text
    assert peak < 10 * MEGABYTE


@pytest.mark.sqlite
def test_the_page_of_a_head_says_so(client: Client) -> None:
    """Size and digest of the whole; no button to retry or edit it, and why that was not done."""
    big = Delivery.of(happened(1, data=b"x" * MEGABYTE)).head()
    receive(big)
    dead = DeadLetter.objects.get()
    log_in(client, *ALL_MODELS)
    permissions = Permission.objects.filter(codename__endswith="_deadletter")
    User.objects.get(username="viewer").user_permissions.add(*permissions)
    text = page(client, detail_url(dead))

    assert "Only the head of 1,048,576 bytes is kept" in text
    assert str(big.sha256) in text
    assert "/discard/" in text
    assert "/retry/" not in text
    assert "/edit/" not in text
    url = reverse("admin:django_inbox_deadletter_retry", args=(dead.pk,))
    assert "only a head" in client.post(url, follow=True).content.decode()


# --- How much is in hand -------------------------------------------------------------------------


def test_what_is_in_hand_is_bounded_in_bytes(queue: Queue, handling: Handling) -> None:
    """A batch holds what fits, though the broker would send all of it; nothing is left behind."""
    handling(pattern="tests.#")
    queue.declare()
    for number in range(20):
        data = json.dumps({"key": "k", "number": number, "more": "x" * 100_000}).encode()
        queue.publish(happened(number, data=data))

    consumer = queue.drain(PREFETCH_BYTES=350_000)

    assert effects() == list(range(20))
    assert consumer.progress.batches >= 7
    assert queue.ready() == 0


def test_a_message_larger_than_what_may_be_in_hand_comes_alone(
    queue: Queue, handling: Handling
) -> None:
    """PREFETCH_BYTES holds nothing up."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(5)])

    consumer = queue.drain(PREFETCH_BYTES=1)

    assert effects() == list(range(5))
    assert consumer.progress.batches == 5


def test_the_connection_lives_while_the_broker_cannot_send(
    queue: Queue, handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """More than sockets hold waits unread for several heartbeats, in both directions."""
    waited = []

    def slow(event: Any, message: Any) -> None:
        if not waited:
            waited.append(True)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(5)")
        record(event, message)

    handling(slow, pattern="tests.#")
    queue.declare()
    data = b'{"key":"k","number":1,"more":"' + b"x" * (4 * MEGABYTE) + b'"}'
    for _ in range(8):
        queue.publish(happened(1, data=data))

    consumer = queue.drain(PREFETCH_BYTES=MEGABYTE, HEARTBEAT=1)

    assert len(effects()) == 8
    assert consumer.progress.duplicates == 0
    assert not [r for r in caplog.records if "broker" in r.getMessage()]


# --- What is due ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True], ids=["no order", "ordered"])
def test_a_turn_reads_no_more_than_fits(ordered: bool, handling: Handling) -> None:
    """What is due is read a few megabytes at a time, and all of it in the end."""
    handling(fail, ordered=ordered)
    for number in range(8):
        data = json.dumps({"key": "k", "number": number, "more": "x" * (3 * MEGABYTE)}).encode()
        receive(happened(number, data=data))
    handling.forget()
    handling(record, ordered=ordered)
    turns = 0
    while Receipt.objects.exclude(state="processed").exists():
        make_due(state="retrying")
        assert turn().handled in (1, 2, 3)
        turns += 1
        assert turns < 20

    assert sorted(effects()) == list(range(8))
    if ordered:
        assert effects() == list(range(8))


# --- In a process with little memory -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_large_messages_do_not_stop_a_group(own_bound_queue: Queue, database_url: str) -> None:
    """Thirty messages of 30 MiB, good ones between them, 700 MB of address space."""
    queue = own_bound_queue
    for number in range(30):
        queue.publish_raw(large(number, 30 * MEGABYTE))
        queue.publish(happened(number))
    with Process(
        *("consume", "--group", queue.name),
        limits={resource.RLIMIT_AS: 700 * 1000 * 1000},
        **environment(queue, database_url),
    ) as process:
        process.wait_for(lambda: Effect.objects.count() >= 30, 200)
        process.wait_for(lambda: DeadLetter.objects.count() >= 30, 200)
        peak = process.memory("VmHWM")
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.output

    assert sorted(effects()) == list(range(30))
    letters = DeadLetter.objects.values_list("reason", "size").distinct()
    assert list(letters) == [("too_large", 30 * MEGABYTE)]
    assert queue.ready() == 0
    assert peak < 200 * MEGABYTE, f"{peak / MEGABYTE:.0f} MB"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_process_with_less_memory_than_it_may_use_goes_on_with_less(
    own_bound_queue: Queue, database_url: str
) -> None:
    """Twenty messages of 8 MiB, a limit of 480 MiB in hand, 200 MiB of memory."""
    queue = own_bound_queue
    for number in range(20):
        data = json.dumps({"key": "k", "number": number, "more": "x" * 8 * MEGABYTE}).encode()
        queue.publish(happened(number, data=data))
    with Process(
        *("consume", "--group", queue.name),
        limits={resource.RLIMIT_DATA: 200 * MEGABYTE},
        **environment(queue, database_url, PREFETCH_BYTES=480 * MEGABYTE),
    ) as process:
        process.wait_for(lambda: Effect.objects.count() >= 20, 300)
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.output

    assert sorted(effects()) == list(range(20))
    assert queue.ready() == 0


@pytest.mark.parametrize(
    "exc",
    [
        MemoryError(),
        DatabaseError("out of memory for query result"),
        OperationalError("sending query failed: cannot allocate memory for output buffer"),
    ],
)
def test_a_consumer_that_is_out_of_memory_holds_less(
    queue: Queue,
    handling: Handling,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
    exc: Exception,
) -> None:
    """It drops what is in hand, says so, and goes on with a quarter; the broker has it all."""
    handling()
    queue.declare()
    queue.publish(*[happened(number) for number in range(6)])
    read, held = Subscription.read, []

    def short_of_memory(subscription: Subscription, seconds: float) -> None:
        read(subscription, seconds)
        held.append(subscription._conf.PREFETCH_BYTES)
        if subscription._conf.PREFETCH_BYTES > MEGABYTE and subscription.arrived:
            raise exc

    monkeypatch.setattr(Subscription, "read", short_of_memory)
    consumer = queue.drain(PREFETCH_BYTES=10 * MEGABYTE)

    assert effects() == list(range(6))
    assert consumer.progress.received == 6
    assert sorted(set(held)) == [10 * MEGABYTE // 16, 10 * MEGABYTE // 4, 10 * MEGABYTE]
    assert len(records(caplog, "Out of memory")) == 2


def test_a_consumer_that_can_hold_no_less_ends(
    queue: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost: the next process, with more memory, has it from the broker."""
    handling()
    queue.declare()
    queue.publish(happened(1))

    def out_of_memory(subscription: Subscription, seconds: float) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Subscription, "read", out_of_memory)
        with pytest.raises(MemoryError):
            queue.drain()
    queue.drain()

    assert effects() == [1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_message_whose_reading_ends_the_process_does_not_stop_a_group(
    broker_url: str, database_url: str
) -> None:
    """What becomes of a large body in memory can be too much as well: it dies alone."""
    with bound_queue(broker_url) as queue:
        data = json.dumps({"key": "k", "number": 2, "more": "x" * MEGABYTE}).encode()
        queue.publish(happened(1), happened(2, data=data), happened(3))
        killing = environment(queue, database_url) | {"TEST_KILL_READING": "2"}
        codes = []
        while not codes or codes[-1] < 0:
            assert len(codes) < 8
            with Process("consume", "--group", queue.name, "--until-empty", **killing) as process:
                codes.append(process.wait())
            if codes[-1] < 0:
                until(lambda: not queue.consumers())

    assert effects() == [1, 3]
    dead = Receipt.objects.get(state="dead")
    assert (dead.reason, bytes(dead.body or b"")) == ("crashed", data)


def test_no_room_for_the_data_of_an_event_is_a_failed_attempt(handling: Handling) -> None:
    """Not a flaw of the data: it is tried again, by the policy of its handler."""

    class Vast(msgspec.Struct):
        key: str

        def __post_init__(self) -> None:
            if rooms.pop():
                raise MemoryError

    rooms = [False, True, True]
    handling(lambda event, message: None, pattern="tests.vast")
    event_type = registry.add(EventType(name="tests.vast", schema=Vast))
    try:
        receive(happened(1, type="tests.vast"))
        assert Receipt.objects.get().state == "retrying"
        for state in ("retrying", "processed"):
            make_due()
            turn()
            assert Receipt.objects.get().state == state
    finally:
        registry.remove(event_type)
