"""What the service writes: aggregates, what was done to them, and what the handlers made of it."""

from django.db import models


class Aggregate(models.Model):
    """Something that changes under its row lock and counts its versions."""

    key = models.CharField(max_length=50, primary_key=True)
    version = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.key} v{self.version}"


class Change(models.Model):
    """The truth: one row per change, committed with it and with its event.

    After a connection that broke in a commit only the database knows whether it committed.
    """

    key = models.CharField(max_length=50)
    version = models.IntegerField()
    kind = models.CharField(max_length=50)
    tag = models.CharField(max_length=32, unique=True)

    def __str__(self) -> str:
        return f"{self.key} v{self.version}"


class Effect(models.Model):
    """One row per call of a handler; nothing in the table hides that a handler ran twice."""

    handler = models.CharField(max_length=50)
    tag = models.CharField(max_length=32, db_index=True)

    def __str__(self) -> str:
        return f"{self.handler} {self.tag}"
