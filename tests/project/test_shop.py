"""The shop: orders, their events, and what shipping sets off."""

import json
import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction

import outbox
from inbox.sources.local import receive
from outbox.models import Message
from outbox.testing import drain
from project.billing.events import Quote
from project.shipping.events import ShipmentDispatched
from project.shop.factories import OrderFactory
from project.shop.models import Order, OrderError, Quotation

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


def log_of(order: Order) -> list[tuple[str, int]]:
    """Return type and sequence number of the order's events, as they stand in the log."""
    messages = Message.objects.filter(key=str(order.pk)).order_by("position")
    return [(each.type, json.loads(bytes(each.data)).get("sequence")) for each in messages]


def dispatched(order_id: uuid.UUID) -> outbox.Envelope:
    with transaction.atomic():
        return outbox.emit(ShipmentDispatched(shipment_id=1, order_id=order_id))


def test_placing_an_order_emits_an_event_with_its_key():
    """The event is in the log as soon as the order is saved, and says what was ordered."""
    order = OrderFactory.build(customer="Ada", total=Decimal("12.50"))
    order.place()
    order.save()

    message = Message.objects.get(key=str(order.pk))
    assert message.type == "shop.order.placed"
    assert json.loads(bytes(message.data)) == {
        "order_id": str(order.pk),
        "sequence": 1,
        "customer": "Ada",
        "total": "12.50",
    }


def test_the_events_of_an_order_are_numbered():
    """Whatever happens to an order gets the next number, whoever loaded it."""
    order = OrderFactory.build()
    order.place()
    order.amend(Decimal(7))
    order.save()
    again = Order.objects.get(pk=order.pk)
    again.pay()
    again.cancel()
    again.save()

    assert log_of(order) == [
        ("shop.order.placed", 1),
        ("shop.order.amended", 2),
        ("shop.order.paid", 3),
        ("shop.order.cancelled", 4),
    ]


@pytest.mark.parametrize("method", ["place", "pay", "cancel"])
def test_what_has_happened_does_not_happen_again(method: str):
    """An order refuses to be placed, paid or cancelled twice, and records nothing."""
    order = OrderFactory.build()
    getattr(order, method)()
    with pytest.raises(OrderError, match="already"):
        getattr(order, method)()
    order.save()

    assert len(log_of(order)) == 1


def test_a_dispatched_shipment_marks_the_order_as_shipped_once():
    """A message that is delivered twice ships the order once."""
    order = OrderFactory.create()
    message = dispatched(order.pk)

    assert receive([message, message], using="default") == [None, None]
    order.refresh_from_db()
    assert order.shipped is not None
    assert [kind for kind, _ in log_of(order)].count("shop.order.shipped") == 1


def test_a_shipment_of_an_unknown_order_is_settled():
    """What can never be handled is not tried for ever."""
    assert receive([dispatched(uuid.uuid4())], using="default") == [None]
    assert not Message.objects.filter(type="shop.order.shipped").exists()


@pytest.mark.parametrize(("way", "state"), [("callback", "answered"), ("poll", "pending")])
def test_a_quotation_is_ended_by_the_handler_if_nobody_waits(way, state):
    """Who polls or awaits notes the answer himself."""
    with transaction.atomic():
        quotation = Quotation.ask(
            Quote(customer="Ada", total=Decimal(10)),
            Quotation.Way(way),
            within=timedelta(minutes=1),
        )
    drain()

    quotation.refresh_from_db()
    assert quotation.state == state
    assert quotation.amount == (Decimal("11.90") if state == "answered" else None)
    assert quotation.request.state() == "answered"


def test_an_order_is_acknowledged_by_two_groups():
    """Both that handle it tell that they have."""
    order = OrderFactory.build()
    with transaction.atomic():
        order.place()
        order.save()
    drain()

    placed = Message.objects.get(key=str(order.pk), type="shop.order.placed")
    told = outbox.acknowledgements(placed.message_id)
    assert [(each.group, each.state) for each in told] == [
        ("billing", "handled"),
        ("shipping", "handled"),
    ]
