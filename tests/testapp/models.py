"""What the test app's handler leaves behind."""

from django.db import models


class Effect(models.Model):
    """One row per call of a handler; nothing in the table hides that a handler ran twice."""

    key = models.CharField(max_length=255)
    number = models.IntegerField()
    message_id = models.CharField(max_length=255)
    handler = models.CharField(max_length=100)

    def __str__(self) -> str:
        return f"{self.handler} {self.key} {self.number}"
