"""Our own adapters, by the suite that users have for theirs."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
import pytest
from django.test import override_settings
from kombu import Connection

from inbox.handlers.registry import Handler, handlers
from outbox.message.callbacks import CALLBACK_TYPE, CONTENT_TYPE
from outbox.message.celery_task import MESSAGE_ID, QueueDeclaration, decode, encode
from outbox.message.cloudevents import from_message
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.models import Request
from outbox.webhooks import verify
from relay.brokers.amqp import AMQPBroker
from relay.brokers.base import CONFIRMED, Broker, Status
from relay.brokers.conformance import TASK_QUEUE, TOPIC, BrokerConformance
from relay.brokers.kombu import KombuBroker
from relay.brokers.local import LocalBroker
from relay.brokers.webhook import WebhookBroker
from tests.kit.services.callbacks import LOCAL, SECRET, Answering, CallbackServer
from tests.kit.services.rabbitmq import RabbitNode
from tests.kit.services.redis import RedisServer
from tests.proofs.faults.proxy import Proxy

FULL_TOPIC = "conformance.full"
REFUSED = "/refused"
"""A path at which whoever is called back refuses it."""


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
class TestLocalBroker(BrokerConformance):
    """The inbox of the same process."""

    broker_class: ClassVar[type[Broker]] = LocalBroker

    @pytest.fixture(autouse=True)
    def _handler(self) -> Iterator[None]:
        self.handled: list[Envelope] = []

        def handle(event: object, message: Envelope) -> None:
            self.handled.append(message)

        handlers.add(Handler(name="conformance", pattern="conformance.#", function=handle))
        yield
        handlers.remove("conformance")

    def received(self) -> Sequence[Envelope]:
        return self.handled


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
class TestWebhookBroker(BrokerConformance):
    """A server that is called back. It may be slow: what it has not answered in time is LATER."""

    broker_class: ClassVar[type[Broker]] = WebhookBroker

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        webhooks = {"SECRETS": SECRET, "HTTP": True, "SUBNETS": LOCAL}
        with CallbackServer() as self.server, override_settings(OUTBOX={"WEBHOOKS": webhooks}):
            self.server.answers[REFUSED] = Answering(400)
            yield

    def message(self, key: str | None, **_: Any) -> Envelope:
        return self.to("/hook", key)

    def refused(self, message: Envelope) -> Envelope:
        return self.to(REFUSED, message.key)

    def to(self, path: str, key: str | None) -> Envelope:
        now, asked = datetime.now(UTC), uuid7_text()
        Request.objects.create(
            message_id=asked,
            expiry_id=uuid7_text(),
            version=1,
            wanted=1,
            asked_at=now,
            deadline=now,
            callback_url=self.server.origin + path,
        )
        return Envelope(
            id=uuid7_text(),
            source="/conformance",
            type=CALLBACK_TYPE,
            data=b"{}",
            content_type=CONTENT_TYPE,
            subject=asked,
            key=key,
            time=now,
        )

    def received(self) -> Sequence[Envelope]:
        called = [each for each in self.server.called if each.path != REFUSED]
        return [verify(each.headers, each.body, SECRET) for each in called]

    def test_a_page_ends_when_its_time_is_over(self) -> None:
        """A few are under way then; nothing is unsent, which would hold up what is behind it."""
        page = [self.message(None) for _ in range(10)]
        with self.opened() as broker:
            broker.page_seconds = 0.0
            outcomes = broker.publish(page)
            assert {each.status for each in outcomes} <= {Status.CONFIRMED, Status.LATER}
            broker.page_seconds = 10.0
            later = [m for m, each in zip(page, outcomes, strict=True) if each is not CONFIRMED]
            for message in later:
                while broker.publish([message]) != [CONFIRMED]:
                    pass
            assert sorted(self.received_ids()) == sorted(each.id for each in page)


class AMQPConformance(BrokerConformance):
    """RabbitMQ, with a proxy in between."""

    broker_class: ClassVar[type[Broker]] = AMQPBroker
    queue_type = "quorum"

    def lay_out(self, url: str) -> Iterator[None]:
        """Make an exchange and queues of this test's own, and take them away."""
        self.direct, self.name = url, f"conformance-{uuid.uuid4()}"
        self.options: Mapping[str, Any] = {"EXCHANGE": self.name}
        parts = urlsplit(url)
        self.secret = f":{parts.password}@"
        self.proxy = Proxy(("127.0.0.1", parts.port or 5672))
        host = f"{parts.username}:{parts.password}@127.0.0.1:{self.proxy.port}"
        self.url = parts._replace(netloc=host).geturl()
        self.arrived: list[Envelope] = []
        with self.opened() as broker:
            broker.open()  # declares the exchange
        with Connection(url) as link:
            self.bind(link.channel(), self.name, TOPIC, {"x-queue-type": self.queue_type})
            full = {"x-max-length": 0, "x-overflow": "reject-publish"}
            self.bind(link.channel(), f"{self.name}-full", FULL_TOPIC, full)
        yield
        self.proxy.close()
        with Connection(url) as link:
            channel = link.channel()
            channel.queue_delete(self.name)
            channel.queue_delete(f"{self.name}-full")
            channel.exchange_delete(self.name)

    def bind(self, channel: Any, queue: str, topic: str, arguments: Mapping[str, Any]) -> None:
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(queue, self.name, routing_key=topic)

    def received(self) -> Sequence[Envelope]:
        with Connection(self.direct) as link:
            channel: Any = link.channel()
            while (raw := channel.basic_get(self.name, no_ack=True)) is not None:
                body = raw.body if isinstance(raw.body, bytes) else raw.body.encode()
                self.arrived.append(
                    from_message(
                        raw.properties["application_headers"],
                        raw.properties["content_type"],
                        body,
                        topic=raw.delivery_info["routing_key"],
                    )
                )
        return self.arrived

    def refused(self, message: Envelope) -> Envelope:
        return msgspec.structs.replace(message, topic=FULL_TOPIC)

    def stop(self) -> None:
        self.proxy.cut()

    def start(self) -> None:
        self.proxy.flow()


