from django.db import models


class Order(models.Model):
    """The one row of a transaction that may send a task as well."""

    number = models.IntegerField()
    note = models.CharField(max_length=250)

    def __str__(self) -> str:
        return str(self.number)
