"""What has become of messages here: receipts by handler, and what could not be used at all."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from inbox import states
from inbox.process_models import ProcessAlias, ProcessInstance, ProcessStep
from inbox.states import CLOSED, OPEN, State
from outbox.database.fields import InstantField
from outbox.message.cloudevents import MAX_ATTRIBUTE
from outbox.message.event_types import MAX_NAME

__all__ = [
    "Binding",
    "DeadLetter",
    "KeySequence",
    "OpenRequest",
    "Original",
    "ProcessAlias",
    "ProcessInstance",
    "ProcessStep",
    "Receipt",
]


class Receipt(models.Model):
    """One row per handler and message, inserted in the transaction of the handler's effects.

    Idempotent Receiver (Hohpe and Woolf, "Enterprise Integration Patterns", 2003). As long as it
    is not processed it keeps the message: `headers` (JSON), `body`, `content_type`, `topic`.
    If its handler has failed it keeps the `traceback` of the `error`, and its `last_attempts`.
    Those of tasks keep what was returned, "" if that cannot be kept.
    """

    Reason = states.Reason

    handler = models.CharField(_("handler"), max_length=100)
    source = models.CharField(_("source"), max_length=255)
    message_id = models.CharField(_("message id"), max_length=255)
    type = models.CharField(_("type"), max_length=255)
    correlation_id = models.CharField(  # noqa: DJ001
        _("correlation id"), max_length=255, null=True
    )
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.PROCESSED)
    changed = InstantField(_("changed"), default=timezone.now)
    attempts = models.SmallIntegerField(_("attempts"), default=0)

    # What most receipts never have is NULL in them, which takes no space.
    received = InstantField(
        _("received"), null=True, help_text=_("when it first came in, if it was not processed then")
    )
    next_attempt_at = InstantField(_("next attempt"), null=True)
    begun = models.SmallIntegerField(
        _("begun"),
        null=True,
        help_text=_("calls that have begun and not ended: now, or with the end of their process"),
    )
    begun_at = InstantField(_("begun at"), null=True)
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
    traceback = models.TextField(  # noqa: DJ001
        _("traceback"), null=True, help_text=_("of the error; of a long one the middle is cut")
    )
    last_attempts = models.TextField(  # noqa: DJ001
        _("last attempts"),
        null=True,
        help_text=_("JSON: when each ended, its error, how long it took, and its process"),
    )
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
            # What waits for a step of an instance is found by the key of that.
            models.Index(
                fields=["handler", "key"],
                condition=Q(state=State.WAITING, place=0),
                name="inbox_early",
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
    changed = InstantField(_("changed"), default=timezone.now)

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
        TOO_LARGE = "too_large", _("larger than INBOX['MAX_BYTES']")
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
    size = models.BigIntegerField(
        _("size"), null=True, help_text=_("of the whole body, where only its head is kept")
    )
    sha256 = models.CharField(  # noqa: DJ001
        _("SHA-256"), max_length=64, null=True, help_text=_("of the whole body, likewise")
    )
    received = InstantField(_("received"), default=timezone.now)
    changed = InstantField(
        _("changed"), null=True, help_text=_("when it was tried again last, or its state changed")
    )

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
        return f"{self.reason} {self.message_id or f'#{self.pk}'}"

    @property
    def name_of_content(self) -> str:
        """The same text for the same message; nobody without SECRET_KEY can make it from a guess.

        The digest itself would confirm what is masked in a message of which all else is known.
        """
        return salted_hmac("inbox.DeadLetter.digest", self.digest, algorithm="sha256").hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether the whole message is here, so that it can be received again."""
        return self.size is None


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
    edited = InstantField(_("edited"), default=timezone.now)
    edited_by = models.CharField(_("edited by"), max_length=255)

    class Meta:
        verbose_name = _("original")
        verbose_name_plural = _("originals")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.edited_by} {self.edited}"


class Binding(models.Model):
    """A topic that the queue of a group is bound to: what a group remembers of its queue."""

    group = models.CharField(_("group"), max_length=100)
    queue = models.CharField(_("queue"), max_length=255)
    exchange = models.CharField(_("exchange"), max_length=255)
    topic = models.CharField(_("topic"), max_length=255)
    declared = InstantField(
        _("declared"), null=True, help_text=_("empty until the broker has confirmed it")
    )
    seen = InstantField(
        _("seen"), default=timezone.now, help_text=_("when a consumer of it was last there")
    )
    wanted = InstantField(
        _("wanted"), default=timezone.now, help_text=_("when a consumer last had a handler for it")
    )
    unbound = InstantField(
        _("unbound"),
        null=True,
        help_text=_("since then messages may not reach the queue; no handler was there for them"),
    )
    missing_since = InstantField(
        _("missing since"),
        null=True,
        help_text=_("from then until it was declared, messages may not have reached the queue"),
    )
    lost = models.BooleanField(
        _("lost"), default=False, help_text=_("whether it had been there before it was missing")
    )

    class Meta:
        verbose_name = _("binding")
        verbose_name_plural = _("bindings")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["group", "queue", "exchange", "topic"], name="inbox_binding"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.queue} {self.topic}"


class OpenRequest(models.Model):
    """A request that a handler has taken, to be answered later by inbox.answer(), which ends it.

    It keeps what was asked, so that a person can see it.
    """

    message_id = models.CharField(_("message id"), max_length=MAX_ATTRIBUTE)
    source = models.CharField(_("source"), max_length=MAX_ATTRIBUTE)
    type = models.CharField(_("type"), max_length=MAX_NAME)
    version = models.IntegerField(_("version"))
    handler = models.CharField(_("handler"), max_length=100)
    correlation_id = models.CharField(_("correlation id"), max_length=MAX_ATTRIBUTE)
    address = models.CharField(_("address of the reply"), max_length=MAX_NAME)
    opened_at = InstantField(_("opened"), default=timezone.now, editable=False)
    expires_at = InstantField(
        _("deadline"), null=True, help_text=_("by the clock of whoever asked")
    )
    content_type = models.CharField(_("content type"), max_length=MAX_ATTRIBUTE, default="")
    data = models.BinaryField(_("data"), default=b"")

    class Meta:
        verbose_name = _("open request")
        verbose_name_plural = _("open requests")
        default_permissions = ("view",)
        permissions = (("answer_openrequest", _("Can answer requests")),)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["message_id", "source", "handler"], name="inbox_open_once"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["opened_at"], name="inbox_opened"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.message_id}"
