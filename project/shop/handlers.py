"""What the shop does when other services tell it something."""

import logging

import outbox
from inbox import handler, on_settled
from project.billing.events import Quote
from project.shipping.events import ShipmentDispatched
from project.shop.models import Order, Quotation

logger = logging.getLogger(__name__)


@handler(ShipmentDispatched, name="shop.ship", group="shop")
def ship(event: ShipmentDispatched, message: outbox.Envelope) -> None:
    """Mark the order as shipped, which is an event again."""
    order = Order.objects.select_for_update().filter(pk=event.order_id).first()
    if order is None:
        # A queue can outlive the database, in a test environment say. To raise would have the
        # message tried again, and that would never help.
        logger.warning("Shipment %s is of an unknown order.", event.shipment_id)
        return
    order.ship()
    order.save()


@on_settled(Quote, name="shop.quoted")
def quoted(request: Quote, settled: outbox.Settled) -> None:
    """Go on when billing has answered, or has not: who polls or awaits does that by itself."""
    asked = Quotation.objects.filter(pk=settled.id, way=Quotation.Way.CALLBACK).first()
    if asked is not None:
        asked.end(settled.state, settled.reply)
