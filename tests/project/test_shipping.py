"""Shipping: parcels."""

import uuid
from decimal import Decimal

import pytest
from django.db import transaction

import outbox
from inbox import operator
from inbox.models import Receipt as Handled
from inbox.receiving.retries import Retries
from inbox.sources.local import receive
from outbox.models import Message
from project.billing.events import InvoiceIssued
from project.shipping.factories import ShipmentFactory
from project.shipping.models import Closure, Reservation, Shipment, depot_of
from project.shop.events import OrderPlaced

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


def test_an_invoice_sets_off_one_shipment():
    """A message that is delivered twice leaves one shipment, and one event of it."""
    order_id = uuid.uuid4()
    with transaction.atomic():
        message = outbox.emit(InvoiceIssued(invoice_id=3, order_id=order_id, total=Decimal(1)))

    assert receive([message, message], using="default") == [None, None]
    shipment = Shipment.objects.get(order_id=order_id)
    event = Message.objects.get(type="shipping.shipment.dispatched", key=str(order_id))
    assert f'"shipment_id":{shipment.pk}' in bytes(event.data).decode()


def test_an_order_has_a_place_reserved():
    """Once, however often it is delivered."""
    order_id = uuid.uuid4()
    placed = OrderPlaced(order_id=order_id, sequence=1, customer="Ada", total=Decimal(1))
    with transaction.atomic():
        message = outbox.emit(placed)

    assert receive([message, message], using="default") == [None, None]
    assert Reservation.objects.get().order_id == order_id


def test_doubles_would_show():
    """No constraint hides a second shipment from the demo."""
    order_id = uuid.uuid4()
    ShipmentFactory.create_batch(2, order_id=order_id)

    assert Shipment.objects.filter(order_id=order_id).count() == 2


def test_nothing_leaves_a_closed_depot():
    """Until somebody has opened it: then the same message is handled."""
    order_id = uuid.uuid4()
    closure = Closure.objects.create(depot=depot_of(order_id), reason="snow")
    with transaction.atomic():
        message = outbox.emit(InvoiceIssued(invoice_id=3, order_id=order_id, total=Decimal(1)))

    assert [each is None for each in receive([message], using="default")] == [True]
    receipt = Handled.objects.get(handler="shipping.dispatch")
    assert (receipt.state, receipt.error) == (
        "retrying",
        f"DepotClosed: Depot {closure.depot} is closed: snow",
    )
    assert not Shipment.objects.exists()

    closure.delete()
    operator.retry([receipt.pk], using="default")
    Retries("default", "shipping").turn()
    assert Shipment.objects.get().order_id == order_id
