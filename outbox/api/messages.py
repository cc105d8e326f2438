"""Messages of the log, and those that wait for their time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from rest_framework import serializers as rest
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.admin_support.payload import redacted
from outbox.api import data, serializers
from outbox.api.access import VIEW_DATA, scoped
from outbox.api.actions import ActingRows, with_operations
from outbox.api.fields import Id, Instant, number, text
from outbox.api.openapi import described
from outbox.api.problems import Conflict
from outbox.api.views import Rows
from outbox.conf import outbox_settings
from outbox.models import Message, Scheduled, StoredEnvelope
from outbox.operations import CANCEL

UUID_FORM = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

States = Callable[[Sequence[Message], str], Mapping[int, Mapping[str, str]]]
"""Returns the states of messages, by position and by the name of who says so."""

_states: list[States] = []


def tell_states(states: States) -> None:
    """Let messages have the states that a function returns; it takes messages and an alias."""
    _states.append(states)


class MessageItem(serializers.Envelope):
    """A message of the log. `states` has what each relay has made of it."""

    position = Id()
    lane = number()
    states = rest.DictField(child=text(), read_only=True)


class MessageFull(MessageItem):
    """The same, with what is read for one message alone. `origin` is what code it comes from."""

    origin = text(allow_null=True)


class ScheduledItem(serializers.Envelope):
    """A message that enters the log at `due_at`."""

    due_at = Instant()


class EnvelopeRows(Rows):
    """Rows with an envelope, named by the id of the message."""

    lookup_value_regex = UUID_FORM
    action_permissions = {"data": VIEW_DATA}
    defers = ("data", "attributes", "trace_state")

    def find(self, rows: QuerySet[Any], name: str) -> Any:
        try:
            row = rows.filter(message_id=UUID(name)).first()
        except ValueError:
            row = None
        if row is None:
            raise NotFound(self.missing(name))
        return row

    @described(answer=serializers.MessageData)
    @action(detail=True)
    def data(self, request: Request, id: str) -> Response:
        """Read what a message carries, masked. Takes the permission `django_outbox.view_data`."""
        row: StoredEnvelope = self.find(self.rows(), id)
        found = data.present(bytes(row.data), row.content_type)
        found["attributes"] = redacted(row.attributes, outbox_settings().REDACT)
        return Response(serializers.MessageData(found).data)


class Messages(EnvelopeRows, ActingRows):
    """The log. What publishes messages again commits by itself."""

    resource = "messages"
    atomic = False
    model = Message
    item = MessageItem
    full = MessageFull

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        for row in rows:
            row.states = {}
        for states in _states if rows else ():
            found = states(rows, using)
            for row in rows:
                row.states.update(found.get(row.pk, {}))


@with_operations({CANCEL.verb: CANCEL})
class ScheduledMessages(EnvelopeRows, ActingRows):
    """What waits for its time."""

    resource = "scheduled"
    model = Scheduled
    item = ScheduledItem

    def find(self, rows: QuerySet[Any], name: str) -> Any:
        try:
            return super().find(rows, name)
        except NotFound:
            if self.action != CANCEL.verb:
                raise
            emitted = scoped(self.request, Message.objects.using(rows.db).all())
            if emitted.filter(message_id=UUID(name)).exists():
                raise Conflict("It was due, and is in the log.", "emitted") from None
            raise

    def state_of(self, row: Any) -> str | None:
        return None if not Scheduled.objects.filter(pk=row.pk).exists() else "scheduled"
