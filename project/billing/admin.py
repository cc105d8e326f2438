from django.contrib import admin

from project.billing.models import Entry, Invoice, Receipt


@admin.register(Invoice)
class InvoiceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("id", "order_id", "total", "issued")
    search_fields = ("id", "order_id")
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(Receipt)
class ReceiptAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("order_id", "mailed")
    search_fields = ("order_id",)
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("order_id", "sequence", "event", "booked")
    search_fields = ("order_id",)
    ordering = ("-id",)
    show_full_result_count = False
