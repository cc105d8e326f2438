"""The doctor's findings, and who did what and why."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, QuerySet
from rest_framework import serializers as rest
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.api import flow
from outbox.api.access import Permitted, sees_all, view_permission
from outbox.api.actions import acted_on
from outbox.api.fields import Anything, Id, Instant, text
from outbox.api.openapi import CURSOR, LIMIT, described
from outbox.api.serializers import Shape
from outbox.api.views import Resource, Rows
from outbox.extensions.diagnosis import Level, examine, worst
from outbox.producer.writing import write_database
from outbox.reports.doings import who

FLAGS = {ADDITION: "add", CHANGE: "change", DELETION: "delete"}


class FindingItem(Shape):
    """One thing that the doctor has to say; `figures` are the numbers behind it."""

    level = rest.ChoiceField(choices=[(each.value, each.value) for each in Level], read_only=True)
    id = text()
    title = text()
    text = text()
    hint = rest.CharField(read_only=True, allow_blank=True)
    figures = Anything()


class FindingsItem(Shape):
    """What the doctor finds, the worst first, and the level of the worst."""

    worst = rest.ChoiceField(choices=[(each.value, each.value) for each in Level], read_only=True)
    results = FindingItem(many=True, read_only=True)


class Findings(Resource):
    """What manage.py doctor says."""

    resource = "findings"
    models = flow.Conversations.models
    whole: ClassVar[bool] = True

    @described(answer=FindingsItem)
    def list(self, request: Request) -> Response:
        """Ask the doctor; he asks brokers too, which may take some seconds."""
        found = examine(write_database())
        order = list(Level)
        found.sort(key=lambda finding: -order.index(finding.level))
        return Response(FindingsItem({"worst": worst(found), "results": found}).data)


class DoingItem(Shape):
    """What somebody did to a row. `what` is what was done, and the reason that was given."""

    id = Id(source="pk")
    at = Instant(source="action_time")
    user = rest.SerializerMethodField()
    model = rest.SerializerMethodField()
    object_id = text(allow_null=True)
    object = text(source="object_repr", allow_blank=True)
    kind = rest.SerializerMethodField()
    what = text(source="change_message", allow_blank=True)

    def get_model(self, entry: LogEntry) -> str:
        return str(entry.content_type.model) if entry.content_type else ""

    def get_user(self, entry: LogEntry) -> str:
        return who(entry)

    def get_kind(self, entry: LogEntry) -> str:
        return FLAGS.get(entry.action_flag, "change")


class ViewsSome(Permitted):
    """Lets those in who may view rows of any model of ours."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return super().has_permission(request, view) and bool(view.seen_models())


class Doings(Rows):
    """Who did what: the log of the admin, as far as it is about models that one may view."""

    resource = "doings"
    model = LogEntry
    models = ()
    item = DoingItem
    unindexed = True

    def needed_permissions(self) -> list[str]:
        return [*super().needed_permissions(), "admin.view_logentry"]

    @described(answer="page", query=(CURSOR, LIMIT))
    def list(self, request: Request) -> Response:
        """Read a page of what people did, the newest first."""
        if "q" in request.query_params:
            raise ValidationError({"q": ["There is no filter for what people did."]})
        return super().list(request)

    permission_classes = (ViewsSome,)

    def seen_models(self) -> Sequence[type[Model]]:
        """Return those models of ours that the user may view, of which something can be done.

        Where the scope narrows a model and not the log itself, nothing that was done to it is told.
        """
        whole = sees_all(self.request, LogEntry)
        return [
            model
            for model in acted_on
            if self.request.user.has_perm(view_permission(model))
            and not (whole and not sees_all(self.request, model))
        ]

    def every(self) -> QuerySet[Any]:
        kinds = ContentType.objects.get_for_models(*self.seen_models(), for_concrete_models=False)
        found = LogEntry.objects.filter(content_type__in=[each.pk for each in kinds.values()])
        return found.prefetch_related("user", "content_type")
