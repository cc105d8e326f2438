"""Compare what the writers know with what the database holds: pure, no I/O.

An event is identified by what it says, not by its message id, so that one that was emitted twice
shows as well: by its order, its type and its place among the events of the order.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

PLACED = "shop.order.placed"
AMENDED = "shop.order.amended"
PAID = "shop.order.paid"
CANCELLED = "shop.order.cancelled"
SHIPPED = "shop.order.shipped"
INVOICE_ISSUED = "billing.invoice.issued"
SHIPMENT_DISPATCHED = "shipping.shipment.dispatched"

# What follows from each order that is placed, through the handlers of the three services.
FOLLOW_UPS = (INVOICE_ISSUED, SHIPMENT_DISPATCHED, SHIPPED)

# Which handlers each event must have had an effect through, once.
HANDLERS: Mapping[str, tuple[str, ...]] = {
    PLACED: ("billing.invoice", "billing.account", "shipping.reserve"),
    AMENDED: ("billing.account",),
    PAID: ("billing.account",),
    CANCELLED: ("billing.account",),
    SHIPPED: ("billing.account",),
    INVOICE_ISSUED: ("shipping.dispatch",),
    SHIPMENT_DISPATCHED: ("shop.ship",),
}


class Event(NamedTuple):
    """An event of an order. Those that follow from placing it have no number of their own."""

    order: UUID
    type: str
    sequence: int = 0


class Effect(NamedTuple):
    """What a handler left behind in the database."""

    handler: str
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a run.

    `committed`: the events of the writers' committed transactions, as the writers know them.
    `rolled_back`: how many orders were rolled back; `undone`: how many changes of orders.
    `log` and `published`: how often each event is in the log, and in the published part of it.
    `effects`: how often each handler left an effect of each event.
    `account`: for each order, the numbers of its events in the order in which they were handled.
    `duplicates_suppressed`: deliveries that receivers reported to have skipped.
    `receipts`: how many each order got from a task; None if no worker was there.
    `parcels`: how many the carrier has of each order; None if no carrier was there.
    """

    committed: frozenset[Event]
    log: Mapping[Event, int]
    published: Mapping[Event, int]
    effects: Mapping[Effect, int]
    account: Mapping[UUID, tuple[int, ...]]
    rolled_back: int = 0
    undone: int = 0
    duplicates_suppressed: int = 0
    receipts: Mapping[UUID, int] | None = None
    parcels: Mapping[UUID, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of a run, in events unless they say otherwise.

    `missing` says of each lost event how far it came; `unfounded` are events in the log that no
    committed transaction accounts for; `finished` tells whether the run came to its end in time.
    `tasks_done` is None without a worker, `parcels` without a carrier; a task or a parcel that is
    lost or was there twice counts as well.
    """

    committed: int
    rolled_back: int
    undone: int
    emitted: int
    published: int
    handled: int
    duplicates_suppressed: int
    lost: int
    effects_twice: int
    order_violations: int
    missing: Mapping[str, int] = field(default_factory=dict)
    unfounded: int = 0
    finished: bool = True
    tasks_done: int | None = None
    parcels: int | None = None

    @property
    def complete(self) -> bool:
        return not self.lost

    @property
    def kept(self) -> bool:
        """Whether every promise was kept, in time."""
        faults = self.lost, self.effects_twice, self.order_violations, self.unfounded
        return self.finished and not any(faults)

    def as_dict(self) -> dict[str, int]:
        """Return the figures that --json prints."""
        return {
            "committed": self.committed,
            "rolled_back": self.rolled_back,
            "emitted": self.emitted,
            "published": self.published,
            "handled": self.handled,
            "duplicates_suppressed": self.duplicates_suppressed,
            "lost": self.lost,
            "effects_twice": self.effects_twice,
            "order_violations": self.order_violations,
        }


def reconcile(facts: Facts) -> Report:
    """Return what became of every event that had to happen, and of those that had not."""
    orders = {event.order for event in facts.committed}
    expected = facts.committed | {Event(order, kind) for order in orders for kind in FOLLOW_UPS}
    missing = Counter(filter(None, (_missing(event, facts) for event in expected)))
    handled = len(expected) - missing.total()
    receipts: Counter[UUID] = Counter(facts.receipts or {})
    if facts.receipts is not None and (unsent := sum(not receipts[order] for order in orders)):
        missing["orders got no receipt from a task"] = unsent
    parcels: Counter[UUID] = Counter(facts.parcels or {})
    if facts.parcels is not None and (left := sum(not parcels[order] for order in orders)):
        missing["orders' parcels are not with the carrier"] = left
    twice = [count for counts in (facts.effects, receipts, parcels) for count in counts.values()]
    return Report(
        committed=len(orders),
        rolled_back=facts.rolled_back,
        undone=facts.undone,
        emitted=sum(facts.log.values()),
        published=sum(facts.published.values()),
        handled=handled,
        duplicates_suppressed=facts.duplicates_suppressed,
        lost=missing.total(),
        effects_twice=sum(count - 1 for count in twice if count > 1),
        order_violations=sum(map(violations, facts.account.values())),
        missing=dict(missing.most_common()),
        unfounded=sum(count for event, count in facts.log.items() if event not in expected),
        tasks_done=len(receipts) if facts.receipts is not None else None,
        parcels=len(parcels) if facts.parcels is not None else None,
    )


def violations(numbers: Iterable[int]) -> int:
    """Count the numbers that stand behind a higher one; repetitions are not a matter of order."""
    seen: set[int] = set()
    highest = found = 0
    for number in numbers:
        found += number < highest and number not in seen
        highest = max(highest, number)
        seen.add(number)
    return found


def _missing(event: Event, facts: Facts) -> str:
    """Say how far an event did not come; "" if it is published and handled."""
    if not facts.log.get(event):
        return f"{event.type} is not in the log"
    if not facts.published.get(event):
        return f"{event.type} is not published"
    for handler in HANDLERS[event.type]:
        if not facts.effects.get(Effect(handler, event)):
            return f"{event.type} is not handled by {handler}"
    return ""
