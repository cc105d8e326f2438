"""What our brokers do beyond the suite that is shipped: see test_broker_adapters.py for that."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from django.db import DataError, connection, transaction
from django.test import override_settings
from kombu import Connection

import outbox
from inbox.handlers import registry as inbox_registry
from inbox.handlers.registry import Handler
from outbox.celery import OutboxCelery
from outbox.message.celery_task import MESSAGE_ID
from outbox.message.cloudevents import from_message
from outbox.message.envelope import Envelope
from outbox.models import Message
from outbox.runtime.shutdown import Shutdown
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import CONFIRMED, UNSENT, Broker, Status
from relay.brokers.kombu import KombuBroker
from relay.brokers.local import LocalBroker
from relay.conf import RelaySettings
from relay.log import open_log
from relay.loop import Relay
from relay.models import Checkpoint, Parked
from relay.parking.people import discard
from relay.replay import envelope
from tests.kit.services.redis import RedisServer
from tests.kit.support import Counted
from tests.proofs.faults.proxy import Proxy

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Subject:
    """A broker under test, and how to see what it delivered."""

    broker: Broker
    received: Callable[[], list[Envelope]]
    refuse: Callable[[Envelope], None]
    """Make the next publish of this message fail."""


@pytest.fixture
def local() -> Iterator[Subject]:
    received: list[Envelope] = []
    refused: set[str] = set()

    def handle(event: object, message: Envelope) -> None:
        if message.id in refused:
            raise RuntimeError("refused by the test")
        received.append(message)

    inbox_registry.handlers.add(Handler(name="conformance", pattern="tests.#", function=handle))
    broker = LocalBroker.from_settings("", {}, using="default")
    yield Subject(broker, lambda: received, lambda envelope: refused.add(envelope.id))
    inbox_registry.handlers.remove("conformance")


@pytest.fixture
def amqp(broker_url: str) -> Iterator[Subject]:
    name = f"conformance-{uuid.uuid4()}"
    broker = AMQPBroker.from_settings(broker_url, {"EXCHANGE": name}, using="default")
    broker.publish([])
    with Connection(broker_url) as connection:
        channel = connection.channel()
        channel.queue_declare(
            name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
        channel.queue_bind(name, name, routing_key="tests.counted")
        yield Subject(broker, lambda: list(take(channel, name)), lambda envelope: None)
        channel.queue_delete(name)
        channel.exchange_delete(name)
    broker.close()


def take(channel: object, queue: str) -> Iterator[Envelope]:
    while (raw := channel.basic_get(queue, no_ack=True)) is not None:  # type: ignore[attr-defined]
        yield from_message(
            raw.properties["application_headers"],
            raw.properties["content_type"],
            raw.body if isinstance(raw.body, bytes) else raw.body.encode(),
            topic=raw.delivery_info["routing_key"],
        )


ADAPTERS = ["local", "amqp"]


@pytest.fixture(params=ADAPTERS)
def subject(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.getfixturevalue(request.param)
    return found


def envelopes(*numbers: int, key: str = "a", **options: object) -> list[Envelope]:
    """Return messages as the relay reads them, without leaving them in the log."""
    made: list[Envelope] = []
    with transaction.atomic():
        for number in numbers:
            made.append(outbox.emit(Counted(key, number), **options))
        transaction.set_rollback(True)
    return made


def test_a_page_ends_when_its_time_is_over(subject: Subject) -> None:
    """However little time there is, some is sent; the rest is not, and comes with later pages."""
    page = envelopes(*range(10))
    subject.broker.page_seconds = 0.0

    left, pages = page, 0
    while left:
        outcomes = subject.broker.publish(left)
        sent = outcomes.count(CONFIRMED)
        assert outcomes == [CONFIRMED] * sent + [UNSENT] * (len(left) - sent)
        assert 0 < sent <= len(left) - (len(left) > 1)
        left, pages = left[sent:], pages + 1

    assert pages > 1
    assert [m.id for m in subject.received()] == [m.id for m in page]


def test_capabilities_are_declared(subject: Subject) -> None:
    """An adapter that is part of this project confirms, orders and keeps."""
    broker = type(subject.broker)

    assert broker.confirms
    assert broker.ordered
    assert broker.durable
    assert "guest:guest" not in subject.broker.address


def test_an_unroutable_message_is_refused_and_holds_only_its_key(amqp: Subject) -> None:
    """No queue for a topic: unroutable, later messages of its key held, other keys confirmed."""
    first, second = envelopes(1, 2)
    lost = type(first)(
        **{name: getattr(first, name) for name in first.__struct_fields__} | {"topic": "tests.lost"}
    )
    other = envelopes(3, key="b")[0]

    outcomes = amqp.broker.publish([lost, second, other])
    assert [outcome.status for outcome in outcomes] == [
        Status.UNROUTABLE,
        Status.HELD,
        Status.CONFIRMED,
    ]
    assert "tests.lost" in outcomes[0].reason
    assert [m.id for m in amqp.received()] == [other.id]


def test_a_failing_handler_is_the_inboxs_to_try_again(local: Subject) -> None:
    """Local: what failed is kept with its receipt, so the relay goes on as with a broker."""
    first, second = envelopes(1, 2)
    other = envelopes(3, key="b")[0]
    local.refuse(first)
    with transaction.atomic():
        outcomes = local.broker.publish([first, second, other])

    assert [outcome.status for outcome in outcomes] == [Status.CONFIRMED] * 3
    assert local.received() == [second, other]


# --- One message that cannot be sent, and a broker that takes nothing ---------------------------


@dataclass
class Spoiled:
    """A broker that cannot send a message, or none, and how to see what it delivered."""

    broker: Broker
    spoil: Callable[[Envelope], object]
    """Make a message of the log one that cannot be sent."""
    stop: Callable[[], object]
    start: Callable[[], object]
    """Let nothing pass, and everything again."""
    delivered: Callable[[], list[str]]
    """Return the ids of what has arrived since it was asked last."""
    emit: Callable[[str], Envelope] = lambda key: commit(key)


def commit(key: str) -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted(key, 1))


@pytest.fixture
def spoiled_receiver() -> Spoiled:
    """A receiver of somebody's own behind the local broker, with a defect in it."""
    received: list[str] = []
    spoiled: set[str] = set()
    away: set[str] = set()

    def receive(page: Sequence[Envelope], *, using: str, seconds: float) -> list[str | None]:
        for each in page:
            if away or each.id in spoiled:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT CAST('1' AS integer) / 0")
                raise DataError("where a database has no such error")
            received.append(each.id)
        return [None for _ in page]

    def delivered() -> list[str]:
        found, received[:] = list(received), []
        return found

    broker = LocalBroker(receive, using="default")
    return Spoiled(
        broker,
        spoil=lambda envelope: spoiled.add(envelope.id),
        stop=lambda: away.add("away"),
        start=away.clear,
        delivered=delivered,
    )


