from django.db import models


class Invoice(models.Model):
    order_id = models.BigIntegerField()
    amount = models.DecimalField(max_digits=10, decimal_places=2)
