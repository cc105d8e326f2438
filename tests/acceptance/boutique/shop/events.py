from dataclasses import dataclass
from decimal import Decimal

import outbox


@outbox.event("shop.order.placed", key="order_id")
@dataclass(frozen=True, slots=True)
class OrderPlaced:
    order_id: int
    customer: str
    total: Decimal
