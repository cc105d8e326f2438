"""What has become of messages here: receipts by handler, and what could not be used at all."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from inbox.states import CLOSED, OPEN, State


class Receipt(models.Model):
    """One row per handler and message, inserted in the transaction of the handler's effects.

    Idempotent Receiver (Hohpe and Woolf, "Enterprise Integration Patterns", 2003). As long as it
    is not processed it keeps the message: `headers` (JSON), `body`, `content_type`, `topic`.
    Those of tasks keep what was returned, "" if that cannot be kept.
    """

    class Reason(models.TextChoices):
        FAILED = "failed", _("its handler failed")
        RETRY = "retry", _("its handler asked for another attempt")
        REJECTED = "rejected", _("its handler rejected it")
        INVALID_DATA = "invalid_data", _("data does not fit its event type")
        BEHIND = "behind", _("behind another of its key")
        GAP = "gap", _("earlier ones of its sequence are missing")
        STALE = "stale", _("its key has gone past its sequence number")
        REDELIVERED = "redelivered", _("the broker delivered it again")
        CRASHED = "crashed", _("its handler ended the process")

    handler = models.CharField(_("handler"), max_length=100)
    source = models.CharField(_("source"), max_length=255)
    message_id = models.CharField(_("message id"), max_length=255)
    type = models.CharField(_("type"), max_length=255)
    correlation_id = models.CharField(  # noqa: DJ001
        _("correlation id"), max_length=255, null=True
    )
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.PROCESSED)
    changed = models.DateTimeField(_("changed"), default=timezone.now)
    attempts = models.SmallIntegerField(_("attempts"), default=0)

    # What most receipts never have is NULL in them, which takes no space.
    received = models.DateTimeField(
        _("received"), null=True, help_text=_("when it first came in, if it was not processed then")
    )
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True)
    begun = models.SmallIntegerField(
        _("begun"),
        null=True,
        help_text=_("calls that have begun and not ended: now, or with the end of their process"),
    )
    begun_at = models.DateTimeField(_("begun at"), null=True)
    reason = models.CharField(  # noqa: DJ001
        _("reason"), max_length=20, choices=Reason, null=True
    )
    error = models.TextField(_("error"), null=True)  # noqa: DJ001
    key = models.CharField(_("key"), max_length=255, null=True)  # noqa: DJ001
    place = models.BigIntegerField(
        _("place"),
        null=True,
        help_text=_(
            "in the line of its key: its sequence number, else the order of arrival; 0 if its "
            "handler keeps no order"
        ),
    )
    topic = models.CharField(_("topic"), max_length=255, null=True)  # noqa: DJ001
    content_type = models.CharField(  # noqa: DJ001
        _("content type"), max_length=255, null=True
    )
    headers = models.TextField(_("headers"), null=True)  # noqa: DJ001
    body = models.BinaryField(_("body"), null=True)
    result = models.TextField(  # noqa: DJ001
        _("result"), null=True, help_text=_("JSON: what a task has returned, if not None")
    )

    class Meta:
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("retry_receipt", _("Can have receipts retried")),
            ("edit_receipt", _("Can edit the message of a receipt")),
            ("discard_receipt", _("Can discard receipts")),
        ]
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
            # Each holds a part of the table, so that finding what is open costs what is open.
            models.Index(
                fields=["handler", "next_attempt_at"],
                condition=Q(next_attempt_at__isnull=False),
                name="inbox_due",
            ),
            # Beside lines of many messages, those without an order would be hard to find.
            models.Index(
                fields=["handler", "next_attempt_at"],
                condition=Q(next_attempt_at__isnull=False, place=0),
                name="inbox_due_free",
            ),
            models.Index(
                fields=["handler", "source", "key", "place", "id"],
                condition=Q(state__in=OPEN),
                name="inbox_line",
            ),
            models.Index(
                fields=["state", "id"],
                condition=Q(state__in=[each for each in State if each is not State.PROCESSED]),
                name="inbox_state",
            ),
            models.Index(
                fields=["changed"], condition=Q(state__in=CLOSED), name="inbox_closed_receipt"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.handler} {self.message_id}"


class KeySequence(models.Model):
    """How far an ordered handler has come in the sequence numbers of a key."""

    handler = models.CharField(_("handler"), max_length=100)
    source = models.CharField(_("source"), max_length=255)
    key = models.CharField(_("key"), max_length=255)
    last = models.BigIntegerField(_("last handled"))
    changed = models.DateTimeField(_("changed"), default=timezone.now)

    class Meta:
        verbose_name = _("key sequence")
        verbose_name_plural = _("key sequences")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["handler", "source", "key"], name="inbox_sequence"),
        ]

    def __str__(self) -> str:
        return f"{self.handler} {self.key} {self.last}"


class DeadLetter(models.Model):
    """A received message that no handler here can use, kept byte for byte for a person to look at.

    Dead Letter Channel (Hohpe and Woolf, "Enterprise Integration Patterns", 2003).
    """

    class Reason(models.TextChoices):
        UNDECODABLE = "undecodable", _("not a CloudEvent")
        UNKNOWN_TYPE = "unknown_type", _("no handler for its type")
        UNKNOWN_VERSION = "unknown_version", _("no handler for its version")
        # Only in rows of earlier versions: it is a dead receipt of the handler now.
        INVALID_DATA = "invalid_data", _("data does not fit its event type")

    group = models.CharField(_("group"), max_length=100)
    handler = models.CharField(_("handler"), max_length=100, blank=True)
    reason = models.CharField(_("reason"), max_length=30, choices=Reason)
    error = models.TextField(_("error"))
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.DEAD)
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
        permissions: ClassVar = [
            ("retry_deadletter", _("Can have dead letters received again")),
            ("edit_deadletter", _("Can edit dead letters")),
            ("discard_deadletter", _("Can discard dead letters")),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # A redelivered message is the same dead letter.
            models.UniqueConstraint(fields=["digest", "group", "handler"], name="inbox_dead_once"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["message_id"], name="inbox_dead_message"),
            models.Index(
                fields=["received"], condition=Q(state__in=CLOSED), name="inbox_closed_letter"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} {self.message_id or self.digest[:12]}"


class Original(models.Model):
    """A message as it was before a person edited it, and who that was."""

    # Without constraints in the database, which would slow down the deletion of receipts.
    receipt = models.ForeignKey(
        Receipt, models.CASCADE, null=True, db_constraint=False, related_name="originals"
    )
    dead_letter = models.ForeignKey(
        DeadLetter, models.CASCADE, null=True, db_constraint=False, related_name="originals"
    )
    topic = models.CharField(_("topic"), max_length=255, blank=True)
    content_type = models.CharField(_("content type"), max_length=255, blank=True)
    headers = models.TextField(_("headers"))
    body = models.BinaryField(_("body"))
    edited = models.DateTimeField(_("edited"), default=timezone.now)
    edited_by = models.CharField(_("edited by"), max_length=255)

    class Meta:
        verbose_name = _("original")
        verbose_name_plural = _("originals")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.edited_by} {self.edited}"
