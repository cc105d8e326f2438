"""The event of the tests' models: alone, as every process that a test starts imports them."""

from dataclasses import dataclass

import outbox


@outbox.event("tests.placed", key="order_id")
@dataclass(frozen=True, slots=True)
class Placed:
    """What most tests emit."""

    order_id: int
    note: str = ""
