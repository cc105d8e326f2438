"""The inbox's resources: receipts, dead letters, and the groups that handlers are in."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers as rest
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from inbox.api.editing import EditableRows
from inbox.api.open_requests import OpenRequests
from inbox.handlers.registry import handlers
from inbox.ledger import attempts
from inbox.ledger.masking import masked
from inbox.models import Binding, DeadLetter, Receipt
from inbox.operations import OF_LETTERS, OF_RECEIPTS
from outbox.api import data, flow, serializers
from outbox.api.access import VIEW_DATA
from outbox.api.actions import with_operations
from outbox.api.fields import Id, Instant, number, text
from outbox.api.openapi import described
from outbox.api.serializers import Shape
from outbox.api.views import Resource


class ReceiptItem(Shape):
    """What became of a message with one handler."""

    id = Id(source="pk")
    handler = text()
    source = text()  # type: ignore[assignment]
    message_id = text()
    type = text()
    correlation_id = text(allow_null=True)
    key = text(allow_null=True)
    topic = text(allow_null=True)
    state = text()
    reason = text(allow_null=True)
    error = rest.SerializerMethodField()
    attempts = number()
    received = Instant(allow_null=True)
    changed = Instant()
    next_attempt_at = Instant(allow_null=True)

    def get_error(self, row: Receipt) -> str | None:
        return masked(row.error) if row.error else None


class AttemptItem(Shape):
    """One call of a handler: when it ended, what was wrong, how long it took, in which process."""

    at = text(allow_blank=True)
    error = rest.SerializerMethodField()
    seconds = rest.FloatField(read_only=True, allow_null=True)
    process = text(allow_blank=True)

    def get_error(self, attempt: attempts.Attempt) -> str | None:
        return masked(str(attempt.error)) if attempt.error else None


class ReceiptDetail(ReceiptItem):
    """A receipt with its last attempts, and the traceback of the last error."""

    traceback = rest.SerializerMethodField()
    last_attempts = rest.SerializerMethodField()

    def get_traceback(self, row: Receipt) -> str | None:
        return masked(row.traceback) if row.traceback else None

    def get_last_attempts(self, row: Receipt) -> list[Any]:
        return list(AttemptItem(attempts.read(row.last_attempts), many=True).data)


class LetterItem(Shape):
    """A message that no handler could use. Of one that is not `whole` only the head is here."""

    id = Id(source="pk")
    group = text()
    handler = text(allow_blank=True)
    reason = text()
    error = rest.SerializerMethodField()
    state = text()
    source = text(allow_blank=True)  # type: ignore[assignment]
    message_id = text(allow_blank=True)
    type = text(allow_blank=True)
    topic = text(allow_blank=True)
    digest = text(source="name_of_content")
    whole = rest.BooleanField(source="is_whole", read_only=True)
    received = Instant()
    changed = Instant(allow_null=True)

    def get_error(self, row: DeadLetter) -> str:
        return masked(row.error)


class ReceivedRows(EditableRows):
    """Rows that keep a message as it came in."""

    action_permissions = {"data": VIEW_DATA}

    @described(answer=serializers.ReceivedData)
    @action(detail=True)
    def data(self, request: Request, id: str) -> Response:
        """Read what came in, masked. Takes the permission `django_outbox.view_data`.

        What is processed keeps nothing of it.
        """
        row = self.find(self.rows(), id)
        found = data.present(bytes(row.body or b""), row.content_type or "")
        found["headers"] = data.present_json(row.headers or "null")
        return Response(serializers.ReceivedData(found).data)


@with_operations(OF_RECEIPTS)
class Receipts(ReceivedRows):
    """What became of messages with each handler."""

    resource = "receipts"
    model = Receipt
    item = ReceiptItem
    full = ReceiptDetail
    changes = ("changed",)
    defers = ("headers", "body", "traceback", "last_attempts", "result")


@with_operations(OF_LETTERS)
class DeadLetters(ReceivedRows):
    """What nobody could use."""

    resource = "dead-letters"
    model = DeadLetter
    item = LetterItem
    changes = ("changed", "received")
    defers = ("headers", "body")


class HandlerItem(Shape):
    """A handler in the code: what it is for, and whether it keeps the order of keys."""

    name = text()
    pattern = text()
    version = number(allow_null=True)
    ordered = rest.BooleanField(read_only=True)


class BindingItem(Shape):
    """A topic that the queue of a group is bound to."""

    queue = text()
    exchange = text()
    topic = text()
    declared = Instant(allow_null=True)
    seen = Instant()
    unbound = Instant(allow_null=True)


class GroupItem(Shape):
    """A group: its handlers, and what it remembers of its queue."""

    name = text()
    handlers = HandlerItem(many=True, read_only=True)
    bindings = BindingItem(many=True, read_only=True)


class GroupsItem(Shape):
    """All groups."""

    results = GroupItem(many=True, read_only=True)


class Groups(Resource):
    """The groups that receive messages."""

    resource = "groups"
    models = (Binding,)
    whole: ClassVar[bool] = True
    lookup_value_regex = "[^/]+"

    @described(answer=GroupsItem)
    def list(self, request: Request) -> Response:
        """Read which groups there are, with their handlers and bindings."""
        return Response(GroupsItem({"results": _groups()}).data)

    @described(answer=GroupItem)
    def retrieve(self, request: Request, id: str) -> Response:
        """Read the handlers and bindings of one group."""
        found = next((each for each in _groups() if each["name"] == id), None)
        if found is None:
            raise NotFound(f"There is no group {id!r}.")
        return Response(GroupItem(found).data)

    @classmethod
    def id_parameter(cls) -> OpenApiParameter:
        shape = {"type": "string", "minLength": 1}
        return OpenApiParameter("id", shape, OpenApiParameter.PATH, description="its name")


MOST_BINDINGS = 1_000
"""Bindings that are read, the newest."""


def _groups() -> Sequence[dict[str, Any]]:
    bindings: dict[str, list[Binding]] = defaultdict(list)
    members = handlers.groups()
    for binding in Binding.objects.order_by("-pk")[:MOST_BINDINGS]:
        bindings[binding.group].append(binding)
    return [
        {
            "name": name,
            "handlers": sorted(members.get(name, ()), key=lambda each: each.name),
            "bindings": sorted(bindings[name], key=lambda each: each.topic),
        }
        for name in sorted({*members, *bindings})
    ]


flow.shows(Receipt)
flow.shows(DeadLetter)

RESOURCES: list[type[Resource]] = [Receipts, DeadLetters, OpenRequests, Groups]