@pytest.fixture
def spoiled_row(amqp: Subject, broker_url: str) -> Iterator[Spoiled]:
    """A row that somebody has written by hand, of which no AMQP message can be made."""
    proxy = Proxy(("127.0.0.1", Connection(broker_url).port or 5672))
    broker = through(proxy, amqp.broker, broker_url)

    def spoil(envelope: Envelope) -> None:
        rows = Message.objects.filter(message_id=envelope.id)
        rows.update(attributes=["no mapping"])

    yield Spoiled(
        broker,
        spoil=spoil,
        stop=proxy.cut,
        start=proxy.flow,
        delivered=lambda: [each.id for each in amqp.received()],
    )
    broker.close()
    proxy.close()


@pytest.fixture
def spoiled_link(amqp: Subject, broker_url: str) -> Iterator[Spoiled]:
    """A filter on the way to RabbitMQ, which ends the connection over a message."""
    proxy = Proxy(("127.0.0.1", Connection(broker_url).port or 5672))
    broker = through(proxy, amqp.broker, broker_url)
    yield Spoiled(
        broker,
        spoil=lambda envelope: proxy.offend(envelope.id.encode()),
        stop=proxy.cut,
        start=proxy.flow,
        delivered=lambda: [each.id for each in amqp.received()],
    )
    broker.close()
    proxy.close()


