# factory-boy is only partly typed.
# mypy: disable-error-code="attr-defined, no-untyped-call"
"""Invoices and account entries out of thin air, for tests."""

import uuid
from decimal import Decimal

import factory
from factory.django import DjangoModelFactory

from project.billing.models import Entry, Invoice


class InvoiceFactory(DjangoModelFactory[Invoice]):
    class Meta:
        model = Invoice

    order_id = factory.LazyFunction(uuid.uuid4)
    total = Decimal("99.90")


class EntryFactory(DjangoModelFactory[Entry]):
    class Meta:
        model = Entry

    order_id = factory.LazyFunction(uuid.uuid4)
    sequence = 1
    event = "shop.order.placed"
