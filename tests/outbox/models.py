"""Models that emit events."""

from typing import Any

from django.db import models

import outbox
from tests.outbox.placed import Placed


class Thing(outbox.EmitsEvents, models.Model):
    """Records a note and emits it when it is saved."""

    name = models.CharField(max_length=20, default="")
    other = models.CharField(max_length=20, default="")
    serial = models.IntegerField(null=True, unique=True)

    class Meta:
        app_label = "tests_outbox"

    def note(self, text: str) -> None:
        self.record(Placed(order_id=1, note=text))


class ThingProxy(Thing):
    class Meta:
        app_label = "tests_outbox"
        proxy = True


class SpecialThing(Thing):
    """Multi-table inheritance: two tables, one save()."""

    extra = models.CharField(max_length=20, default="")

    class Meta:
        app_label = "tests_outbox"


class AbstractThing(outbox.EmitsEvents, models.Model):
    name = models.CharField(max_length=20, default="")

    class Meta:
        app_label = "tests_outbox"
        abstract = True

    def note(self, text: str) -> None:
        self.record(Placed(order_id=1, note=text))


class ConcreteThing(AbstractThing):
    class Meta:
        app_label = "tests_outbox"


class OwnSave(outbox.EmitsEvents, models.Model):
    """Has a save() of its own, which records."""

    name = models.CharField(max_length=20, default="")

    class Meta:
        app_label = "tests_outbox"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.name = self.name.strip()
        self.record(Placed(order_id=1, note=f"saving {self.name}"))
        super().save(*args, **kwargs)
