"""Parcels, and the depots that they leave from."""

from typing import Self
from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import outbox
from project.shipping.events import ShipmentDispatched

DEPOTS = ("north", "east", "south", "west")


class DepotClosed(Exception):
    """A parcel cannot leave from where it is to leave from."""


class Closure(models.Model):
    """A depot that no parcel leaves from for now. Delete it, and the depot is open again."""

    depot = models.CharField(_("depot"), max_length=20, unique=True)
    reason = models.CharField(_("reason"), max_length=200)
    since = models.DateTimeField(_("since"), default=timezone.now)

    class Meta:
        verbose_name = _("closed depot")
        verbose_name_plural = _("closed depots")

    def __str__(self) -> str:
        return self.depot


def depot_of(order_id: UUID) -> str:
    """Return the depot that the parcel of an order leaves from."""
    return DEPOTS[order_id.int % len(DEPOTS)]


class Reservation(models.Model):
    """A place for the parcel of an order. Without a constraint, as for parcels."""

    order_id = models.UUIDField(_("order"), db_index=True)
    reserved = models.DateTimeField(_("reserved"), default=timezone.now)

    class Meta:
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")

    def __str__(self) -> str:
        return str(self.order_id)


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
        """Send a parcel out and tell the world; raise DepotClosed if it cannot leave."""
        depot = depot_of(order_id)
        if closure := Closure.objects.filter(depot=depot).first():
            raise DepotClosed(f"Depot {depot} is closed: {closure.reason}")
        shipment = cls(order_id=order_id)
        shipment.record(lambda: ShipmentDispatched(shipment_id=shipment.pk, order_id=order_id))
        shipment.save()
        return shipment
