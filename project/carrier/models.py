"""Parcels that the carrier has collected."""

from typing import Self
from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import outbox
from project.carrier.events import ParcelCollected


class Parcel(outbox.EmitsEvents, models.Model):
    """A parcel on the road. One for each order, though no constraint says so: the demo counts."""

    shipment_id = models.BigIntegerField(_("shipment"))
    order_id = models.UUIDField(_("order"), db_index=True)
    collected = models.DateTimeField(_("collected"), default=timezone.now)
    announced = models.DateTimeField(_("announced"), null=True)

    class Meta:
        app_label = "carrier"  # it is imported where it is not installed, too: by type checkers
        verbose_name = _("parcel")
        verbose_name_plural = _("parcels")

    def __str__(self) -> str:
        return f"#{self.pk}"

    @classmethod
    def collect(cls, *, shipment_id: int, order_id: UUID) -> Self:
        """Collect a parcel, and tell the world."""
        parcel = cls(shipment_id=shipment_id, order_id=order_id)
        parcel.record(lambda: ParcelCollected(parcel_id=parcel.pk, order_id=order_id))
        parcel.save()
        return parcel
