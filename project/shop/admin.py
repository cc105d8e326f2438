from django.contrib import admin

from project.shop.models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("reference", "customer", "total", "placed", "paid", "shipped", "cancelled")
    search_fields = ("reference", "customer", "id")
    readonly_fields = ("id", "sequence", "placed", "paid", "shipped", "cancelled")
    ordering = ("-placed",)
    show_full_result_count = False
