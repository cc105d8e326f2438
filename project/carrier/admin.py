from django.contrib import admin

from project.carrier.models import Parcel


@admin.register(Parcel)
class ParcelAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("id", "order_id", "collected", "announced")
    search_fields = ("id", "order_id")
    ordering = ("-id",)
    show_full_result_count = False
