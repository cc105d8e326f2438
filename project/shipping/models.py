"""Parcels."""

from typing import Self
from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import outbox
from project.shipping.events import ShipmentDispatched


class Shipment(outbox.EmitsEvents, models.Model):
    """A parcel on its way.

    One for each order, though no constraint says so: as with invoices, the demo counts.
    """

    order_id = models.UUIDField(_("order"), db_index=True)
    dispatched = models.DateTimeField(_("dispatched"), default=timezone.now)

    class Meta:
        verbose_name = _("shipment")
        verbose_name_plural = _("shipments")

    def __str__(self) -> str:
        return f"#{self.pk}"

    @classmethod
    def dispatch(cls, *, order_id: UUID) -> Self:
        """Send a parcel out and tell the world."""
        shipment = cls(order_id=order_id)
        shipment.record(lambda: ShipmentDispatched(shipment_id=shipment.pk, order_id=order_id))
        shipment.save()
        return shipment
