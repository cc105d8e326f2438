"""Invoices and accounts.

Orders belong to another service, which might have another database: there is no foreign key to
them, only their id.
"""

from decimal import Decimal
from typing import Self
from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import outbox
from project.billing.events import InvoiceIssued


class Invoice(outbox.EmitsEvents, models.Model):
    """What a customer owes for an order.

    There is one for each order, and in earnest a unique constraint would say so. Here nothing but
    the inbox keeps a second one away: the demo counts them, and a constraint would hide the
    mistake that it looks for.
    """

    order_id = models.UUIDField(_("order"), db_index=True)
    total = models.DecimalField(_("total"), max_digits=10, decimal_places=2)
    issued = models.DateTimeField(_("issued"), default=timezone.now)

    class Meta:
        verbose_name = _("invoice")
        verbose_name_plural = _("invoices")

    def __str__(self) -> str:
        return f"#{self.pk}"

    @classmethod
    def issue(cls, *, order_id: UUID, total: Decimal) -> Self:
        """Write an invoice and tell the world."""
        invoice = cls(order_id=order_id, total=total)
        # A function, because the invoice has no number before it is written.
        invoice.record(lambda: InvoiceIssued(invoice_id=invoice.pk, order_id=order_id, total=total))
        invoice.save()
        return invoice


class Receipt(models.Model):
    """That the receipt of an order was mailed. Without a constraint, as for invoices."""

    order_id = models.UUIDField(_("order"), db_index=True)
    mailed = models.DateTimeField(_("mailed"), default=timezone.now)

    class Meta:
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")

    def __str__(self) -> str:
        return str(self.order_id)


class Entry(models.Model):
    """One line in the account of an order: an event of it, in the order in which they came.

    Like invoices, without a constraint: the demo looks here for events that were handled twice
    (one sequence number twice) or out of order (a lower one behind a higher one).
    """

    order_id = models.UUIDField(_("order"))
    sequence = models.PositiveIntegerField(_("sequence"))
    event = models.CharField(_("event"), max_length=255)
    booked = models.DateTimeField(_("booked"), default=timezone.now)

    class Meta:
        verbose_name = _("account entry")
        verbose_name_plural = _("account entries")
        indexes = [models.Index(fields=["order_id", "id"], name="billing_account")]

    def __str__(self) -> str:
        return f"{self.sequence}. {self.event}"
