"""How a request ends. It does so once."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Outcome(models.TextChoices):
    """The one end of a request."""

    ANSWERED = "answered", _("answered")
    FAILED = "failed", _("failed")
    EXPIRED = "expired", _("expired")
    CANCELLED = "cancelled", _("cancelled")


PENDING = "pending"
"""What a request is that has not ended."""
