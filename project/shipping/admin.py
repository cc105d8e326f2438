from django.contrib import admin

from project.shipping.models import Closure, Reservation, Shipment


@admin.register(Shipment)
class ShipmentAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("id", "order_id", "dispatched")
    search_fields = ("id", "order_id")
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(Reservation)
class ReservationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("order_id", "reserved")
    search_fields = ("order_id",)
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(Closure)
class ClosureAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("depot", "reason", "since")
