"""What processes leave behind: instances, their steps, and by which other keys they are found."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from outbox.database.fields import InstantField

MAX_PROCESS = 40
MAX_KEY = 200
MAX_STATE = 40
MAX_METHOD = 100


class ProcessInstance(models.Model):
    """One run of a process, for one key. Where it stands is what its newest step says.

    `number`, `state`, `version`, `stuck` and `ended` repeat that, and are written with it, by who
    holds the instance: so what is open is found by an index, however much has ended.
    """

    process = models.CharField(_("process"), max_length=MAX_PROCESS)
    key = models.CharField(_("key"), max_length=MAX_KEY)
    number = models.IntegerField(_("steps"))
    state = models.CharField(_("state"), max_length=MAX_STATE)
    version = models.IntegerField(_("version"))
    stuck = models.TextField(
        _("stuck"), blank=True, default="", help_text=_("why a person has to go on")
    )
    begun = InstantField(_("begun"), default=timezone.now)
    changed = InstantField(_("last step"), default=timezone.now)
    ended = InstantField(_("ended"), null=True)

    class Meta:
        verbose_name = _("instance of a process")
        verbose_name_plural = _("instances of processes")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["process", "key"], name="inbox_instance"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["process", "state", "changed"],
                condition=Q(ended__isnull=True),
                name="inbox_instance_open",
            ),
            models.Index(
                fields=["ended"], condition=Q(ended__isnull=False), name="inbox_instance_ended"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.process} {self.key}"


class ProcessStep(models.Model):
    """One step of an instance: from which state to which, by what, and what it keeps.

    Rows are only added. That one number of an instance is taken once keeps two from going on from
    the same step. `data` is JSON; so is `kept`, the timers that are set, what has come of several
    events, and what can be undone; and `said`, what it has sent: kind, type and message id.
    """

    instance = models.ForeignKey(
        ProcessInstance, on_delete=models.CASCADE, related_name="steps", verbose_name=_("instance")
    )
    number = models.IntegerField(_("number"))
    source_state = models.CharField(_("from"), max_length=MAX_STATE, blank=True)
    state = models.CharField(_("state"), max_length=MAX_STATE)
    version = models.IntegerField(_("version"))
    data = models.TextField(_("data"))
    kept = models.TextField(_("kept"))
    said = models.TextField(_("said"), default="[]")
    method = models.CharField(_("method"), max_length=MAX_METHOD, blank=True)
    cause = models.CharField(
        _("cause"), max_length=255, help_text=_("an event type, a timer, or a request that ended")
    )
    message_id = models.CharField(_("message id"), max_length=255, blank=True)
    source = models.CharField(_("source"), max_length=255, blank=True)
    by = models.CharField(_("by"), max_length=150, blank=True, default="")
    reason = models.TextField(_("reason"), blank=True, default="")
    at = InstantField(_("at"), default=timezone.now)

    class Meta:
        verbose_name = _("step of a process")
        verbose_name_plural = _("steps of processes")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["instance", "number"], name="inbox_step"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.state}"


class ProcessAlias(models.Model):
    """Another key by which an instance is found: do.alias()."""

    process = models.CharField(_("process"), max_length=MAX_PROCESS)
    name = models.CharField(_("name"), max_length=100)
    value = models.CharField(_("value"), max_length=MAX_KEY)
    instance = models.ForeignKey(
        ProcessInstance,
        on_delete=models.CASCADE,
        related_name="aliases",
        verbose_name=_("instance"),
    )

    class Meta:
        verbose_name = _("other key of an instance")
        verbose_name_plural = _("other keys of instances")
        default_permissions = ("view",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["process", "name", "value"], name="inbox_alias"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.value}"
