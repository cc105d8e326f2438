from shop.events import OrderPlaced

import outbox
from billing.events import InvoiceWritten
from billing.models import Invoice
from inbox import Reject, handler


@handler(OrderPlaced, name="billing.invoice")
def invoice(event, message):
    if event.total < 0:
        raise Reject("an invoice of less than nothing")
    written = Invoice.objects.create(order_id=event.order_id, amount=event.total)
    outbox.emit(InvoiceWritten(order_id=event.order_id, number=written.pk))
