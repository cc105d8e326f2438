"""Append-only checkpoints, which are cursor, fence and audit trail; and what was parked."""

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from outbox.database.fields import (
    CurrentTransactionId,
    InstantField,
    SnapshotField,
    TransactionIdField,
)
from outbox.message.cloudevents import MAX_ATTRIBUTE
from outbox.message.event_types import MAX_NAME
from outbox.models import AppendOnly
from relay.states import OPEN, ParkedState


class Checkpoint(AppendOnly):
    """How far a relay has come in a lane: one row per published page, never updated.

    The newest row of (relay, lane) is the cursor. `previous` is the id of the row before it, 0
    for the first; as it is unique per lane, two processes can never both extend the chain.

    The first row of all lanes is the relay's start: what is visible in its floor is left behind in
    every lane.

    A page belongs to a window: what is visible in `ceiling` and not in `floor`. All of it up to
    `position` is published, and when `complete` the whole window is.
    """

    relay = models.CharField(_("relay"), max_length=100)
    lane = models.SmallIntegerField(_("lane"))
    previous = models.BigIntegerField(_("previous"))
    floor = SnapshotField(_("floor"))
    ceiling = SnapshotField(_("ceiling"))
    position = models.BigIntegerField(_("position"))
    complete = models.BooleanField(_("window complete"))
    sequence = models.BigIntegerField(
        _("sequence"),
        help_text=_("Highest position in use, read before this row's transaction got its id."),
    )
    window_start = models.BigIntegerField(
        _("window start"),
        help_text=_("New transactions of this window have only positions above this."),
    )
    next_start = models.BigIntegerField(
        _("next start"), help_text=_("The same for the window after this one.")
    )
    window_previous = models.BigIntegerField(
        _("previous of window"),
        default=0,
        help_text=_("The checkpoint before the first one of this window."),
    )
    window_count = models.BigIntegerField(_("messages in window"))
    transaction_id = TransactionIdField(
        _("transaction id"), db_default=CurrentTransactionId(), editable=False
    )
    system_identifier = models.BigIntegerField(_("system identifier"))
    first_position = models.BigIntegerField(_("first position"))
    count = models.IntegerField(_("messages"))
    published_by = models.CharField(_("published by"), max_length=255)
    duration = models.DurationField(_("duration"))
    created = InstantField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("checkpoint")
        verbose_name_plural = _("checkpoints")
        default_permissions = ("view",)
        permissions = (("replay_checkpoint", _("Can have messages published again")),)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["relay", "lane", "previous"], name="relay_chain"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["relay", "id"], condition=models.Q(previous=0), name="relay_start"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.relay}/{self.lane} #{self.pk}"


class Parked(models.Model):
    """A message that one relay has taken out of the flow, so that it delays nobody but its key.

    Either the broker refused it, or an earlier one of its key is parked. The message itself stays
    in the log, at `position`. Once it is settled, the row tells when and by whom.
    """

    relay = models.CharField(_("relay"), max_length=100)
    lane = models.SmallIntegerField(_("lane"))
    position = models.BigIntegerField(_("position"))
    message_id = models.UUIDField(_("message id"))
    type = models.CharField(_("type"), max_length=MAX_NAME)
    topic = models.CharField(_("topic"), max_length=MAX_NAME)
    key = models.CharField(_("key"), max_length=MAX_ATTRIBUTE, null=True)  # noqa: DJ001
    state = models.CharField(_("state"), max_length=10, choices=ParkedState)
    reason = models.CharField(_("reason"), max_length=10)
    error = models.TextField(_("error"))
    attempts = models.IntegerField(_("attempts"), default=0)
    next_attempt_at = InstantField(_("next attempt"), null=True)
    parked_at = InstantField(_("parked"))
    changed = InstantField(
        _("changed"), null=True, help_text=_("when it was refused last, or its state changed")
    )
    settled_at = InstantField(_("settled"), null=True)
    settled_by = models.CharField(_("settled by"), max_length=255, blank=True)

    class Meta:
        verbose_name = _("parked message")
        verbose_name_plural = _("parked messages")
        default_permissions = ("view",)
        permissions = (
            ("requeue_parked", _("Can requeue parked messages")),
            ("discard_parked", _("Can discard parked messages")),
        )
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["position", "relay"], name="relay_parked_once"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["relay", "lane", "next_attempt_at"],
                condition=models.Q(state=ParkedState.PARKED),
                name="relay_parked_due",
            ),
            models.Index(
                fields=["relay", "key", "position"],
                condition=models.Q(state__in=OPEN),
                name="relay_parked_open",
            ),
            models.Index(
                fields=["settled_at"],
                condition=models.Q(settled_at__isnull=False),
                name="relay_parked_settled",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.type} {self.message_id}"
