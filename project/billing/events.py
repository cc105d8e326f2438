"""What billing tells the world, and what it can be asked."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import outbox


@outbox.event("billing.invoice.issued", key="order_id")
@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceIssued:
    invoice_id: int
    order_id: UUID
    total: Decimal


@outbox.event("billing.quote.given")
@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteGiven:
    amount: Decimal


@outbox.event("billing.quote.declined")
@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteDeclined:
    why: str


@outbox.request(
    "billing.quote",
    key="customer",
    reply=(QuoteGiven, QuoteDeclined),
    within=timedelta(minutes=2),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What is to be paid for a basket of so much, taxes included."""

    customer: str
    total: Decimal
