"""A process for tests: an order is paid, invoiced and shipped, or given up."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.db.models import TextChoices

import outbox
from inbox.processes.declaring import Process
from inbox.processes.intents import Do
from inbox.processes.marks import on, on_all, on_reply, on_timer
from inbox.processes.policies import Skip, Wait
from outbox.replies.settled import Settled


@outbox.event("tests.order.placed", key="order_id")
@dataclass(frozen=True)
class Placed:
    order_id: int
    total: Decimal


@outbox.event("tests.stock.reserved", key="order_id")
@dataclass(frozen=True)
class Reserved:
    order_id: int


@outbox.event("tests.invoice.written", key="order_id")
@dataclass(frozen=True)
class Invoiced:
    order_id: int
    number: str


@outbox.event("tests.parcel.shipped")
@dataclass(frozen=True)
class Shipped:
    parcel: str


@outbox.event("tests.parcel.lost")
@dataclass(frozen=True)
class Lost:
    parcel: str


@outbox.event("tests.ship", key="order_id")
@dataclass(frozen=True)
class Ship:
    order_id: int
    parcel: str


@outbox.event("tests.order.given_up", key="order_id")
@dataclass(frozen=True)
class GivenUp:
    order_id: int


@outbox.event("tests.payment.taken")
@dataclass(frozen=True)
class Taken:
    payment: str


@outbox.event("tests.payment.declined")
@dataclass(frozen=True)
class Declined:
    why: str


@outbox.event("tests.refund.done")
@dataclass(frozen=True)
class Refunded:
    payment: str


@outbox.request("tests.charge", reply=(Taken, Declined), within=timedelta(days=1), key="order_id")
@dataclass(frozen=True)
class Charge:
    order_id: int
    total: Decimal


@outbox.request("tests.refund", reply=(Refunded, Declined), within=timedelta(days=1))
@dataclass(frozen=True)
class Refund:
    order_id: int


class Fulfilment(Process, name="tests.fulfilment"):
    """From an order to its parcel."""

    class State(TextChoices):
        AWAITING = "awaiting"
        PAID = "paid"
        SHIPPING = "shipping"
        SHIPPED = "shipped"
        CANCELLED = "cancelled"

    @dataclass
    class Data:
        order_id: int
        total: Decimal
        payment: str = ""
        invoice: str = ""

    data: Data

    final = (State.SHIPPED, State.CANCELLED)
    early = {Reserved: Wait(timedelta(minutes=30))}
    late = {Invoiced: Skip("its order is given up")}

    @on(Placed, key="order_id", starts=True, to=State.AWAITING)
    def placed(self, event: Placed, do: Do) -> None:
        do.ask(Charge(event.order_id, event.total), undo=Refund(event.order_id))
        do.timer("unpaid", timedelta(days=3))

    @on_reply(Charge, Taken, frm=State.AWAITING, to=State.PAID)
    def paid(self, settled: Settled, do: Do) -> None:
        self.data.payment = settled.reply.payment
        do.cancel("unpaid")

    @on_reply(Charge, Declined, "failed", frm=State.AWAITING, to=State.CANCELLED)
    def unpaid(self, settled: Settled, do: Do) -> None:
        do.emit(GivenUp(self.data.order_id))

    @on_timer("unpaid", frm=State.AWAITING, to=State.CANCELLED)
    def too_late(self, do: Do) -> None:
        do.emit(GivenUp(self.data.order_id))
        do.compensate()

    @on_all(Reserved, Invoiced, key="order_id", frm=State.PAID, to=State.SHIPPING)
    def ready(self, events: tuple[Reserved, Invoiced], do: Do) -> None:
        _, invoiced = events
        self.data.invoice = invoiced.number
        parcel = f"parcel-{self.key}"
        do.alias("parcel", parcel)
        do.emit(Ship(self.data.order_id, parcel))

    @on(Shipped, key="parcel", alias="parcel", frm=State.SHIPPING, to=State.SHIPPED)
    def shipped(self, event: Shipped, do: Do) -> None:
        pass

    @on(Lost, key="parcel", alias="parcel", frm=State.SHIPPING, to=State.CANCELLED)
    def lost(self, event: Lost, do: Do) -> None:
        do.compensate()
