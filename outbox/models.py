"""The log: one immutable row per message. And what is to be added to it at a later time."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from outbox.fields import CurrentTransactionId, TransactionIdField
from outbox.registry import MAX_NAME
from outbox.wire import MAX_ATTRIBUTE, MAX_TRACE_STATE


class StoredEnvelope(models.Model):
    """The columns of an envelope."""

    message_id = models.UUIDField(_("message id"), unique=True)
    type = models.CharField(_("type"), max_length=MAX_NAME)
    version = models.IntegerField(_("version"))
    source = models.CharField(_("source"), max_length=MAX_ATTRIBUTE)
    topic = models.CharField(_("topic"), max_length=MAX_NAME)
    subject = models.CharField(_("subject"), max_length=MAX_ATTRIBUTE, null=True)  # noqa: DJ001
    key = models.CharField(_("key"), max_length=MAX_ATTRIBUTE, null=True)  # noqa: DJ001
    time = models.DateTimeField(_("time"))
    correlation_id = models.CharField(_("correlation id"), max_length=MAX_ATTRIBUTE)
    causation_id = models.CharField(  # noqa: DJ001
        _("causation id"), max_length=MAX_ATTRIBUTE, null=True
    )
    trace_parent = models.CharField(  # noqa: DJ001
        _("trace parent"), max_length=MAX_ATTRIBUTE, null=True
    )
    trace_state = models.CharField(  # noqa: DJ001
        _("trace state"), max_length=MAX_TRACE_STATE, null=True
    )
    content_type = models.CharField(_("content type"), max_length=MAX_ATTRIBUTE)
    data = models.BinaryField(_("data"))
    attributes = models.JSONField(_("extension attributes"), default=dict)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.type} {self.message_id}"


class Message(StoredEnvelope):
    """A fact, inserted in the transaction that made it true; never updated.

    PostgreSQL evaluates column defaults in the order of declaration: `transaction_id` must come
    before `position`, so that every row of a transaction gets its position after the
    transaction got its id. The reader builds on that.
    """

    transaction_id = TransactionIdField(
        _("transaction id"), db_default=CurrentTransactionId(), editable=False
    )
    position = models.BigAutoField(_("position"), primary_key=True)
    lane = models.SmallIntegerField(_("lane"))

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        default_permissions = ("view",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["lane", "position"], name="outbox_page"),
            models.Index(fields=["lane", "transaction_id", "position"], name="outbox_window"),
            models.Index(fields=["key", "position"], name="outbox_key"),
            models.Index(fields=["correlation_id"], name="outbox_correlation"),
        ]


class Scheduled(StoredEnvelope):
    """A message that enters the log when it is due, by the clock of the database.

    A table of its own, because rows of the log never change: position and transaction id are
    given when the message is due. `hash % LANES` will be its lane, with LANES as it is then. Its
    `time` is when it was emitted; in the log it is when it was due.
    """

    due_at = models.DateTimeField(_("due"))
    hash = models.BigIntegerField(_("hash"))

    class Meta:
        verbose_name = _("scheduled message")
        verbose_name_plural = _("scheduled messages")
        default_permissions = ("view",)
        permissions = (("cancel_scheduled", "Can cancel scheduled messages"),)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["due_at", "id"], name="outbox_due"),
            models.Index(fields=["key", "id"], name="outbox_due_key"),
        ]
