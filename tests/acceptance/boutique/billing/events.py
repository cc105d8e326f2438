from dataclasses import dataclass

import outbox


@outbox.event("billing.invoice.written", key="order_id")
@dataclass(frozen=True, slots=True)
class InvoiceWritten:
    order_id: int
    number: int
