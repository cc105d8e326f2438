"""What shipping tells the world."""

from dataclasses import dataclass
from uuid import UUID

import outbox


@outbox.event("shipping.shipment.dispatched", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ShipmentDispatched:
    shipment_id: int
    order_id: UUID
