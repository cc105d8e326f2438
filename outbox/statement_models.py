"""What statements leave behind: totals, what is to be stated, what groups get, and breaks."""

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from outbox.database.fields import InstantField
from outbox.message.cloudevents import MAX_ATTRIBUTE
from outbox.message.event_types import MAX_NAME
from outbox.states import BreakKind, BreakState

MAX_GROUP = 100
MAX_REASON = 500


class Reconciliation(models.Model):
    """How far the statements for a group have come.

    Buckets are closed before `closed`, and stated before `stated`, in milliseconds since 1970.
    `mark` and `mark_xid` are when was looked last, and the id of the transaction that did;
    `snapshot`, `position` and `system` what of the log was seen then, and in which cluster.
    """

    group = models.CharField(max_length=MAX_GROUP, unique=True)
    closed = models.BigIntegerField()
    stated = models.BigIntegerField()
    mark = models.BigIntegerField(default=0)
    mark_xid = models.BigIntegerField(default=0)
    snapshot = models.TextField(blank=True)
    position = models.BigIntegerField(default=0)
    system = models.CharField(max_length=20, blank=True)
    handles = models.JSONField(default=list)
    answered_at = InstantField(null=True)
    asked_at = InstantField(null=True)
    next_at = InstantField(default=timezone.now)

    class Meta:
        verbose_name = _("reconciliation")
        verbose_name_plural = _("reconciliations")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.group


class GroupTopic(models.Model):
    """A topic that a group has told it is bound to, and since when, in milliseconds since 1970."""

    group = models.CharField(max_length=MAX_GROUP)
    topic = models.CharField(max_length=MAX_NAME)
    begins = models.BigIntegerField()
    ends = models.BigIntegerField(null=True)

    class Meta:
        verbose_name = _("topic of a group")
        verbose_name_plural = _("topics of groups")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["group", "topic"], name="outbox_group_topic"),
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.topic}"


class BucketTotal(models.Model):
    """What this side has for a group in one bucket of one type, when it was closed; never updated.

    What comes later makes another row, of the next `revision`.
    """

    group = models.CharField(max_length=MAX_GROUP)
    start = models.BigIntegerField()
    type = models.CharField(max_length=MAX_NAME)
    revision = models.PositiveIntegerField(default=1)
    count = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)
    made = InstantField(default=timezone.now)

    class Meta:
        verbose_name = _("total of a bucket")
        verbose_name_plural = _("totals of buckets")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["group", "start", "type", "revision"], name="outbox_bucket_once"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["made"], name="outbox_bucket_made"),
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.type} {self.start}"


class ToState(models.Model):
    """A range that is to be stated, or is stated and not answered yet; then the row is deleted."""

    group = models.CharField(max_length=MAX_GROUP)
    since = models.BigIntegerField()
    until = models.BigIntegerField()
    width = models.BigIntegerField()
    type = models.CharField(max_length=MAX_NAME, blank=True)
    message_id = models.UUIDField(null=True, unique=True)
    sent_at = InstantField(null=True)

    class Meta:
        verbose_name = _("range to be stated")
        verbose_name_plural = _("ranges to be stated")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["group", "width", "since", "until", "type"], name="outbox_state_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.since} {self.until}"


class Break(models.Model):
    """A message that this side and a group do not say the same of; or a bucket, of whose numbers.

    Then `message_id` is a name that stands for the bucket and the numbers, which are in `figures`.
    """

    Kind = BreakKind

    group = models.CharField(_("group"), max_length=MAX_GROUP)
    kind = models.CharField(_("kind"), max_length=10, choices=BreakKind)
    message_id = models.CharField(_("message id"), max_length=MAX_ATTRIBUTE)
    type = models.CharField(_("type"), max_length=MAX_NAME)
    start = models.BigIntegerField(_("time of the id"))
    state = models.CharField(
        _("state"), max_length=10, choices=BreakState, default=BreakState.IN_TRANSIT
    )
    there = models.CharField(_("state there"), max_length=20, blank=True)
    found = InstantField(_("found"), default=timezone.now)
    changed = InstantField(_("changed"), default=timezone.now)
    replayed_at = InstantField(_("published again"), null=True)
    figures = models.JSONField(_("business totals"), null=True)
    reason = models.CharField(_("reason"), max_length=MAX_REASON, blank=True)
    by = models.CharField(_("by"), max_length=MAX_ATTRIBUTE, blank=True)

    class Meta:
        verbose_name = _("break")
        verbose_name_plural = _("breaks")
        default_permissions = ("view",)
        permissions = (
            ("repair_break", _("Can have breaks repaired")),
            ("accept_break", _("Can accept breaks")),
        )
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["group", "message_id", "kind"], name="outbox_break"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["group", "start"],
                condition=models.Q(state__in=[BreakState.IN_TRANSIT, BreakState.OPEN]),
                name="outbox_break_open",
            ),
            models.Index(
                fields=["changed"],
                condition=models.Q(state__in=[BreakState.REPAIRED, BreakState.ACCEPTED]),
                name="outbox_break_over",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.type} {self.message_id}"
