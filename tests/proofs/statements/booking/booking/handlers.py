"""Book what was sold; from 1,000 on it cannot be booked."""

import inbox
from booking.events import Sale


@inbox.handler(Sale)
def book(sale: Sale, message: object) -> None:
    if sale.number >= 1_000:
        raise inbox.Reject("too large")
