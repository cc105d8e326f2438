"""Gather from the database what became of a run: its events, and what they set off."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db.models import Model

from outbox.conf import outbox_settings
from outbox.models import Message
from project.billing.models import Entry, Invoice, Receipt
from project.demo.reconcile import (
    FOLLOW_UPS,
    HANDLERS,
    INVOICE_ISSUED,
    PLACED,
    SHIPMENT_DISPATCHED,
    SHIPPED,
    Effect,
    Event,
    Facts,
)
from project.demo.services import TOGETHER, Services
from project.demo.truth import Truth
from project.shipping.models import Reservation, Shipment
from relay.conf import DEFAULT_RELAY
from relay.models import Checkpoint
from relay.snapshots import parse

SLICE = 500
"""How many orders one query asks for."""


Ask = Callable[[Collection[UUID]], Mapping[UUID, int]]
"""Asks the carrier how many parcels it has of orders."""


class Logged(NamedTuple):
    """A row of the log, as far as it matters here."""

    lane: int
    transaction_id: int
    position: int
    type: str
    key: str
    data: bytes


def gather(
    truth: Truth,
    *,
    duplicates_suppressed: int = 0,
    tasks: bool = False,
    parcels_of: Ask | None = None,
    services: Services = TOGETHER,
) -> Facts:
    """Return the facts of a run, and of no other: orders are asked for by their ids.

    That includes the orders that were rolled back: nothing may be found of them. `tasks` if a
    Celery worker was there, so that receipts are asked for as well. `parcels_of` asks the carrier.
    """
    committed, orders = frozenset(truth.committed), truth.tried
    # The cursors come first: what is published meanwhile counts as not published yet.
    cursors = {alias: _cursors(alias) for alias in services.aliases}
    log: Counter[Event] = Counter()
    published: Counter[Event] = Counter()
    effects: Counter[Effect] = Counter()
    account: defaultdict[UUID, list[int]] = defaultdict(list)
    receipts: Counter[UUID] = Counter()
    parcels: Counter[UUID] = Counter()
    for some in _slices(orders):
        for alias in services.aliases:
            for row in _log(some, alias):
                event = _event(row)
                log[event] += 1
                published[event] += is_published(row, cursors[alias].get(row.lane))
                if row.type == SHIPPED:  # what the shop's handler does, and all that it does
                    effects[Effect("shop.ship", Event(event.order, SHIPMENT_DISPATCHED))] += 1
        for order in _orders(Invoice, some, services.billing):
            effects[Effect("billing.invoice", Event(order, PLACED, 1))] += 1
        receipts.update(_orders(Receipt, some, services.billing))
        for order in _orders(Reservation, some, services.shipping):
            effects[Effect("shipping.reserve", Event(order, PLACED, 1))] += 1
        for order in _orders(Shipment, some, services.shipping):
            effects[Effect("shipping.dispatch", Event(order, INVOICE_ISSUED))] += 1
        if parcels_of is not None:
            parcels.update(parcels_of(some))
        entries = Entry.objects.using(services.billing).filter(order_id__in=some).order_by("id")
        for order, kind, number in entries.values_list("order_id", "event", "sequence"):
            effects[Effect("billing.account", _identify(order, kind, number))] += 1
            account[order].append(number)
    return Facts(
        committed=committed,
        rolled_back=len(truth.rolled_back),
        undone=truth.undone,
        log=log,
        published=published,
        effects=effects,
        account={order: tuple(numbers) for order, numbers in account.items()},
        duplicates_suppressed=duplicates_suppressed,
        receipts=receipts if tasks else None,
        parcels=parcels if parcels_of is not None else None,
    )


def is_published(row: Logged, cursor: Checkpoint | None) -> bool:
    """Tell from the newest checkpoint of a message's lane whether it is published.

    Not from the sum of the checkpoints' counts: those include the messages of other runs. A
    message is published if it was visible when the window opened, or if it is visible in the
    window and stands in the part of it that is done (see relay.models.Checkpoint).
    """
    if cursor is None:
        return False
    done = cursor.complete or row.position <= cursor.position
    if not cursor.ceiling:  # SQLite: one writer at a time, so the position says it all
        return row.position <= cursor.position
    if parse(cursor.floor).sees(row.transaction_id):
        return True
    return parse(cursor.ceiling).sees(row.transaction_id) and done


def _orders(model: type[Model], orders: Collection[UUID], alias: str) -> Iterator[UUID]:
    """Yield the order of each row of a model that is of one of these orders."""
    rows = model._default_manager.using(alias).filter(order_id__in=orders)
    return iter(rows.values_list("order_id", flat=True))


def _cursors(alias: str) -> dict[int, Checkpoint]:
    checkpoints = Checkpoint.objects.using(alias).filter(relay=DEFAULT_RELAY).order_by("-previous")
    newest = (checkpoints.filter(lane=lane).first() for lane in range(outbox_settings().LANES))
    return {checkpoint.lane: checkpoint for checkpoint in newest if checkpoint is not None}


def _log(orders: Collection[UUID], alias: str) -> Iterator[Logged]:
    rows = Message.objects.using(alias)
    messages = rows.filter(key__in=[str(pk) for pk in orders], type__in=HANDLERS)
    return (Logged(*row) for row in messages.values_list(*Logged._fields))


def _event(row: Logged) -> Event:
    return _identify(UUID(row.key), row.type, json.loads(bytes(row.data)).get("sequence", 0))


def _identify(order: UUID, kind: str, number: int) -> Event:
    """Drop the number of what follows by itself: the writers cannot know it."""
    return Event(order, kind, 0 if kind in FOLLOW_UPS else number)


def _slices(orders: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    return (orders[start : start + SLICE] for start in range(0, len(orders), SLICE))
