"""What billing does when the shop tells it something."""

from django.conf import settings

import outbox
from inbox import handler
from project.billing.models import Entry, Invoice
from project.billing.tasks import send_receipt
from project.shop.events import OrderEvent, OrderPlaced


@handler(OrderPlaced, name="billing.invoice", group="billing")
def invoice(event: OrderPlaced, message: outbox.Envelope) -> None:
    """Issue the invoice of an order."""
    Invoice.issue(order_id=event.order_id, total=event.total)
    if settings.BROKER_URL:  # else there is no worker
        send_receipt.delay(str(event.order_id), str(event.total))


@handler("shop.order.*", name="billing.account", group="billing")
def account(event: OrderEvent, message: outbox.Envelope) -> None:
    """Add a line to the account of an order, for whatever happens to it."""
    Entry.objects.create(order_id=event.order_id, sequence=event.sequence, event=message.type)