def through(proxy: Proxy, broker: Broker, url: str) -> AMQPBroker:
    """Return a broker like another one, behind a proxy."""
    assert isinstance(broker, AMQPBroker)
    options = {"EXCHANGE": broker._options.EXCHANGE}
    parts = urlsplit(url)
    host = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
    return AMQPBroker.from_settings(parts._replace(netloc=host).geturl(), options, using="default")


@pytest.fixture
def spoiled_queue() -> Iterator[Spoiled]:
    """Tasks on Redis, where a key of another type stands in the place of a queue."""
    try:
        server = RedisServer()
    except FileNotFoundError as exc:
        pytest.skip(str(exc))
    server.admin.set("spoiled", "a string")
    app = OutboxCelery("conformance", broker=server.url(), set_as_current=False)
    broker = KombuBroker.from_settings(server.url(), {}, using="default")

    def emit(key: str) -> Envelope:
        with transaction.atomic():
            app.send_task("unit.add", queue="spoiled" if key == "bad" else "good")
        return envelope(Message.objects.latest("position"))

    def delivered() -> list[str]:
        found = [json.loads(raw) for raw in iter(lambda: server.admin.lpop("good"), None)]
        return [each["headers"][MESSAGE_ID] for each in found]

    yield Spoiled(
        broker,
        spoil=lambda envelope: None,
        stop=lambda: server.admin.config_set("maxmemory", "1"),
        start=lambda: server.admin.config_set("maxmemory", "0"),
        delivered=delivered,
        emit=emit,
    )
    broker.close()
    app.close()
    server.close()


SPOILED = ["spoiled_receiver", "spoiled_row", "spoiled_link", "spoiled_queue"]


@pytest.fixture(params=SPOILED)
def spoiled(request: pytest.FixtureRequest) -> Spoiled:
    found: Spoiled = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def relay(spoiled: Spoiled) -> Iterator[Relay]:
    conf = RelaySettings(BACKEND="tests", RETRY_MAX=0.1, PARK_MIN=100.0)
    with override_settings(OUTBOX={"LANES": 1}):
        relay = Relay(open_log("test", using="default"), spoiled.broker, conf, Shutdown())
        yield relay
        relay.close()
        relay._shutdown.close()


def sweep_until(relay: Relay, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        relay.sweep()
        time.sleep(0.001)


def test_one_message_that_cannot_be_sent_is_parked_alone(spoiled: Spoiled, relay: Relay) -> None:
    """With its reason, whatever the broker; all others arrive; a person can discard it."""
    first, bad, last = (spoiled.emit(key) for key in ("a", "bad", "b"))
    spoiled.spoil(bad)
    arrived: set[str] = set()

    def done() -> bool:
        arrived.update(spoiled.delivered())
        return {first.id, last.id} <= arrived and Parked.objects.exists()

    sweep_until(relay, done)

    assert arrived == {first.id, last.id}
    parked = Parked.objects.get()
    assert str(parked.message_id) == bad.id
    assert parked.reason == Status.REFUSED
    assert parked.error
    assert not relay.troubled
    assert discard(Parked.objects.all(), by="a person") == [parked.pk]
    later = spoiled.emit("c")
    sweep_until(relay, lambda: later.id in spoiled.delivered())


def test_what_takes_nothing_is_an_outage(spoiled: Spoiled, relay: Relay) -> None:
    """However often it is tried no message is blamed, and no attempt is spent; then all arrive."""
    emitted = {spoiled.emit(key).id for key in "abcd"}
    spoiled.stop()
    sweep_until(relay, lambda: relay.progress.broker.failures > 6)
    assert not Parked.objects.exists()
    assert not Checkpoint.objects.exists()
    spoiled.delivered()

    spoiled.start()
    arrived: set[str] = set()
    sweep_until(relay, lambda: arrived.update(spoiled.delivered()) or arrived == emitted)
    assert not Parked.objects.exists()
