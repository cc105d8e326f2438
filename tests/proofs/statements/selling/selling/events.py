from dataclasses import dataclass

import outbox


@outbox.event("shop.sold")
@dataclass(frozen=True, slots=True)
class Sold:
    number: int
