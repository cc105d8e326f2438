"""Orders, and what can happen to them; baskets whose price was asked for."""

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import outbox
from project.shop.events import (
    OrderAmended,
    OrderCancelled,
    OrderEvent,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
)

if TYPE_CHECKING:
    from project.billing.events import Quote


class OrderError(Exception):
    """What was asked for cannot happen to this order any more."""


class Order(outbox.EmitsEvents, models.Model):
    """An order. Each method changes it and records what happened; save() writes and emits both.

    Payment, shipment and cancellation are facts of their own that come in any order: a parcel may
    be on its way before the money, or the cancellation, has arrived.

    Lock the row before you change an order that others may be changing too, with
    ``Order.objects.select_for_update()``. That makes changes of one order happen one after the
    other, which is what keeps its events in order.
    """

    # Known before the row is written, so that events can name it.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.CharField(_("customer"), max_length=100)
    reference = models.CharField(
        _("reference"), max_length=100, blank=True, help_text=_("What the customer calls it.")
    )
    total = models.DecimalField(_("total"), max_digits=10, decimal_places=2)
    sequence = models.PositiveIntegerField(
        _("sequence"), default=0, help_text=_("How many events this order has had.")
    )
    placed = models.DateTimeField(_("placed"), null=True)
    paid = models.DateTimeField(_("paid"), null=True)
    cancelled = models.DateTimeField(_("cancelled"), null=True)
    shipped = models.DateTimeField(_("shipped"), null=True)

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")

    def __str__(self) -> str:
        return self.reference or str(self.pk)

    def place(self) -> None:
        """Make the order binding."""
        self._once("placed")
        self._happened(OrderPlaced, customer=self.customer, total=self.total)

    def amend(self, total: Decimal) -> None:
        """Change what is ordered."""
        self.total = total
        self._happened(OrderAmended, total=total)

    def pay(self) -> None:
        """Note that the money has arrived."""
        self._once("paid")
        self._happened(OrderPaid)

    def cancel(self) -> None:
        """Take the order back; a parcel that is on its way will be sent back."""
        self._once("cancelled")
        self._happened(OrderCancelled)

    def ship(self) -> None:
        """Note that the parcel has left.

        Not guarded against being called twice, unlike the others: it is only called by a handler,
        and the demo shows that the inbox alone keeps that from happening twice.
        """
        self.shipped = timezone.now()
        self._happened(OrderShipped)

    def _once(self, fact: str) -> None:
        if getattr(self, fact) is not None:
            raise OrderError(f"Order {self} is {fact} already.")
        setattr(self, fact, timezone.now())

    def _happened(self, event: type[OrderEvent], **details: Any) -> None:
        self.sequence += 1
        self.record(event(order_id=self.pk, sequence=self.sequence, **details))


class Quotation(models.Model):
    """What billing was asked the price of, in a request that has the same id, and its answer."""

    class Way(models.TextChoices):
        """How the shop learns the answer."""

        POLL = "poll", _("poll")
        CALLBACK = "callback", _("callback")
        AWAIT = "await", _("await")

    id = models.UUIDField(primary_key=True, editable=False)
    customer = models.CharField(_("customer"), max_length=100)
    total = models.DecimalField(_("total"), max_digits=10, decimal_places=2)
    way = models.CharField(_("way"), max_length=10, choices=Way)
    state = models.CharField(_("state"), max_length=10, default="pending")
    amount = models.DecimalField(_("amount"), max_digits=10, decimal_places=2, null=True)
    asked = models.DateTimeField(_("asked"), default=timezone.now)

    class Meta:
        verbose_name = _("quotation")
        verbose_name_plural = _("quotations")

    def __str__(self) -> str:
        return f"{self.customer}: {self.total}"

    @classmethod
    def ask(cls, quote: "Quote", way: Way, *, within: timedelta) -> Self:
        """Ask billing, in the running transaction."""
        asked = outbox.ask(quote, within=within)
        new = cls(id=uuid.UUID(asked.id), customer=quote.customer, total=quote.total, way=way)
        new.save(force_insert=True)
        return new

    @property
    def request(self) -> outbox.Asked:
        """The request, to wait for or to look at."""
        return outbox.Asked(id=str(self.pk))

    def end(self, state: str, answer: object = None) -> None:
        """Note how the request has ended."""
        self.state, self.amount = state, getattr(answer, "amount", None)
        self.save(update_fields=["state", "amount"])
