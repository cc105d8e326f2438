"""What billing does when the shop tells it something."""

import outbox
from inbox import handler
from project.billing.models import Entry, Invoice
from project.shop.events import OrderEvent, OrderPlaced


@handler(OrderPlaced, name="billing.invoice", group="billing")
def invoice(event: OrderPlaced, message: outbox.Envelope) -> None:
    """Issue the invoice of an order."""
    Invoice.issue(order_id=event.order_id, total=event.total)


@handler("shop.order.*", name="billing.account", group="billing")
def account(event: OrderEvent, message: outbox.Envelope) -> None:
    """Add a line to the account of an order, for whatever happens to it."""
    Entry.objects.create(order_id=event.order_id, sequence=event.sequence, event=message.type)
