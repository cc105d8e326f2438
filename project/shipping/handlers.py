"""What shipping does when the shop and billing tell it something."""

import outbox
from inbox import RetryPolicy, handler
from project.billing.events import InvoiceIssued
from project.shipping.models import Reservation, Shipment
from project.shop.events import OrderPlaced


@handler(OrderPlaced, name="shipping.reserve", group="shipping")
def reserve(event: OrderPlaced, message: outbox.Envelope) -> None:
    """Keep a place for the parcel of an order."""
    Reservation.objects.create(order_id=event.order_id)


# Five attempts within half a minute: what fails in the demo is soon dead, and can be looked at.
@handler(
    InvoiceIssued,
    name="shipping.dispatch",
    group="shipping",
    retry=RetryPolicy(attempts=5, base=1, cap=10),
)
def dispatch(event: InvoiceIssued, message: outbox.Envelope) -> None:
    """Send out what is invoiced."""
    Shipment.dispatch(order_id=event.order_id)
