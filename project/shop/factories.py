# factory-boy is only partly typed.
# mypy: disable-error-code="attr-defined, no-untyped-call"
"""Orders out of thin air, for tests and for the demo."""

from decimal import Decimal

import factory
from factory.django import DjangoModelFactory

from project.shop.models import Order


class OrderFactory(DjangoModelFactory[Order]):
    """Makes orders that are not placed yet: call place() and save()."""

    class Meta:
        model = Order

    customer = factory.Faker("name")
    reference = factory.Sequence("PO-{:05}".format)
    total = factory.Faker("pydecimal", min_value=Decimal(5), max_value=Decimal(500), right_digits=2)
