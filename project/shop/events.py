"""What the shop tells the world: every event of an order has the order's id as its key.

Other services import these classes. If they lived in repositories of their own they would have
classes of their own, with the fields that they need.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """What all events of an order have: which order, and the how manieth event of it."""

    order_id: UUID
    sequence: int


@outbox.event(
    "shop.order.placed",
    key="order_id",
    acknowledge=outbox.Acknowledge(groups=["billing", "shipping"], within=timedelta(minutes=5)),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced(OrderEvent):
    customer: str
    total: Decimal


@outbox.event("shop.order.amended", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAmended(OrderEvent):
    total: Decimal


@outbox.event("shop.order.paid", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPaid(OrderEvent):
    pass


@outbox.event("shop.order.cancelled", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled(OrderEvent):
    pass


@outbox.event("shop.order.shipped", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderShipped(OrderEvent):
    pass
