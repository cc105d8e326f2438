"""The log: one immutable row per message. And what is to be added to it at a later time."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from outbox.database.fields import CurrentTransactionId, InstantField, TransactionIdField
from outbox.exceptions import ImmutableRow
from outbox.message.cloudevents import MAX_ATTRIBUTE, MAX_TRACE_STATE
from outbox.message.envelope import Envelope
from outbox.message.event_types import MAX_NAME
from outbox.message.kinds import kind_of
from outbox.message.origin import origin_of
from outbox.statement_models import (
    Break,
    BucketTotal,
    GroupTopic,
    Reconciliation,
    ToState,
)
from outbox.states import Acknowledged, Hold, Outcome
from outbox.webhooks.urls import MAX_URL

__all__ = [
    "AppendOnly",
    "Break",
    "BucketTotal",
    "DoneOnce",
    "FailureNote",
    "GroupTopic",
    "Message",
    "Messages",
    "Messaging",
    "Reconciliation",
    "Reply",
    "Request",
    "Scheduled",
    "Settlement",
    "StoredEnvelope",
    "ToState",
]


class AppendOnly(models.Model):
    """Rows that are inserted and never changed."""

    class Meta:
        abstract = True

    def save(self, *, using: str | None = None, **options: Any) -> None:
        """Insert the row; raise ImmutableRow if it is in the database already.

        A copy is saved after `pk` was set to None, with a unique value for whatever has to be.
        """
        same = using in (None, self._state.db)
        if self.pk is not None and not self._state.adding and same:
            raise ImmutableRow(
                f"{self._meta.label} {self.pk} cannot be changed: it is a fact, and may have been "
                "published. Add another one instead."
            )
        super().save(using=using, **options | {"force_insert": True})


class StoredEnvelope(models.Model):
    """The columns of an envelope."""

    message_id = models.UUIDField(_("message id"), unique=True)
    type = models.CharField(_("type"), max_length=MAX_NAME)
    version = models.IntegerField(_("version"))
    source = models.CharField(_("source"), max_length=MAX_ATTRIBUTE)
    topic = models.CharField(_("topic"), max_length=MAX_NAME)
    subject = models.CharField(_("subject"), max_length=MAX_ATTRIBUTE, null=True)  # noqa: DJ001
    key = models.CharField(_("key"), max_length=MAX_ATTRIBUTE, null=True)  # noqa: DJ001
    time = InstantField(_("time"))
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

    @property
    def origin(self) -> str | None:
        """What code has emitted it, as far as it says so."""
        return origin_of(self.attributes)

    def as_envelope(self) -> Envelope:
        """Return the envelope as it is published, with the key that orders it."""
        names = (name for name in Envelope.__struct_fields__ if name != "id")
        values = {name: getattr(self, name) for name in names}
        values["key"] = kind_of(self.content_type).key(self.key, self.subject)
        return Envelope(id=str(self.message_id), **values | {"data": bytes(self.data)})


class Messages(models.QuerySet["Message"]):
    """Messages; what is added to them gets its place from the log."""

    def bulk_create(self, objs: Iterable["Message"], *args: Any, **options: Any) -> list["Message"]:
        """Insert messages at the end of the log, in their order, whatever positions they have."""
        new = list(objs)
        for each in new:
            each.pk = None
        return super().bulk_create(new, *args, **options)


class Message(AppendOnly, StoredEnvelope):
    """A fact, inserted in the transaction that made it true; never updated.

    Whatever is inserted gets its position from the log, and stands at its end: relays have gone
    past what they have read.

    PostgreSQL evaluates column defaults in the order of declaration: `transaction_id` must come
    before `position`, so that every row of a transaction gets its position after the
    transaction got its id. The reader builds on that.
    """

    transaction_id = TransactionIdField(
        _("transaction id"), db_default=CurrentTransactionId(), editable=False
    )
    position = models.BigAutoField(_("position"), primary_key=True)
    lane = models.SmallIntegerField(_("lane"))

    objects = Messages.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        default_permissions = ("view",)
        permissions = (("view_data", _("Can view what messages carry, through the API")),)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["lane", "position"], name="outbox_page"),
            models.Index(fields=["lane", "transaction_id", "position"], name="outbox_window"),
            models.Index(fields=["key", "position"], name="outbox_key"),
            models.Index(fields=["correlation_id"], name="outbox_correlation"),
        ]

    def save(self, *, using: str | None = None, **options: Any) -> None:
        """Insert the message at the end of the log; raise ImmutableRow if it is there already."""
        if self._state.adding or using not in (None, self._state.db):
            self.pk = None
        super().save(using=using, **options)


class Messaging(Message):
    """The log as a whole, for the one entry of the admin that leads to all pages about the flow."""

    class Meta:
        proxy = True
        verbose_name = _("messaging")
        verbose_name_plural = _("messaging")
        default_permissions = ()


class Scheduled(StoredEnvelope):
    """A message that enters the log when it is due, by the clock of the database.

    A table of its own, because rows of the log never change: position and transaction id are
    given when the message is due. `hash % LANES` will be its lane, with LANES as it is then. Its
    `time` is when it was emitted; in the log it is when it was due.
    """

    due_at = InstantField(_("due"))
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


class FailureNote(models.Model):
    """What people have to say about failures that are alike, found by their fingerprint."""

    fingerprint = models.CharField(_("fingerprint"), max_length=32, unique=True)
    text = models.TextField(_("text"))
    author = models.CharField(_("author"), max_length=255)
    changed = InstantField(_("changed"), default=timezone.now)

    class Meta:
        verbose_name = _("note about failures")
        verbose_name_plural = _("notes about failures")
        default_permissions = ("change",)

    def __str__(self) -> str:
        return self.text[:60]


class DoneOnce(models.Model):
    """That something which people ask for was begun, so that it is done once; see outbox.once."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    answer = models.TextField(_("answer"), null=True)  # noqa: DJ001 - not yet is not nothing
    begun = InstantField(_("begun"), default=timezone.now)

    class Meta:
        verbose_name = _("what was done once")
        verbose_name_plural = _("what was done once")
        default_permissions = ()
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["begun"], name="outbox_done_once"),
        ]

    def __str__(self) -> str:
        return self.name


