"""What was asked here, and how each of it has ended."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet, prefetch_related_objects
from rest_framework import serializers as rest
from rest_framework.exceptions import NotFound

from outbox.api import serializers
from outbox.api.actions import ActingRows, with_operations
from outbox.api.fields import Id, Instant, number, text
from outbox.api.messages import UUID_FORM
from outbox.models import Request
from outbox.operations import Operation
from outbox.replies.callbacks import callbacks_of
from outbox.replies.operations import CANCEL
from outbox.states import PENDING
from outbox.webhooks.urls import shown


class RequestItem(serializers.Shape):
    """A request, by the id of its message. `state` is pending until it has ended, once."""

    id = Id(source="message_id")
    type = text()
    version = number()
    correlation_id = text()
    owner = text()
    wanted = number(help_text="how many replies settle it")
    asked_at = Instant()
    deadline = Instant()
    state = text()
    settled_at = Instant(allow_null=True)
    settled_by = text(allow_null=True)
    reason = text(allow_null=True)
    progress = rest.FloatField(
        read_only=True, allow_null=True, help_text="from 0 to 1, as whoever answers says"
    )
    progress_text = text(allow_blank=True)
    progress_at = Instant(allow_null=True)
    callback_url = text(
        allow_blank=True,
        help_text="where its end is POSTed to, without its query; empty if nowhere",
    )
    callback = text(
        allow_null=True,
        help_text="the id of the message that is POSTed, once the request has ended",
    )


@with_operations({CANCEL.verb: CANCEL})
class Requests(ActingRows):
    """What this service has asked."""

    resource = "requests"
    model = Request
    item = RequestItem
    lookup_value_regex = UUID_FORM

    def prepare(self, rows: Any, using: str) -> None:
        prefetch_related_objects(rows, "settlement")
        called = callbacks_of([row for row in rows if row.callback_url], using)
        for row in rows:
            row.callback = called.get(row.message_id)
            row.callback_url = shown(row.callback_url)
            end = getattr(row, "settlement", None)
            row.state = end.outcome if end else PENDING
            row.settled_at = end and end.settled_at
            row.settled_by = end and end.by
            row.reason = end and end.reason

    def find(self, rows: QuerySet[Any], name: str) -> Any:
        try:
            row = rows.filter(message_id=UUID(name)).first()
        except ValueError:
            row = None
        if row is None:
            raise NotFound(self.missing(name))
        return row

    def state_of(self, row: Any) -> str | None:
        found = self.to_change().filter(pk=row.pk).first()
        if found is None:
            return None
        return found.settlement.outcome if hasattr(found, "settlement") else PENDING

    def why_not(self, operation: Operation, state: str | None) -> str:
        return f"It is {state}; cancel is for what is pending."
