"""What shipping does when billing tells it something."""

import outbox
from inbox import RetryPolicy, handler
from project.billing.events import InvoiceIssued
from project.shipping.models import Shipment


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
