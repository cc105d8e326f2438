"""What somebody has to answer here, and the way to do it by hand."""

import json
from typing import Any

from rest_framework import serializers as rest
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from inbox.models import OpenRequest
from inbox.replies.by_hand import ANSWER, answer_with, read_reply, replies_of
from outbox.api import data, serializers
from outbox.api.access import VIEW_DATA
from outbox.api.fields import Id, Instant, number, text
from outbox.api.openapi import described
from outbox.api.problems import Conflict
from outbox.api.serializers import Done, Reason, Shape
from outbox.api.views import Rows
from outbox.exceptions import OutboxError
from outbox.operations import carry_out


class OpenItem(Shape):
    """A request that is to be answered. `replies` are the types that its reply may have."""

    id = Id(source="pk")
    message_id = text()
    source = text()  # type: ignore[assignment]
    type = text()
    version = number()
    handler = text()
    correlation_id = text()
    opened_at = Instant()
    expires_at = Instant(allow_null=True)
    replies = rest.SerializerMethodField()

    def get_replies(self, row: OpenRequest) -> list[str]:
        return sorted(replies_of(row))


class Answer(Reason):
    """A reply: of which type, and its data, as that type is declared."""

    type = rest.CharField(max_length=255)
    data = rest.JSONField()  # type: ignore[assignment]


class OpenRequests(Rows):
    """What is to be answered later, by inbox.answer() or by a person."""

    resource = "open-requests"
    model = OpenRequest
    item = OpenItem
    defers = ("data",)
    action_permissions = {"data": VIEW_DATA, "answer": ANSWER.codename}

    @described(answer=serializers.Data)
    @action(detail=True)
    def data(self, request: Request, id: str) -> Response:
        """Read what is asked, masked. Takes the permission `django_outbox.view_data`."""
        row = self.find(self.rows(), id)
        found = data.present(bytes(row.data), row.content_type)
        return Response(serializers.Data(found).data)

    @described(answer=Done, request=Answer, conflict=True)
    @action(detail=True, methods=["post"])
    def answer(self, request: Request, id: str) -> Response:
        """Answer a request. Takes the permission `django_inbox.answer_openrequest`.

        What is no declared reply is refused. One that was answered or cancelled is there no more.
        """
        given = Answer(data=request.data)
        given.is_valid(raise_exception=True)
        wanted: dict[str, Any] = given.validated_data
        row = self.find(self.to_change(), id)
        try:
            reply = read_reply(row, wanted["type"], json.dumps(wanted["data"]))
            changed = carry_out(
                answer_with(reply), [row.pk], user=request.user, reason=wanted["reason"]
            )
        except OutboxError as exc:
            raise ValidationError({"data": [str(exc)]}) from None
        if not changed:
            raise Conflict("It is not open any more: it was answered or cancelled.", None)
        return Response({"id": id, "changed": True, "state": None})
