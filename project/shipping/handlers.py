"""What shipping does when billing tells it something."""

import outbox
from inbox import handler
from project.billing.events import InvoiceIssued
from project.shipping.models import Shipment


@handler(InvoiceIssued, name="shipping.dispatch", group="shipping")
def dispatch(event: InvoiceIssued, message: outbox.Envelope) -> None:
    """Send out what is invoiced."""
    Shipment.dispatch(order_id=event.order_id)