class Request(models.Model):
    """What was asked, and until when an answer counts. People know it by the id of its message.

    `source`, `topic` and `key` are those of the message: what is said behind it goes the same way.
    `deadline` is by the clock of the database; `expiry_id` is the scheduled message that says so
    then. `once` is a hash of the owner and the idempotency key, `fingerprint` one of what was asked
    with it. Its end is POSTed to `callback_url`, if there is one; that may hold a token.
    """

    message_id = models.UUIDField(_("message id"), unique=True)
    source = models.CharField(_("source"), max_length=MAX_ATTRIBUTE, default="")
    type = models.CharField(_("type"), max_length=MAX_NAME)
    version = models.IntegerField(_("version"))
    topic = models.CharField(_("topic"), max_length=MAX_NAME, default="")
    key = models.CharField(_("key"), max_length=MAX_ATTRIBUTE, null=True)  # noqa: DJ001
    correlation_id = models.CharField(_("correlation id"), max_length=MAX_ATTRIBUTE)
    owner = models.CharField(_("owner"), max_length=MAX_ATTRIBUTE, blank=True)
    wanted = models.PositiveIntegerField(_("replies wanted"))
    asked_at = InstantField(_("asked"))
    deadline = InstantField(_("deadline"))
    expiry_id = models.UUIDField(_("id of the deadline's message"))
    once = models.CharField(  # noqa: DJ001 - unique, and most have none
        _("idempotency key, hashed"), max_length=64, null=True, unique=True
    )
    fingerprint = models.CharField(_("fingerprint"), max_length=64, blank=True)
    progress = models.FloatField(
        _("progress"), null=True, help_text=_("from 0 to 1, as whoever answers says")
    )
    progress_text = models.CharField(_("what is said of it"), max_length=MAX_ATTRIBUTE, default="")
    progress_at = InstantField(_("time of the progress"), null=True)
    callback_url = models.CharField(
        _("callback URL"), max_length=MAX_URL, blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = _("request")
        verbose_name_plural = _("requests")
        default_permissions = ("view",)
        permissions = (("cancel_request", _("Can cancel requests")),)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["deadline", "id"], name="outbox_request_deadline"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.message_id}"


