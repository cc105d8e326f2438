# factory-boy is only partly typed.
# mypy: disable-error-code="attr-defined, no-untyped-call"
"""Shipments out of thin air, for tests."""

import uuid

import factory
from factory.django import DjangoModelFactory

from project.shipping.models import Shipment


class ShipmentFactory(DjangoModelFactory[Shipment]):
    class Meta:
        model = Shipment

    order_id = factory.LazyFunction(uuid.uuid4)
