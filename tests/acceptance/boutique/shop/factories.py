import factory
from factory.django import DjangoModelFactory

from shop.models import Order


class OrderFactory(DjangoModelFactory):
    class Meta:
        model = Order

    customer = factory.Faker("name")
    total = factory.Faker("pydecimal", min_value=5, max_value=500, right_digits=2)
