"""What the carrier is told, and what it tells. It has classes of its own for what others send."""

from dataclasses import dataclass
from uuid import UUID

import outbox


@outbox.event("shipping.shipment.dispatched", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    shipment_id: int
    order_id: UUID


@outbox.event("carrier.parcel.collected", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelCollected:
    parcel_id: int
    order_id: UUID