class TestAMQPBroker(AMQPConformance):
    """On the broker that runs here."""

    @pytest.fixture(autouse=True)
    def _queues(self, broker_url: str) -> Iterator[None]:
        yield from self.lay_out(broker_url)


@pytest.mark.slow
def test_amqp_survives_a_restart(rabbit_node: RabbitNode) -> None:
    """On a node of our own, which is killed."""

    class Killed(AMQPConformance):
        queue_type = "classic"  # a quorum queue that was just declared may be gone

        def restart(self) -> None:
            rabbit_node.kill()
            rabbit_node.start()

    suite = Killed()
    layout = suite.lay_out(rabbit_node.url)
    next(layout)
    suite.test_what_is_confirmed_survives_a_restart()
    assert next(layout, None) is None


class TestKombuBroker(BrokerConformance):
    """Tasks, on a Redis of our own."""

    broker_class: ClassVar[type[Broker]] = KombuBroker
    secret = "swordfish"

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        self.server = RedisServer()
        self.server.admin.acl_setuser(
            "sender", enabled=True, passwords=[f"+{self.secret}"], keys="*", commands=["+@all"]
        )
        self.server.admin.set("spoiled", "a string, and no queue")
        self.url = self.server.url("sender", self.secret)
        yield
        self.server.close()

    def received(self) -> Sequence[Envelope]:
        queue: Any = self.server.admin.lrange(TASK_QUEUE, 0, -1)
        headers = [json.loads(raw)["headers"] for raw in reversed(queue)]
        return [Envelope(each[MESSAGE_ID], "", "", b"") for each in headers]

    def refused(self, message: Envelope) -> Envelope:
        task = msgspec.structs.replace(
            decode(message.data), routing_key="spoiled", declare=[QueueDeclaration("spoiled")]
        )
        return msgspec.structs.replace(message, data=encode(task))

    def stop(self) -> None:
        self.server.admin.config_set("maxmemory", "1")

    def start(self) -> None:
        self.server.admin.config_set("maxmemory", "0")
