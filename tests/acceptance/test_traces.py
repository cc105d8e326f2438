"""An order of the demo as OpenTelemetry sees it: one picture from the request to the last service.

Over the database of the run and a real RabbitMQ, with OpenTelemetry's own library for Django, the
relay, the consumers of the three services and a worker of Celery.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app
from django.core.management import call_command
from django.test import Client
from kombu import Connection
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.trace import SpanKind

from inbox.models import Receipt
from outbox.celery import OutboxCelery
from outbox.models import Message
from project.billing.models import Receipt as Mailed
from project.billing.tasks import send_receipt
from project.demo.waiting import wait_until
from project.shipping.models import Shipment
from tests.inbox.support import postgresql
from tests.kit.embedded_worker import embedded_worker
from tests.kit.spans import Spans, attributes_of, id_of, linked, parent_of, recording, trace_of

pytestmark = [postgresql, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

SERVICES = ("shop", "billing", "shipping")
ACKNOWLEDGED = "process outbox.replies.shop"
"""What a group tells of a batch, which may be of many requests: it is in the picture of none."""


class Services:
    """The three services of the demo, on a broker of their own names."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self.name = name

    def consume(self) -> None:
        """Let each service handle what has come."""
        call_command("consume", groups=list(SERVICES), until_empty=True, verbosity=0)

    def run(self) -> None:
        """Relay and consume until nothing comes of it any more."""
        before = -1
        while before != (before := Receipt.objects.count() + Message.objects.count()):
            call_command("relay", until_empty=True, verbosity=0)
            self.consume()

    def delete(self) -> None:
        with Connection(self._url) as connection:
            channel = connection.channel()
            for group in (*SERVICES, "tasks"):
                channel.queue_delete(f"{self.name}.{group}")
            for exchange in (self.name, f"{self.name}.tasks"):
                channel.exchange_delete(exchange)


@pytest.fixture
def services(broker_url: str, settings: Any) -> Iterator[Services]:
    name = f"traces-{uuid.uuid4().hex[:8]}"
    settings.ROOT_URLCONF = "tests.acceptance.traced_urls"
    settings.RELAYS = {
        "default": {
            "BACKEND": "relay.brokers.amqp.AMQPBroker",
            "URL": broker_url,
            "OPTIONS": {"EXCHANGE": name},
        }
    }
    # The shop is who emits, so who is told that it was handled.
    settings.INBOX = {"EXCHANGE": name, "QUEUE_PREFIX": f"{name}.", "GROUP": "shop"}
    found = Services(broker_url, name)
    found.consume()  # which declares the queues
    yield found
    found.delete()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Spans]:
    with recording(monkeypatch, settings) as found:
        DjangoInstrumentor().instrument(tracer_provider=found.provider)
        yield found
        DjangoInstrumentor().uninstrument()


@pytest.fixture
def worker(broker_url: str, services: Services, settings: Any) -> Iterator[None]:
    """A worker of the project's tasks, which go through the outbox to a queue of the test."""
    settings.BROKER_URL = broker_url
    before = current_app._get_current_object()
    app = OutboxCelery("traces", broker=broker_url)
    app.conf.update(task_default_queue=f"{services.name}.tasks", worker_hijack_root_logger=False)
    app.set_current()
    with embedded_worker(app):
        yield
    before.set_current()


def place_an_order() -> str:
    answer = Client().get("/orders/ada/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_an_order_is_one_picture(spans: Spans, services: Services) -> None:
    """Every span of three services is reached from that of the request, by parents and links."""
    order = place_an_order()
    services.run()

    assert Shipment.objects.filter(order_id=order).exists()
    request = spans.one("GET ")
    assert request.kind is SpanKind.SERVER
    assert set(spans.unreachable(request)) <= {ACKNOWLEDGED}

    process = [span for span in spans.of("process") if span.name != ACKNOWLEDGED]
    handled = {attributes_of(span)["outbox.handler"] for span in process}
    assert handled == {
        "billing.invoice",
        "billing.account",
        "shipping.reserve",
        "shipping.dispatch",
        "shop.ship",
    }
    first = spans.one("create shop.order.placed")
    assert parent_of(first) == id_of(request)
    assert trace_of(first) == trace_of(request)
    for span in process:
        assert span.parent is None
        [source] = linked(span)
        topic = attributes_of(span)["messaging.destination.name"]
        assert source in {id_of(each) for each in spans.of("create") if topic in each.name}
    # What a handler emits is its child.
    invoice = next(
        span for span in process if attributes_of(span)["outbox.handler"] == "billing.invoice"
    )
    assert parent_of(spans.one("create billing.invoice.issued")) == id_of(invoice)
    # Each message is in a page and in a batch of each service that wants it.
    created = {id_of(span) for span in spans.of("create")}
    assert {source for span in spans.of("send") for source in linked(span)} == created
    assert {source for span in spans.of("receive") for source in linked(span)} == created
    assert {attributes_of(span)["messaging.system"] for span in spans.of("send")} == {"rabbitmq"}
    groups = {attributes_of(span)["messaging.consumer.group.name"] for span in spans.of("receive")}
    assert groups == set(SERVICES)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("library", [False, True])
def test_a_task_is_in_it_too(spans: Spans, services: Services, library: bool) -> None:
    """Sent by a handler through the outbox; its span is ours, or OpenTelemetry's own."""
    if library:
        CeleryInstrumentor().instrument(tracer_provider=spans.provider)
    try:
        place_an_order()
        services.run()
        wait_until(Mailed.objects.exists, 60)
        begins = "run/" if library else f"process {send_receipt.name}"
        assert wait_until(lambda: any(each.startswith(begins) for each in spans.names), 60)
    finally:
        if library:
            CeleryInstrumentor().uninstrument()

    request = spans.one("GET ")
    assert set(spans.unreachable(request)) <= {ACKNOWLEDGED}
    create = spans.one(f"create {send_receipt.name}")
    if library:
        assert task_spans(spans) == []
        assert parent_of(spans.one("run/")) == id_of(create)
    else:
        [process] = task_spans(spans)
        assert process.parent is None
        assert linked(process) == [id_of(create)]
        invoice = next(
            span
            for span in spans.of("process")
            if attributes_of(span).get("outbox.handler") == "billing.invoice"
        )
        assert parent_of(create) == id_of(invoice)


def task_spans(spans: Spans) -> list[Any]:
    return [span for span in spans.of("process") if span.name.endswith(send_receipt.name)]
