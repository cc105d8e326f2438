"""Edit the message of a receipt or a dead letter, and retry it; the original is kept."""

import json
from functools import partial
from typing import Any

from django.db import router
from rest_framework import serializers as rest
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from inbox import operator
from inbox.delivery import Delivery
from inbox.models import Receipt
from inbox.operations import EDITABLE, EDITED, as_text, seen_as
from inbox.operator import NotPossible
from outbox.api.access import VIEW_DATA
from outbox.api.actions import ActingRows
from outbox.api.fields import Anything, text
from outbox.api.openapi import described
from outbox.api.problems import Conflict
from outbox.api.serializers import Done, Reason, Shape
from outbox.operations import carry_out_once, name_of


class Original(Shape):
    """A message as it is, secrets included. `seen` says what was there, for the change of it."""

    content_type = text(allow_blank=True)
    headers = Anything()
    body = text(allow_blank=True)
    seen = text()


class Change(Reason):
    """What a message shall be, in the place of what was seen."""

    seen = rest.CharField(max_length=64)
    content_type = rest.CharField(max_length=255, allow_blank=True)
    headers = rest.DictField()
    body = rest.CharField(max_length=EDITABLE, allow_blank=True, trim_whitespace=False)


class EditableRows(ActingRows):
    """Rows whose message can be edited, in the states in which they can be retried."""

    def needed_permissions(self) -> list[str]:
        found = super().needed_permissions()
        if self.action in ("original", "edit"):
            meta = self.model._meta
            found += [f"{meta.app_label}.edit_{meta.model_name}", VIEW_DATA]
        return found

    @described(answer=Original, conflict=True)
    @action(detail=True, url_path="edit")
    def original(self, request: Request, id: str) -> Response:
        """Read a message to edit it, secrets included. Takes to edit and to view data."""
        row, body, shown = self._editable(id)
        return Response(
            {
                "content_type": row.content_type or "",
                "headers": json.loads(row.headers or "{}", parse_constant=str),
                "body": shown,
                "seen": seen_as(row, body),
            }
        )

    @described(answer=Done, request=Change)
    @original.mapping.post
    def edit(self, request: Request, id: str) -> Response:
        """Put another message in its place, and retry it. Takes what it takes to read it."""
        given = Change(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = given.validated_data
        row, body, _ = self._editable(id)
        if wanted["seen"] != seen_as(row, body):
            raise Conflict("It has been changed meanwhile. Read it again.", row.state)
        message = Delivery(
            headers=wanted["headers"],
            body=wanted["body"].encode(),
            content_type=wanted["content_type"] or None,
            topic=row.topic or "",
        )
        change = operator.edit if isinstance(row, Receipt) else operator.edit_letter
        by, using = name_of(request.user), router.db_for_write(self.model)
        meta = self.model._meta
        try:
            carry_out_once(
                partial(change, row.pk, message, by=by, using=using),
                row,
                permission=f"{meta.app_label}.edit_{meta.model_name}",
                written=EDITED,
                user=request.user,
                reason=wanted["reason"],
            )
        except NotPossible as exc:
            raise Conflict(str(exc), self.state_of(row)) from None
        return Response({"id": id, "changed": True, "state": self.state_of(row)})

    def _editable(self, name: str) -> tuple[Any, bytes, str]:
        """Return a row, its body, and that as a text; raise Conflict if it cannot be edited."""
        row = self.find(self.to_change(), name)
        if row.state not in self.operations["retry"].states or not getattr(row, "is_whole", True):
            raise Conflict("It can be edited as long as it can be retried.", row.state)
        body = bytes(row.body or b"")
        shown = as_text(body)
        if shown is None:
            raise Conflict("It is too large to be edited, or no text.", row.state)
        return row, body, shown
