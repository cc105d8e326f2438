"""What the carrier does when it is told something."""

from django.utils import timezone

import outbox
from inbox import handler
from project.carrier.events import Dispatched, ParcelCollected
from project.carrier.models import Parcel


@handler(Dispatched, name="carrier.collect", group="carrier")
def collect(event: Dispatched, message: outbox.Envelope) -> None:
    """Collect what is dispatched, and tell."""
    Parcel.collect(shipment_id=event.shipment_id, order_id=event.order_id)


@handler(ParcelCollected, name="carrier.announce", group="carrier")
def announce(event: ParcelCollected, message: outbox.Envelope) -> None:
    """Announce a parcel to who gets it."""
    Parcel._default_manager.filter(pk=event.parcel_id).update(announced=timezone.now())
