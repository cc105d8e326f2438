"""Its own tests, as a project that uses unittest has them."""

from decimal import Decimal

from billing.models import Invoice
from django.test import TestCase, TransactionTestCase
from rest_framework.test import APITestCase

from outbox.testing import (
    NoBrokerMixin,
    NotInTests,
    assert_emitted,
    assert_not_emitted,
    deliver,
    drain,
    recorded,
    sent_tasks,
)
from shop.events import OrderPlaced
from shop.factories import OrderFactory
from shop.models import Order
from shop.tasks import send_receipt


class ViewTests(NoBrokerMixin, APITestCase):
    """A view of Django REST framework, under ATOMIC_REQUESTS."""

    def test_place(self):
        response = self.client.post("/orders/", {"customer": "Ada", "total": "9.90"}, "json")

        assert response.status_code == 201
        placed = assert_emitted(OrderPlaced, order_id=response.data["id"], count=1)
        assert placed.total == Decimal("9.90")
        assert [task.args for task in sent_tasks(send_receipt)] == [(placed.order_id,)]

    def test_sold_out(self):
        response = self.client.post("/orders/", {"customer": "Ada", "total": "5000"}, "json")

        assert response.status_code == 409
        assert_not_emitted()
        assert sent_tasks() == []
        assert not Order.objects.exists()

    def test_invalid(self):
        self.client.post("/orders/", {"customer": "Ada"}, "json")

        assert_not_emitted()


class FlowTests(NoBrokerMixin, TestCase):
    """From the order to its invoice and back, in a transaction that never commits."""

    @classmethod
    def setUpTestData(cls):
        cls.order = OrderFactory(total="20.00")

    def test_recorded(self):
        self.order.place()
        [event] = recorded(self.order, OrderPlaced, order_id=self.order.pk)

        assert event.customer == self.order.customer
        assert_not_emitted()

    def test_invoiced(self):
        self.order.place()
        self.order.save()
        drain()

        self.order.refresh_from_db()
        assert self.order.status == "invoiced"
        assert Invoice.objects.get().amount == Decimal("20.00")

    def test_delay_outside_a_transaction(self):
        with self.assertRaises(NotInTests):  # noqa: PT027 - without pytest
            send_receipt.delay(self.order.pk)


class CommittedTests(NoBrokerMixin, TransactionTestCase):
    """Where transactions commit."""

    def test_invoiced(self):
        order = OrderFactory()
        order.place()
        order.save()
        drain()
        [again] = deliver(OrderPlaced(order_id=order.pk, customer="Ada", total=Decimal("1")))

        assert not again.duplicate
        assert Invoice.objects.count() == 2
