"""Lose messages on purpose, in ways that no relay, broker or consumer can notice by itself."""

from collections.abc import Callable, Collection, Iterable
from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.db.models import Model

from inbox.models import Receipt
from outbox.models import Message
from project.billing.models import Entry, Invoice
from project.demo import databases, queues
from project.demo.findings import Loss
from project.demo.processes import ProcessError
from project.demo.reconcile import (
    AMENDED,
    INVOICE_ISSUED,
    PLACED,
    SHIPMENT_DISPATCHED,
    SHIPPED,
)
from project.demo.stage import Stage
from project.demo.waiting import wait_until
from project.shipping.models import Reservation, Shipment
from project.shop.factories import OrderFactory
from project.shop.models import Order

RESTORED, STOLEN, DELETED = 5, 6, 10
"""How many orders each loss is about."""
_PATIENCE = 60.0


def restore_shop(stage: Stage) -> frozenset[Loss]:
    """Bring the shop's database back to its copy: orders that others know of are gone there."""
    services = stage.services
    stage.stop_shop()
    databases.copy(services.shop, beside=services.billing)
    stage.start_shop()
    orders = place(RESTORED)
    # Each has two entries in its account, as it was placed and as it was shipped.
    _until(stage, lambda: _count(Entry, orders, services.billing) == 2 * len(orders))
    billing = _ids(services.shop, (PLACED, SHIPPED), orders)
    shipping = _ids(services.shop, (PLACED,), orders)
    shipments = _ids(services.shipping, (SHIPMENT_DISPATCHED,), orders)
    stage.stop_shop()
    databases.restore(services.shop, beside=services.billing)
    stage.start_shop()
    return frozenset(
        [
            *(Loss("shop", "billing", "unknown", each) for each in billing),
            *(Loss("shop", "shipping", "unknown", each) for each in shipping),
            *(Loss("shipping", "shop", "missing", each) for each in shipments),
        ]
    )


def steal(stage: Stage) -> tuple[list[UUID], frozenset[Loss]]:
    """Let a stranger empty billing's queue; return the orders and what is lost of them."""
    stage.stop_consumer("billing")
    orders = place(STOLEN)
    _until(stage, lambda: _waiting(stage, "billing") >= STOLEN)
    _until(stage, lambda: _count(Reservation, orders, stage.services.shipping) == STOLEN)
    queues.throw_away(stage.url, "billing")
    lost = _ids(stage.services.shop, (PLACED,), orders)
    stage.start_consumer("billing")
    return orders, frozenset(Loss("shop", "billing", "missing", each) for each in lost)


def delete_queue(stage: Stage) -> tuple[list[UUID], frozenset[Loss]]:
    """Delete shipping's queue with all that waits in it; its consumer makes it again, empty."""
    stage.stop_consumer("shipping")
    orders = place(DELETED)
    _until(stage, lambda: _waiting(stage, "shipping") >= 2 * DELETED)
    services = stage.services
    placed = _ids(services.shop, (PLACED,), orders)
    invoiced = _ids(services.billing, (INVOICE_ISSUED,), orders)
    queues.delete(stage.url, "shipping")
    stage.start_consumer("shipping")
    stage.await_consumer("shipping")
    return orders, frozenset(
        [
            *(Loss("shop", "shipping", "missing", each) for each in placed),
            *(Loss("billing", "shipping", "missing", each) for each in invoiced),
        ]
    )


def forget(stage: Stage) -> dict[str, frozenset[Loss]]:
    """Without a broker there is no queue to lose: take rows away, as a restored backup would.

    Of changes of orders, from which nothing else follows: what billing has of some, and the shop's
    own messages of others.
    """
    orders = place(RESTORED + STOLEN)
    for order in Order.objects.filter(pk__in=orders):
        order.amend(order.total + Decimal(1))
        order.save()
    _until(stage, lambda: _count(Entry, orders, stage.services.billing) == 3 * len(orders))
    there, here = orders[:STOLEN], orders[STOLEN:]
    missing = _ids(stage.services.shop, (AMENDED,), there)
    unknown = _ids(stage.services.shop, (AMENDED,), here)
    with transaction.atomic():
        Entry.objects.filter(order_id__in=there, event=AMENDED).delete()
        Receipt.objects.filter(message_id__in=missing).delete()
        Message.objects.filter(message_id__in=unknown).delete()
    return {
        "receipts": frozenset(Loss("shop", "billing", "missing", each) for each in missing),
        "messages": frozenset(Loss("shop", "billing", "unknown", each) for each in unknown),
    }


def place(count: int) -> list[UUID]:
    """Place some orders, each in a transaction of its own; return their ids."""
    orders = []
    for _ in range(count):
        order = OrderFactory.build(reference="lost")
        with transaction.atomic():
            order.place()
            order.save()
        orders.append(order.pk)
    return orders


def await_end(stage: Stage, orders: Collection[UUID]) -> int:
    """Wait until orders are reserved, invoiced, dispatched and shipped; return how many are."""

    def ended() -> int:
        stage.check()
        services = stage.services
        shipped = Order.objects.filter(pk__in=orders, shipped__isnull=False).count()
        return min(
            _count(Reservation, orders, services.shipping),
            _count(Invoice, orders, services.billing),
            _count(Shipment, orders, services.shipping),
            shipped,
        )

    wait_until(lambda: ended() >= len(orders), _PATIENCE)
    return ended()


def _ids(alias: str, types: Iterable[str], orders: Collection[UUID]) -> list[str]:
    """Return the ids of the messages of some types about some orders, in a service's log."""
    rows = Message.objects.using(alias).filter(type__in=types, key__in=list(map(str, orders)))
    return [str(each) for each in rows.values_list("message_id", flat=True)]


def _count(model: type[Model], orders: Collection[UUID], alias: str) -> int:
    return model._default_manager.using(alias).filter(order_id__in=orders).count()


def _waiting(stage: Stage, group: str) -> int:
    queue = queues.look(stage.url, group)
    return 0 if queue is None else queue.messages


def _until(stage: Stage, condition: Callable[[], bool]) -> None:
    def ready() -> bool:
        stage.check()
        return condition()

    if not wait_until(ready, _PATIENCE):
        raise ProcessError(f"What was to be lost has not come within {_PATIENCE:g} seconds.")
