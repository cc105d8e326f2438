"""What billing tells the world."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import outbox


@outbox.event("billing.invoice.issued", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceIssued:
    invoice_id: int
    order_id: UUID
    total: Decimal
