"""What billing does when the shop tells or asks it something."""

from decimal import Decimal

from django.conf import settings

import inbox
import outbox
from inbox import handler
from project.billing.events import Quote, QuoteDeclined, QuoteGiven
from project.billing.models import Entry, Invoice
from project.billing.tasks import send_receipt
from project.shop.events import OrderEvent, OrderPlaced

TAX = Decimal("0.19")
LARGEST = Decimal(400)
"""Above this no quote is given."""
FOR_A_PERSON = Decimal(10_000)
"""From here on a person decides, if there is one."""


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


@handler(Quote, name="billing.quote", group="billing")
def quote(request: Quote, message: outbox.Envelope) -> object:
    """Say what a basket will cost, or decline to; leave the largest to a person."""
    if request.total >= FOR_A_PERSON:
        return inbox.LATER
    if request.total > LARGEST:
        return QuoteDeclined(why=f"It is above {LARGEST}.")
    return QuoteGiven(amount=(request.total * (1 + TAX)).quantize(Decimal("0.01")))
