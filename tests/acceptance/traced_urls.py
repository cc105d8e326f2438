"""The shop's one page: it places an order."""

from decimal import Decimal

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from project.shop.models import Order


def place(request: HttpRequest, customer: str) -> HttpResponse:
    """Place an order of a customer."""
    with transaction.atomic():
        order = Order(customer=customer, total=Decimal("12.50"))
        order.place()
        order.save()
    return HttpResponse(str(order.pk))


urlpatterns = [path("orders/<str:customer>/", place)]
