"""What has been handled, and what could not be."""

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Receipt(models.Model):
    """One row per handler and message, inserted in the transaction of the handler's effects.

    Idempotent Receiver (Hohpe and Woolf, "Enterprise Integration Patterns", 2003).
    """

    handler = models.CharField(_("handler"), max_length=100)
    source = models.CharField(_("source"), max_length=255)
    message_id = models.CharField(_("message id"), max_length=255)
    type = models.CharField(_("type"), max_length=255)
    correlation_id = models.CharField(  # noqa: DJ001
        _("correlation id"), max_length=255, null=True
    )
    processed = models.DateTimeField(_("processed"), default=timezone.now)

    class Meta:
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # The message id comes first: it is what people search by.
            models.UniqueConstraint(fields=["message_id", "handler", "source"], name="inbox_once"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # Messages of other senders often have none.
            models.Index(
                fields=["correlation_id"],
                name="inbox_correlation",
                condition=models.Q(correlation_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.handler} {self.message_id}"


class DeadLetter(models.Model):
    """A received message that nobody here can use, kept byte for byte for a person to look at.

    Dead Letter Channel (Hohpe and Woolf, "Enterprise Integration Patterns", 2003).
    """

    class Reason(models.TextChoices):
        UNDECODABLE = "undecodable", _("not a CloudEvent")
        UNKNOWN_TYPE = "unknown_type", _("no handler for its type")
        UNKNOWN_VERSION = "unknown_version", _("no handler for its version")
        INVALID_DATA = "invalid_data", _("data does not fit its event type")

    group = models.CharField(_("group"), max_length=100)
    handler = models.CharField(_("handler"), max_length=100, blank=True)
    reason = models.CharField(_("reason"), max_length=30, choices=Reason)
    error = models.TextField(_("error"))
    source = models.CharField(_("source"), max_length=255, blank=True)
    message_id = models.CharField(_("message id"), max_length=255, blank=True)
    type = models.CharField(_("type"), max_length=255, blank=True)
    topic = models.CharField(_("topic"), max_length=255, blank=True)
    content_type = models.CharField(_("content type"), max_length=255, blank=True)
    headers = models.TextField(_("headers"), help_text=_("JSON, as received"))
    body = models.BinaryField(_("body"))
    digest = models.CharField(_("digest"), max_length=64)
    received = models.DateTimeField(_("received"), default=timezone.now)

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # A redelivered message is the same dead letter.
            models.UniqueConstraint(fields=["digest", "group", "handler"], name="inbox_dead_once"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["message_id"], name="inbox_dead_message"),
        ]

    def __str__(self) -> str:
        return f"{self.reason} {self.message_id or self.digest[:12]}"
