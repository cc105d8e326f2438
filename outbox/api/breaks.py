"""Which groups are compared with what was sent to them, and what the two sides do not agree on."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers as rest
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.api import serializers
from outbox.api.actions import ActingRows, with_operations
from outbox.api.fields import Anything, Id, Instant, text
from outbox.api.problems import Conflict, Refused
from outbox.api.views import Rows
from outbox.database.clock import database_now
from outbox.exceptions import OutboxError
from outbox.models import Break, GroupTopic, Reconciliation, ToState
from outbox.operations import Operation
from outbox.statements.buckets import moment
from outbox.statements.mending import ARRIVING
from outbox.statements.operations import OF_BREAKS
from outbox.states import BreakKind, BreakState


class BreakItem(serializers.Shape):
    """A message that this service and a group do not say the same of."""

    id = Id(source="pk")
    message_id = Id()
    group = text()
    kind = text()
    type = text()
    time = Instant(help_text="of the message, as its id has it")
    state = text()
    there = text(allow_blank=True, help_text="the state that the group has told")
    found = Instant()
    changed = Instant()
    replayed_at = Instant(allow_null=True)
    figures = Anything(allow_null=True, help_text="business totals, of here and of there")
    reason = text(allow_blank=True)
    by = text(allow_blank=True)


@with_operations(OF_BREAKS)
class Breaks(ActingRows):
    """What this service and its groups do not say the same of."""

    resource = "breaks"
    model = Break
    item = BreakItem

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        for row in rows:
            row.time = moment(row.start)

    def act(self, operation: Operation, request: Request, name: str) -> Response:
        try:
            return super().act(operation, request, name)
        except Conflict as exc:
            row = self.find(self.to_change(), name)
            if operation.verb != "repair" or not self._is_arriving(row):
                raise
            return Response({"id": name, "changed": False, "state": exc.state})
        except OutboxError as exc:
            raise Refused(f"Nothing was published again. {exc}") from exc

    def why_not(self, operation: Operation, state: str | None) -> str:
        if state == BreakState.OPEN and operation.verb == "repair":
            return "It is open, and not missing there: only what is missing is published again."
        return super().why_not(operation, state)

    @staticmethod
    def _is_arriving(row: Any) -> bool:
        """Tell whether it was published again a moment ago: whoever repeats himself gets that."""
        if row.state != BreakState.OPEN or row.kind != BreakKind.MISSING or not row.replayed_at:
            return False
        return bool(database_now(row._state.db) - row.replayed_at < ARRIVING)


class TopicItem(serializers.Shape):
    """A topic that the group has told it is bound to, and since when."""

    topic = text()
    since = Instant()
    until = Instant(allow_null=True)


class ReconciliationItem(serializers.Shape):
    """A group, and how far it is compared."""

    id = text(source="group")
    closed_until = Instant(help_text="before that nobody can add to what was emitted")
    stated_until = Instant(help_text="before that it was, or is to be, stated")
    asked_at = Instant(allow_null=True)
    answered_at = Instant(allow_null=True)
    next_at = Instant()
    unanswered = rest.BooleanField(read_only=True, help_text="whether a statement is unanswered")
    has_breaks = rest.BooleanField(read_only=True, help_text="whether a break with it is open")


class FullReconciliation(ReconciliationItem):
    """The same, with what the group has told of itself."""

    topics = TopicItem(many=True, read_only=True)
    handles = rest.ListField(child=text(), read_only=True, help_text="types that it handles")


class Reconciliations(Rows):
    """The groups of RECONCILE, and how far each is compared."""

    resource = "reconciliations"
    model = Reconciliation
    models = (Reconciliation, Break)
    item = ReconciliationItem
    full = FullReconciliation
    lookup_value_regex = "[^/]+"

    def find(self, rows: QuerySet[Any], name: str) -> Any:
        row = rows.filter(group=name).first() if "\0" not in name else None
        if row is None:
            raise NotFound(self.missing(name))
        return row

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        groups = [row.group for row in rows]
        unanswered = ToState.objects.using(using).filter(group__in=groups)
        waiting = set(unanswered.values_list("group", flat=True).distinct())
        breaks = Break.objects.using(using).filter(group__in=groups, state=BreakState.OPEN)
        broken = set(breaks.values_list("group", flat=True).distinct())
        topics = GroupTopic.objects.using(using).filter(group__in=groups).order_by("topic")
        told: dict[str, list[dict[str, Any]]] = {}
        for each in topics:
            until = None if each.ends is None else moment(each.ends)
            told.setdefault(each.group, []).append(
                {"topic": each.topic, "since": moment(each.begins), "until": until}
            )
        for row in rows:
            row.closed_until, row.stated_until = moment(row.closed), moment(row.stated)
            row.unanswered, row.has_breaks = row.group in waiting, row.group in broken
            row.topics = told.get(row.group, [])
