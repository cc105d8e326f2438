"""Steps are taken in the transaction of their batch: state, what is said, and receipts, or none."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import outbox
from inbox.handlers.registry import handlers
from inbox.models import ProcessAlias, ProcessInstance, ProcessStep, Receipt
from inbox.receiving.retries import Retries
from inbox.replies import taking, withdrawals
from inbox.states import Reason, State
from outbox.message.envelope import Envelope
from outbox.models import Request, Scheduled
from tests.inbox.processes.fulfilment import (
    Charge,
    Invoiced,
    Placed,
    Reserved,
    Shipped,
    Taken,
)
from tests.inbox.support import postgresql, receive
from tests.requests.support import Wire

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]

PLACED, RESERVED, INVOICED = Placed(1, Decimal(9)), Reserved(1), Invoiced(1, "R-1")


class Service:
    """Everything in one database: what is emitted is published, and received by both groups."""

    def __init__(self) -> None:
        self.wire = Wire()

    def emit(self, *events: Any) -> None:
        for event in events:
            with transaction.atomic():
                outbox.emit(event)

    def run(self) -> list[Envelope]:
        """Let everything pass until nothing is left; return what was published."""
        seen: list[Envelope] = []
        while page := self.wire.publish():
            seen += page
            for each in page:
                receive(each, group=None)
            while Retries("default").turn().settled:
                pass
        return seen


@pytest.fixture
def service(settings: Any) -> Iterator[Service]:
    settings.OUTBOX = {"LANES": 1}
    settings.INBOX = {"GROUP": "shop"}
    settings.RELAYS = {"mine": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    taking.install()
    yield Service()
    handlers.remove(taking.NAME)
    handlers.remove(withdrawals.NAME)


@pytest.fixture
def bank(handling: Any) -> list[Charge]:
    """Takes payments."""
    asked: list[Charge] = []

    def charge(event: Charge, message: Envelope) -> Taken:
        asked.append(event)
        return Taken(f"payment-{event.order_id}")

    handling(charge, pattern="tests.charge", version=1, declared_group="bank")
    return asked


def states(key: str = "1") -> list[tuple[str, str]]:
    rows = ProcessStep.objects.filter(instance__key=key).order_by("number")
    return list(rows.values_list("source_state", "state"))


def test_from_the_first_step_to_the_last(service: Service, bank: list[Charge]) -> None:
    """An order is paid, reserved, invoiced and shipped; each step says what was its cause."""
    service.emit(PLACED)
    service.run()
    assert bank == [Charge(1, Decimal(9))]
    assert states() == [("", "awaiting"), ("awaiting", "paid")]
    assert not Scheduled.objects.exists()
    service.emit(RESERVED, INVOICED)
    said = service.run()
    assert [each.type for each in said] == [
        "tests.stock.reserved",
        "tests.invoice.written",
        "tests.ship",
    ]
    service.emit(Shipped("parcel-1"))
    service.run()
    instance = ProcessInstance.objects.get()
    assert (instance.process, instance.key, instance.state) == ("tests.fulfilment", "1", "shipped")
    assert instance.ended is not None
    assert states()[-3:] == [("paid", "paid"), ("paid", "shipping"), ("shipping", "shipped")]
    assert ProcessAlias.objects.get().value == "parcel-1"
    assert not Receipt.objects.exclude(state=State.PROCESSED).exists()


def test_what_is_early_waits_and_goes_on(service: Service, bank: list[Charge]) -> None:
    """In the reverse order, what comes first waits as receipts, until its state comes."""
    service.emit(Shipped("parcel-1"), INVOICED, RESERVED)
    service.run()
    waiting = Receipt.objects.filter(state=State.WAITING)
    assert [each.reason for each in waiting] == [Reason.EARLY] * 3
    assert not ProcessInstance.objects.exists()
    service.emit(PLACED)
    service.run()
    Receipt.objects.filter(state=State.WAITING).update(next_attempt_at="2020-01-01T00:00Z")
    service.run()
    while Retries("default").turn().settled:
        pass
    assert ProcessInstance.objects.get().state == "shipped"
    assert not Receipt.objects.exclude(state=State.PROCESSED).exists()


def test_a_timer(service: Service, handling: Any) -> None:
    """It is a scheduled message, comes when it is due, and leads to the next step."""
    handling(lambda event, message: None, pattern="tests.order.given_up")
    service.emit(PLACED)
    service.run()
    timer = Scheduled.objects.get(type="outbox.process.timer")
    assert timer.attributes["timername"] == "unpaid"
    message = Envelope(
        id=str(timer.message_id),
        source=timer.source,
        type=timer.type,
        data=b"{}",
        topic=timer.topic,
        key=timer.key,
        attributes=timer.attributes,
    )
    receive(message, group=None)
    assert states() == [("", "awaiting"), ("awaiting", "cancelled")]
    assert [each.type for each in service.wire.publish()][-1] == "tests.order.given_up"
    receive(message, group=None)
    assert len(states()) == 2


def test_a_timer_that_was_cancelled_is_skipped(service: Service, bank: list[Charge]) -> None:
    """Also if it had been delivered before that."""
    service.emit(PLACED)
    service.wire.publish()
    receive(*service.wire.broker.published, group=None)
    timer = Scheduled.objects.get(type="outbox.process.timer")
    service.run()
    late = Envelope(
        id=str(timer.message_id),
        source=timer.source,
        type=timer.type,
        data=b"{}",
        topic=timer.topic,
        key=timer.key,
        attributes=timer.attributes,
    )
    receive(late, group=None)
    receipt = Receipt.objects.get(message_id=late.id)
    assert (receipt.state, receipt.reason) == (State.SKIPPED, Reason.PASSED)
    assert receipt.error == "The timer was cancelled, or set anew, since."


@postgresql
def test_a_batch_takes_few_statements(service: Service, on_disk_at_once: None) -> None:
    """However many instances it concerns, and however many messages there are for each."""
    counts = []
    for first, number in ((1, 2), (101, 40)):
        page = []
        for order in range(first, first + number):
            service.emit(Placed(order, Decimal(9)))
        page = service.wire.publish()
        with CaptureQueriesContext(connection) as captured:
            receive(*page, group=None)
        asks = [each for each in captured if "django_outbox_request" in each["sql"]]
        counts.append(len(captured) - len(asks))
    assert counts[0] == counts[1]
    assert ProcessInstance.objects.count() == 42
    assert Request.objects.count() == 42
    assert Scheduled.objects.filter(type="outbox.process.timer").count() == 42
