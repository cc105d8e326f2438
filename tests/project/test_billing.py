"""Billing: invoices and accounts."""

import uuid
from decimal import Decimal

import pytest
from django.db import transaction

import outbox
from inbox.sources.local import receive
from outbox.models import Message
from outbox.testing import drain
from project.billing.events import Quote, QuoteDeclined, QuoteGiven
from project.billing.factories import EntryFactory, InvoiceFactory
from project.billing.models import Entry, Invoice, Receipt
from project.billing.tasks import send_receipt
from project.shop.events import OrderCancelled, OrderEvent, OrderPaid, OrderPlaced

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


@pytest.fixture
def order_id() -> uuid.UUID:
    return uuid.uuid4()


def emitted(*events: OrderEvent) -> list[outbox.Envelope]:
    with transaction.atomic():
        return outbox.emit_many(events)


def placed(order_id: uuid.UUID) -> OrderPlaced:
    return OrderPlaced(order_id=order_id, sequence=1, customer="Ada", total=Decimal("9.99"))


def test_an_order_gets_one_invoice(order_id):
    """A message that is delivered twice leaves one invoice over the order's total."""
    [message] = emitted(placed(order_id))

    assert receive([message, message], using="default") == [None, None]
    assert Invoice.objects.get(order_id=order_id).total == Decimal("9.99")


def test_an_invoice_is_announced_as_a_consequence_of_the_order(order_id):
    """The invoice's event has the order's key and is caused by the message that led to it."""
    [message] = emitted(placed(order_id))
    receive([message], using="default")

    announced = Message.objects.get(type="billing.invoice.issued")
    invoice = Invoice.objects.get(order_id=order_id)
    assert f'"invoice_id":{invoice.pk}' in bytes(announced.data).decode()
    assert announced.key == str(order_id)
    assert announced.causation_id == message.id
    assert announced.correlation_id == message.correlation_id


def test_whatever_happens_to_an_order_is_entered_in_its_account(order_id):
    """Each event of an order, and no other, is one line of its account, in order."""
    receive(
        emitted(
            placed(order_id),
            OrderPaid(order_id=order_id, sequence=2),
            OrderPaid(order_id=uuid.uuid4(), sequence=5),
            OrderCancelled(order_id=order_id, sequence=3),
        ),
        using="default",
    )

    entries = Entry.objects.filter(order_id=order_id).order_by("id")
    assert list(entries.values_list("sequence", "event")) == [
        (1, "shop.order.placed"),
        (2, "shop.order.paid"),
        (3, "shop.order.cancelled"),
    ]


def test_doubles_would_show(order_id):
    """No constraint hides a second invoice or entry from the demo."""
    InvoiceFactory.create_batch(2, order_id=order_id)
    EntryFactory.create_batch(2, order_id=order_id)

    assert Invoice.objects.filter(order_id=order_id).count() == 2
    assert Entry.objects.filter(order_id=order_id).count() == 2


def test_a_receipt_is_mailed_and_on_record(
    order_id, mailoutbox, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        send_receipt(str(order_id), "9.99")

    assert Receipt.objects.filter(order_id=order_id).count() == 1
    [mail] = mailoutbox
    assert "9.99" in mail.body


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        ("10.00", QuoteGiven(amount=Decimal("11.90"))),
        ("400.01", QuoteDeclined(why="It is above 400.")),
    ],
)
def test_a_quote_has_the_taxes_or_is_declined(total, expected):
    """The answer comes back to whoever has asked."""
    with transaction.atomic():
        asked = outbox.ask(Quote(customer="Ada", total=Decimal(total)))
    drain()

    assert asked.result() == expected


def test_the_largest_quotes_are_left_to_a_person():
    """Until the deadline, if there is nobody."""
    with transaction.atomic():
        asked = outbox.ask(Quote(customer="Ada", total=Decimal(10_000)))
    drain()

    assert asked.state() == "pending"
