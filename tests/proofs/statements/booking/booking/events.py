import msgspec

import outbox


@outbox.event("shop.sold")
class Sale(msgspec.Struct):
    number: int
