"""What the service writes besides events."""

from django.db import models


class Order(models.Model):
    """The one row of a transaction that may emit an event as well."""

    number = models.IntegerField()
    note = models.CharField(max_length=250)

    def __str__(self) -> str:
        return str(self.number)


class Effect(models.Model):
    """What the handler writes: one row, with the time of its process."""

    number = models.IntegerField()
    note = models.CharField(max_length=250)
    at = models.FloatField()

    def __str__(self) -> str:
        return str(self.number)
