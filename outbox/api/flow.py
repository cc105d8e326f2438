"""Conversations and the topology: the flow, as manage.py flow shows it."""

from collections.abc import Iterator
from typing import Any, ClassVar

from django.apps import apps
from django.db import router
from django.db.models import Model
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers as rest
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.api.access import scoped, sees_all
from outbox.api.fields import Id, Instant, number, text
from outbox.api.openapi import described
from outbox.api.serializers import Shape
from outbox.api.views import SECONDS, Resource
from outbox.database.limits import limited
from outbox.exceptions import UnknownConversation
from outbox.flow.conversation import Conversation, Node
from outbox.flow.loading import load, load_topology
from outbox.models import Message
from outbox.producer.writing import write_database

MOST = 1_000
"""Messages of a conversation that are read."""
OBSERVED = 10_000
"""Rows that a topology is observed in."""

_shown: list[type[Model]] = [Message]


def shows(model: type[Model]) -> None:
    """Say that conversations and topology tell what rows of a model say: it takes to view them."""
    _shown.append(model)


class StageItem(Shape):
    """What one relay or handler has made of a message. A relay has no group."""

    by = text()
    group = text(allow_null=True)
    state = text()
    mood = rest.ChoiceField(choices=["done", "open", "failed"], read_only=True)
    at = Instant(allow_null=True)
    attempts = number()
    error = text(allow_blank=True)


class NodeItem(Shape):
    """A message of a conversation.

    `depth` counts the causes before it; `failed` and `open` what is not over, below it too. Without
    a `position` it is of another service; without a `type` it is only known as a cause.
    """

    id = Id(source="sent.id")
    type = text(source="sent.type", allow_blank=True)
    source = text(source="sent.source", allow_blank=True)  # type: ignore[assignment]
    key = text(source="sent.key", allow_null=True)
    subject = text(source="sent.subject", allow_null=True)
    time = Instant(source="sent.time", allow_null=True)
    position = Id(source="sent.position", allow_null=True)
    causation_id = text(source="sent.causation_id", allow_null=True)
    depth = number()
    failed = number()
    open = number()
    stages = StageItem(many=True, read_only=True)


class ConversationItem(Shape):
    """All messages with one correlation id, each behind its cause."""

    correlation_id = text()
    failed = number(help_text="messages that wait for a person")
    complete = rest.BooleanField(read_only=True, help_text="whether all of it was read")
    messages = NodeItem(many=True, read_only=True)


class UseItem(Shape):
    """What a handler has made of an event type; without a group it is not in the code."""

    handler = text()
    group = text(allow_null=True)
    declared = rest.BooleanField(read_only=True)
    count = number()
    failed = number()


class TypeItem(Shape):
    """An event type, who handles it, and what it was seen to cause."""

    name = text()
    registered = rest.BooleanField(read_only=True)
    emitted = number()
    uses = UseItem(many=True, read_only=True)
    causes = rest.DictField(child=number(), read_only=True)


class TopologyItem(Shape):
    """What flows where, among the newest `observed` rows, and where code and rows differ."""

    observed = number()
    types = TypeItem(many=True, read_only=True)
    not_seen = rest.ListField(child=text(), read_only=True)
    not_declared = rest.ListField(child=text(), read_only=True)


class Conversations(Resource):
    """Conversations, by their correlation ids."""

    resource = "conversations"
    models = _shown
    lookup_value_regex = ".+"

    @described(answer=ConversationItem)
    def retrieve(self, request: Request, id: str) -> Response:
        """Read a conversation: its messages, each behind its cause, and what became of each."""
        using = write_database()
        missing = NotFound(f"There is no conversation {id!r}, or not for you.")
        if "\0" in id:
            raise missing
        try:
            with limited(using, SECONDS):
                found = load(id, using, limit=MOST)
                nodes, complete = self._visible(found, using)
        except UnknownConversation:
            raise missing from None
        if not nodes:
            raise missing
        answer = {
            "correlation_id": id,
            "failed": sum(node.has_failed for node in nodes),
            "complete": complete,
            "messages": nodes,
        }
        return Response(ConversationItem(answer).data)

    def _visible(self, found: Conversation, using: str) -> tuple[list[Node], bool]:
        """Return what the request may see, and whether that is all it could see.

        That is all, or the messages of the log that its scope leaves.
        """
        if all(sees_all(self.request, model) for model in self.models):
            return list(found.nodes()), found.cut_at is None
        rows = Message.objects.using(using).filter(correlation_id=found.correlation_id)
        visible = set(scoped(self.request, rows).values_list("pk", flat=True)[: MOST + 1])
        nodes = list(self._narrowed(found, visible))
        return nodes, len(nodes) == len(visible)

    def _narrowed(self, found: Conversation, visible: set[int]) -> Iterator[Node]:
        """Yield those messages of a conversation, as if there were no others."""
        rows_seen = self._rows_seen(found)
        depths: dict[int, int] = {}  # of those above, by their true depth
        for node in found.nodes():
            depths = {deep: depth for deep, depth in depths.items() if deep < node.depth}
            if node.sent.position in visible:
                depth = max(depths.values(), default=-1) + 1
                depths[node.depth], node.depth = depth, depth
                node.stages = [
                    each
                    for each in node.stages
                    if each.row is None or each.row in rows_seen.get(each.of, ())
                ]
                # What is below may be what the request must not know of.
                node.failed = int(node.has_failed)
                node.open = 0
                yield node

    def _rows_seen(self, found: Conversation) -> dict[str, set[int]]:
        """Return the rows behind stages that the scope leaves, by the label of their model."""
        rows: dict[str, set[int]] = {}
        for node in found.nodes():
            for stage in node.stages:
                if stage.row is not None:
                    rows.setdefault(stage.of, set()).add(stage.row)
        return {
            label: set(
                scoped(
                    self.request,
                    model._default_manager.using(router.db_for_write(model)).filter(pk__in=numbers),
                ).values_list("pk", flat=True)
            )
            for label, numbers in rows.items()
            for model in [apps.get_model(label)]
        }

    @classmethod
    def id_parameter(cls) -> OpenApiParameter:
        shape = {"type": "string", "minLength": 1}
        return OpenApiParameter("id", shape, OpenApiParameter.PATH, description="a correlation id")


class TopologyResource(Resource):
    """What flows where."""

    resource = "topology"
    models = _shown
    whole: ClassVar[bool] = True

    @described(answer=TopologyItem)
    def list(self, request: Request) -> Response:
        """Read which event types there are, who handles them and what they cause."""
        using = write_database()
        with limited(using, SECONDS):
            found = load_topology(using, limit=OBSERVED)
        answer: dict[str, Any] = {
            "observed": found.limit,
            "types": found.types,
            "not_seen": found.not_seen,
            "not_declared": found.not_declared,
        }
        return Response(TopologyItem(answer).data)
