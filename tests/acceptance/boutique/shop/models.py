from django.db import models

import outbox
from shop.events import OrderPlaced


class Order(outbox.EmitsEvents, models.Model):
    customer = models.CharField(max_length=100)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    status = models.CharField(max_length=20, default="new")

    def place(self):
        self.status = "placed"
        self.record(lambda: OrderPlaced(order_id=self.pk, customer=self.customer, total=self.total))
