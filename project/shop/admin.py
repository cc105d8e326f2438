from django.contrib import admin

from project.shop.models import Order, Quotation


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("reference", "customer", "total", "placed", "paid", "shipped", "cancelled")
    search_fields = ("reference", "customer", "id")
    readonly_fields = ("id", "sequence", "placed", "paid", "shipped", "cancelled")
    ordering = ("-placed",)
    show_full_result_count = False


@admin.register(Quotation)
class QuotationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("id", "customer", "total", "way", "state", "amount", "asked")
    list_filter = ("way", "state")
    search_fields = ("id", "customer")
    readonly_fields = ("id",)
    ordering = ("-asked",)
    show_full_result_count = False