class Reply(models.Model):
    """What came back on a request. `number` is its place among those that count; None if none.

    Of each `group` of a `source` one counts, the first.
    """

    request = models.ForeignKey(
        Request, on_delete=models.CASCADE, related_name="replies", verbose_name=_("request")
    )
    message_id = models.CharField(_("message id"), max_length=MAX_ATTRIBUTE)
    source = models.CharField(_("source"), max_length=MAX_ATTRIBUTE)
    type = models.CharField(_("type"), max_length=MAX_ATTRIBUTE)
    version = models.IntegerField(_("version"))
    content_type = models.CharField(_("content type"), max_length=MAX_ATTRIBUTE)
    data = models.BinaryField(_("data"))
    received_at = InstantField(_("received"))
    number = models.PositiveIntegerField(_("number"), null=True)
    group = models.CharField(
        _("group"), max_length=MAX_ATTRIBUTE, blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = _("reply")
        verbose_name_plural = _("replies")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["request", "number"], name="outbox_reply_number"),
            models.UniqueConstraint(
                fields=["request", "message_id", "source"], name="outbox_reply_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.message_id}"


class Settlement(models.Model):
    """The one end of a request: whoever inserts it first has settled it."""

    request = models.OneToOneField(
        Request,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="settlement",
        verbose_name=_("request"),
    )
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome.choices)
    settled_at = InstantField(_("settled"))
    told_id = models.UUIDField(
        _("told by"), null=True, help_text=_("the message that tells handlers here of it")
    )
    reason = models.CharField(_("reason"), max_length=MAX_ATTRIBUTE, blank=True)
    by = models.CharField(_("by"), max_length=MAX_ATTRIBUTE, blank=True)

    class Meta:
        verbose_name = _("settlement")
        verbose_name_plural = _("settlements")
        default_permissions = ("view",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["settled_at", "request"], name="outbox_settled"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} {self.outcome}"


class Acknowledgement(models.Model):
    """A message and a group that is to acknowledge it: one row, written with the message.

    All times are by the clock of the database. `due_at` is when to look whether to send it again,
    None if not any more; `hold` says why it was not, when that was looked at last. It was sent
    again `resends` times, of `most`.
    """

    message_id = models.UUIDField(_("message id"))
    group = models.CharField(_("group"), max_length=100)
    type = models.CharField(_("type"), max_length=MAX_NAME)
    state = models.CharField(_("state"), max_length=16, choices=Acknowledged.choices)
    sent_at = InstantField(_("sent"))
    within = models.FloatField(_("seconds to acknowledge"))
    due_at = InstantField(_("due"), null=True)
    resends = models.SmallIntegerField(_("resends"))
    most = models.SmallIntegerField(_("resends at most"))
    hold = models.CharField(
        _("why not sent again"), max_length=16, blank=True, choices=Hold.choices
    )
    told_at = InstantField(_("told"), null=True)
    told_by = models.CharField(_("told by"), max_length=MAX_ATTRIBUTE, blank=True)

    class Meta:
        verbose_name = _("acknowledgement")
        verbose_name_plural = _("acknowledgements")
        default_permissions = ("view",)
        permissions = (
            ("resend_acknowledgement", _("Can send again what is not acknowledged")),
            ("give_up_acknowledgement", _("Can give up waiting for acknowledgements")),
        )
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["message_id", "group"], name="outbox_acknowledged_once"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["due_at"],
                condition=models.Q(due_at__isnull=False),
                name="outbox_unacknowledged",
            ),
            models.Index(
                fields=["state", "id"],
                condition=models.Q(state__in=("missing", "dead")),
                name="outbox_ack_trouble",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.message_id} {self.group}"
