from billing.events import InvoiceWritten

from inbox import handler
from shop.models import Order


@handler(InvoiceWritten, name="shop.invoiced")
def invoiced(event, message):
    Order.objects.filter(pk=event.order_id).update(status="invoiced")
